"""The shortest way of CSV: each number is the float64 nearest to what stands there, and no table is read otherwise than by the other ways."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.errors import FileRefused
from service.formats import Block, Fields, Gaps, Survey, csv, decode, prepare
from service.formats.contract import Dialect
from service.formats.nearest import LEAST_POWER, MOST_POWER, nearest, nearest_cut
from service.formats.numeric import numbers

MANY = 20_000
COMMAS = Dialect(delimiter=",")


@nb.njit
def _nearest_of_each(mantissas, powers, found, cut):
    for i in range(len(mantissas)):
        of = nearest_cut(mantissas[i], powers[i]) if cut else nearest(mantissas[i], powers[i])
        found[i] = of


def _each(pairs: list[tuple[int, int]], *, cut: bool = False) -> list[float]:
    found = np.empty(len(pairs))
    mantissas = np.array([mantissa for mantissa, _ in pairs], np.uint64)
    _nearest_of_each(mantissas, np.array([power for _, power in pairs]), found, cut)
    return found.tolist()


def _anything(chance: random.Random) -> tuple[int, int]:
    return chance.randrange(1 << 64), chance.randrange(LEAST_POWER - 9, MOST_POWER + 9)


def _usual(chance: random.Random) -> tuple[int, int]:
    return chance.randrange(10 ** chance.randrange(1, 20)), chance.randrange(-40, 40)


def _middle(chance: random.Random) -> tuple[int, int]:
    """Between two neighbours, or as near to it as an integer can be."""
    places = chance.randrange(5)
    odd = chance.randrange(1 << 53, 1 << 54) | 1
    return min(odd * 5**places, (1 << 64) - 5) + chance.randrange(-1, 2), -places


@pytest.mark.parametrize("draw", [_anything, _usual, _middle])
def test_the_nearest_number_is_python_s(draw: Callable[[random.Random], tuple[int, int]]) -> None:
    chance = random.Random(1)
    pairs = [draw(chance) for _ in range(MANY)]
    for (mantissa, power), found in zip(pairs, _each(pairs), strict=True):
        expected = float(f"{mantissa}e{power}")
        if math.isnan(found):  # not decided
            assert expected < 1e-307 or expected > 1e307
        else:
            assert found == expected, (mantissa, power)


def test_a_mantissa_of_which_digits_are_cut_off_is_decided_only_where_they_have_no_say() -> None:
    chance = random.Random(2)
    digits = ["".join(chance.choices("0123456789", k=40)) for _ in range(MANY)]
    pairs = [(int("1" + text[:18]), len(text) - 18 - 30) for text in digits]
    decided = 0
    for text, found in zip(digits, _each(pairs, cut=True), strict=True):
        if not math.isnan(found):
            assert found == float(f"1{text}e-30")
            decided += 1
    assert decided > 0.99 * MANY
    halfway = (1 << 62) + (
        1 << 9
    )  # with anything behind it, up; with nothing, down to the even one
    assert math.isnan(_each([(halfway, 0)], cut=True)[0])


SPELLED = [
    "0", "-0", "+7", "007", "1.", ".5", "-.5e1", "1e5", "1E+05", "2.5e-3", "0.1", "1e-400", "0e999", "5e-324", "1e999",
    "1.7976931348623157e308", "123456789012345678901234567890", "0.1000000000000000055511151231257827021181583404541015625",
    "9007199254740993", "9007199254740992.99999999999999999999", "  4", "4\t", "1e", "e1", ".", "-", "1.2.3", "1-2", "0x10", "1_0",
    "nan", "inf", "", " ", "1 2", "\u0663", "1,5", "--1", "1e+", "1e5.0", "00000000000000000000000000012.5",
    "0.00000000000000000000000000000000000123456789012345678",
]  # fmt: skip


@pytest.mark.parametrize("text", SPELLED)
def test_a_spelling_is_read_as_python_reads_it_or_left(text: str) -> None:
    found = numbers(f"1;{text}\n".encode(), 1, Dialect(delimiter=";"), ["a", "b"], ["a", "b"], [])
    if found is not None:
        ((_, value),), _, is_full = found
        expected = float(text) if text.strip(" \t") else math.nan
        assert np.array(value).tobytes() == np.array(expected).tobytes()
        assert is_full == (not math.isnan(value))


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"1,2\n3\n", 2), (b"1,2\n3,4,5\n", 2), (b",\n", 1), (b"1,2\r\r\n", 1), (b"1\r,2\n", 1),
        (b'"1",2\n', 1), (b"1,2", 2), (b"1,x\n", 1), (b"1;2\n", 1), (b"1,2 3\n", 1), (b"1,2\n3,4\n", 1),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left(data: bytes, rows: int) -> None:
    assert numbers(data, rows, COMMAS, ["a", "b"], ["a", "b"], []) is None


@pytest.mark.parametrize(
    ("data", "rows", "dialect"),
    [
        (b"1,39,2\n", 1, Dialect(delimiter=",", decimal=",")),
        (b"1,5,2,5\n", 1, Dialect(delimiter=",", decimal=",")),
        (b"1  2\n", 1, Dialect(delimiter=" ")),
        (b"1 2 \t3\n", 1, Dialect(delimiter=" ")),
    ],
)
def test_a_delimiter_is_neither_part_of_a_number_nor_blank(
    data: bytes, rows: int, dialect: Dialect
) -> None:
    assert numbers(data, rows, dialect, ["a", "b"], ["a", "b"], []) is None


def test_where_a_comma_delimits_a_number_with_a_decimal_comma_is_quoted(
    tmp_path: Path,
) -> None:
    fields = Fields("y", dialect=Dialect(delimiter=",", decimal=","))
    found = {}
    for name, text in (("ragged", "1,139,3,5,278\n"), ("quoted", '1,"139,3","5,278"\n')):
        (tmp_path / name).write_text("a,b,y\n" + text * 2)
        found[name] = [*_blocks(tmp_path / name, fields)]
    ragged, quoted = found["ragged"][0], found["quoted"][0]
    assert isinstance(ragged, Block)
    assert ragged.rejected == 2
    assert ragged.first_bad[0].value.startswith("5 fields: ")
    assert isinstance(quoted, Block)
    assert (quoted.x.tolist(), quoted.y.tolist()) == ([[1, 139.3]] * 2, [5.278] * 2)


def test_columns_go_where_they_are_wanted_and_the_others_may_hold_anything() -> None:
    data = b"1,\xe9 x,3, 4\r\n5,,7,8\r\n,y,,\n9,z,10,11"
    assert numbers(data, 4, COMMAS, ["a", "b", "c", "d"], ["d", "a"], ["c"]) is not None
    x, beside, is_full = (
        numbers(data, 4, COMMAS, ["a", "b", "c", "d"], ["d", "a"], ["c"]) or [None] * 3
    )
    assert x is not None
    assert beside is not None
    np.testing.assert_array_equal(x, [[4, 1], [8, 5], [np.nan, np.nan], [11, 9]])
    np.testing.assert_array_equal(beside, [[3, 7, np.nan, 10]])
    assert is_full is False
    assert numbers(data.replace(b"x", b'"'), 4, COMMAS, ["a", "b", "c", "d"], ["a"], ["c"]) is None


def test_delimiters_behind_the_last_cell_are_nothing() -> None:
    found = numbers(b"1,2,\n3,4,,,\r\n5,6\n", 3, COMMAS, ["a", "b"], ["a", "b"], [])
    assert found is not None
    assert found[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert numbers(b"1,2, \n", 1, COMMAS, ["a", "b"], ["a", "b"], []) is None


def test_blank_lines_are_no_rows() -> None:
    data = b"\n\r\n1,2\n\n\r\n3,4\r\n\n"
    x, _, is_full = (
        numbers(data, data.count(b"\n"), COMMAS, ["a", "b"], ["a", "b"], []) or [None] * 3
    )
    assert x is not None
    assert x.tolist() == [[1, 2], [3, 4]]
    assert is_full is True
    assert numbers(b"1\n\n2", 3, COMMAS, ["a"], ["a"], []) is not None


CELLS = st.sampled_from(
    ["1", "-2.5", "0.1", "1e3", ".5", "7.", "", " 3", "4 ", "12345678901234567890.5", "5e-324", "0"]
)
RARE = st.sampled_from(["x", '"4"', "1,5", "inf", "nan", "?", "1e999", "-", "\xe9", "\t2"])
LINES = st.lists(
    st.lists(st.one_of(CELLS, CELLS, CELLS, CELLS, CELLS, CELLS, CELLS, RARE), min_size=3, max_size=3).map(",".join)
    | st.sampled_from(["", ",,", "1,2", "1,2,3,4", "1,2,3,", "4,5,6,,", '7,8,9,""', ",,,,", "1,2,3, "]),
    min_size=1,
    max_size=12,
)  # fmt: skip
MEANT = [
    Fields("y", ("a", "b")),
    Fields("y", ("b",), gaps=Gaps("mean", ("?", "0"), ("b",))),
    Fields("y", weight="a", gaps=Gaps("zero")),
    Fields("y", ("b", "a"), offset="a", unlabelled="keep", gaps=Gaps("mean")),
    Fields(None, labels="none"),
    Fields("y", labels="class", classes=(0.0, 1.0, 3.0)),
    Fields("y", ("b",), exposure="a"),
    Fields("y", dialect=Dialect(delimiter=",", decimal=",")),
]


def _blocks(path: Path, fields: Fields) -> Iterator[Block | str]:
    try:
        source = prepare(path, "t.csv", path.with_suffix(".scratch"), fields)
        for chunk in Survey(source, 1 << 20):
            yield decode(source, chunk, fields)
    except FileRefused as refused:
        yield str(refused)


def _bits(found: Block | str) -> object:
    if isinstance(found, str):
        return found
    arrays = [
        None if a is None else a.tobytes()
        for a in (found.x, found.y, found.w, found.offset, found.row)
    ]
    counts = (found.rows_seen, found.unlabelled, found.rejected, found.lines, found.missing)
    return (*arrays, *counts, found.first_bad)


@settings(max_examples=300, deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(MEANT))
def test_no_table_is_read_otherwise_than_by_the_other_ways(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    end: str,
    is_ended: bool,
    fields: Fields,
) -> None:
    path = tmp_path_factory.getbasetemp() / "numeric.csv"
    path.write_text("a,b,y" + end + end.join(lines) + (end if is_ended else ""), newline="")
    shortest = [_bits(found) for found in _blocks(path, fields)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "nothing_but_numbers", lambda *_: None)
        assert [_bits(found) for found in _blocks(path, fields)] == shortest


def test_a_plain_table_takes_the_shortest_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv, "marks_of", None)  # what the other ways begin with
    (tmp_path / "t.csv").write_text("a;b;y\n1,5;2;0\n-1e3;;1")
    fields = Fields("y", dialect=replace(COMMAS, delimiter="auto", decimal=","), gaps=Gaps("mean"))
    source = prepare(tmp_path / "t.csv", "t.csv", tmp_path / "s", fields)
    blocks = [decode(source, chunk, fields) for chunk in Survey(source, 1 << 20)]
    np.testing.assert_array_equal(
        np.concatenate([one.x for one in blocks]), [[1.5, 2], [-1000, np.nan]]
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"])
@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_numbers_of_every_length_are_python_s(sign: str, end: str) -> None:
    """Short ones are read sixteen bytes at a time, if so many are left, and long ones digit by digit."""
    digits = "9081726354" * 2
    cells = [
        f"{sign}{digits[:before]}{point}{digits[before : before + behind]}"
        for before in range(11)
        for behind in range(11)
        for point in (".", "")
        if before + behind > 0
    ]
    for width in (1, 2, 20):
        rows = [cells[i : i + width] for i in range(0, len(cells) - width + 1, width)]
        names = [f"c{place}" for place in range(width)]
        text = end.join(",".join(row) for row in rows).encode() + end.encode()
        found = numbers(text, text.count(b"\n"), COMMAS, names, names, [])
        assert found is not None
        assert found[0].tolist() == [[float(cell) for cell in row] for row in rows]


@pytest.mark.parametrize("cell", ["", "."])
def test_what_has_no_digit_is_no_number(cell: str) -> None:
    text = f"1,{cell},3\n".encode() + b"4,5,6\n" * 9
    found = numbers(text, 10, COMMAS, ["a", "b", "c"], ["a", "b", "c"], [])
    assert (found is None) == (cell == ".")
    if found is not None:
        assert math.isnan(found[0][0, 1])
