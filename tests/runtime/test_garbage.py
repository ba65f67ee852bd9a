"""What is made to stay is spared by the collector, and nothing else is."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from service.runtime.garbage import made_to_stay


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_the_collector_works_as_before_when_all_is_made_and_spares_what_is_there() -> None:
    usual = gc.get_threshold()
    with made_to_stay():
        assert gc.isenabled()
        assert gc.get_threshold() != usual
        stays: list[object] = []
    assert gc.get_threshold() == usual
    assert all(stays is not found for found in gc.get_objects())


def test_an_error_leaves_the_collector_as_it_was() -> None:
    usual = gc.get_threshold()
    with pytest.raises(RuntimeError), made_to_stay():
        raise RuntimeError
    assert gc.get_threshold() == usual
