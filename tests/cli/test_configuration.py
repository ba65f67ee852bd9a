"""A configuration file is read, or refused in one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.configuration import LONGEST_BYTES, load
from service.core.errors import ConfigurationError

JOB = b'[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "linear"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.toml"


def complaint(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return str(caught.value)


def test_a_file_is_read_and_its_root_may_be_given_from_outside(file: Path) -> None:
    file.write_bytes(JOB)
    assert load(file).service.root == Path("headrace-root")
    assert load(file, Path("/r")).service.root == Path("/r")


def test_a_byte_order_mark_and_crlf_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + JOB.replace(b"\n", b"\r\n"))
    assert load(file).jobs[0].name == "a"


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    assert complaint(file) == f"{file}: can't be read: no such file or directory"
    assert complaint(file.parent).endswith("can't be read: is a directory")
    assert complaint(Path("a\0b")).startswith("a\\x00b: can't be read: ")


def test_a_file_that_is_not_utf8_is_refused_with_the_byte(file: Path) -> None:
    file.write_bytes(b"# caf\xe9\n" + JOB)
    assert complaint(file) == f"{file}: must be UTF-8, got byte 0xe9 at 5"


def test_a_file_of_any_size_is_refused_in_bounded_memory(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert complaint(file) == f"{file}: must be at most {LONGEST_BYTES} bytes long"


def test_what_is_wrong_inside_names_the_file(file: Path) -> None:
    file.write_bytes(JOB + b"x = 1\n")
    assert complaint(file).startswith(f"{file}: job a: x: unknown key, ")
