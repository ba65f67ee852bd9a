"""Shipped: the configurations and demo files that come with Headrace, wherever it is installed.

Rules: a wheel carries config/ inside the package, as service/config; a checkout has it beside the package. Nobody else knows.
"""

from __future__ import annotations

from pathlib import Path

import service

_PACKAGE = Path(service.__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of a file or folder of config/, say "default.toml"; FileNotFoundError where there is none."""
    for folder in (_PACKAGE / "config", _PACKAGE.parent / "config"):
        path = folder / name
        if path.exists():
            return path
    raise FileNotFoundError(f"{name}: must be in config/ of this installation, got nothing there")
