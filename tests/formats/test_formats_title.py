"""A column that CSV lacks: what hides the header is told, with its line, and the remedy works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from service.formats import Fields
from service.formats.contract import Dialect

FIELDS = Fields("y")
TITLED = "Report 2024;;\n\nx;y\n1;2\n"


def _shell(command: str, old: bytes, folder: Path) -> bytes:
    (folder / "old").write_bytes(old)
    told = command.replace("old.csv", "old").replace("old > new.csv", "old > new")
    subprocess.run(["bash", "-euc", told], cwd=folder, check=True)
    return (folder / "new").read_bytes()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TITLED, 3),
        ('#TYPE Selected.System\n"x","y"\n1,2\n', 2),
        ("by,hand\non,Monday\nx,z,y\n1,2,3\n", 3),
    ],
)
def test_lines_above_the_header_are_told(
    refused, read, tmp_path: Path, text: str, line: int
) -> None:
    found = refused(text.encode(), "t.csv", FIELDS).refusal
    assert found.place == "t.csv:1"
    assert found.remedy.startswith(f"delete what stands above line {line}")
    command = found.remedy.partition(": ")[2].partition(", or")[0]
    assert read(_shell(command, text.encode(), tmp_path), "t.csv", FIELDS).rejected == 0
    assert ("csv.comment" in found.remedy) == text.startswith("#")
    if text.startswith("#"):
        fields = Fields("y", dialect=Dialect(comment="#"))
        assert read(text.encode(), "t.csv", fields).rejected == 0


def test_a_drawn_table_is_told_to_be_one(refused) -> None:
    drawn = b"+---+---+\n| x | y |\n+---+---+\n| 1 | 2 |\n+---+---+\n"
    assert "mysql --batch" in refused(drawn, "t.csv", FIELDS).refusal.remedy


@pytest.mark.parametrize(
    "text", [" x   y\n 1  2.5\n10  3\n", "x  y\n1  2\n", "x y\n1  2\n", " x y\n 1 2\n"]
)
def test_columns_aligned_with_blanks_are_told_to_be_separated(
    refused, read, refused_at_first, tmp_path: Path, text: str
) -> None:
    remedy = refused(text.encode(), "t.csv", FIELDS).refusal.remedy
    if "csv.delimiter" in remedy:  # the header doesn't show it; the rows do, or its first name
        blank = Fields("y", dialect=Dialect(delimiter=" "))
        if text.startswith(" "):
            remedy = refused(text.encode(), "t.csv", blank).refusal.remedy
        else:
            remedy = refused_at_first(text.encode(), "t.csv", blank).remedy
    assert "aligned with blanks" in remedy
    mended = _shell(remedy.partition(": ")[2], text.encode(), tmp_path)
    assert read(mended, "t.csv", FIELDS).rejected == 0


def test_single_blanks_are_a_delimiter(refused, read) -> None:
    remedy = refused(b"x y\n1 2\n", "t.csv", FIELDS).refusal.remedy
    assert remedy.startswith('set csv.delimiter = " "')
    assert read(b"x y\n1 2\n", "t.csv", Fields("y", dialect=Dialect(delimiter=" "))).rejected == 0


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        (
            "a,b\n1,2\n",
            FIELDS,
            "add the column, or correct `label`; line 1 was taken for the header",
        ),
        ("\n\na,b\n1,2\n", FIELDS, "line 3 was taken for the header"),
        ('"a\nb",c\n1,2\n', FIELDS, "line 1 was taken for the header"),
        ("a,b\nx,y\n1,y\n", FIELDS, "line 1 was taken for the header"),  # y is a value there
        ("1,2\n3,4\n", FIELDS, "give the file a header, or number the columns"),
        ("1,2\n3,9\n", Fields(9), "give the file a header, or number the columns"),
    ],
)
def test_else_it_is_said_which_line_was_taken_for_the_header(
    refused, text: str, fields: Fields, said: str
) -> None:
    assert said in refused(text.encode(), "t.csv", fields).refusal.remedy
