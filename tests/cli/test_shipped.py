"""What ships with Headrace is found by its name."""

from __future__ import annotations

import pytest

from service.cli.shipped import shipped


@pytest.mark.parametrize("name", ["default.toml", "article.toml", "demo.toml", "demo"])
def test_what_ships_is_found(name: str) -> None:
    assert shipped(name).exists()


def test_what_does_not_ship_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"^nothing\.toml: "):
        shipped("nothing.toml")
