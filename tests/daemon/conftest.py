"""Roots for the tests, and the way to the modules that they share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from daemon_root import Root, root_in


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """A root of the test's own, with one job `j` in its configuration."""
    with root_in(tmp_path) as made:
        made.configure()
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A root that the tests of a module share; they configure it themselves."""
    with root_in(tmp_path_factory.mktemp("shared")) as made:
        yield made
