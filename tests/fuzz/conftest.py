"""The checkout on the path, however pytest was started: the fuzzer is a package of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
