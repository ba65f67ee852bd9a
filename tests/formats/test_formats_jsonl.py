"""JSON lines, rule by rule."""

from __future__ import annotations

import json
import random

import pytest

from service.formats import Fields, Gaps, Limits, Survey, block_bytes, decode, features_of, prepare

pytestmark = pytest.mark.usefixtures("as_few_and_many")
Y = Fields("y")
CHUNKS = (1, 40, 4 << 20)
GOOD = b'{"a": 5, "y": 6}\n'


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_values_come_out_as_the_json_module_reads_them(read, chunk_bytes):
    lines = [
        '{"a": 1.5, "y": 2}',
        '{"y":-0.0,"a":1e-3}',
        ' {"a":123456789012345678901,"y":1} ',
        "",
        '{"a":5e-324,"y":0}',
    ]
    got = read("\r\n".join(lines).encode(), "t.jsonl", Y, chunk_bytes)
    expected = [json.loads(line) for line in lines if line]
    assert got.x[:, 0].tolist() == [float(row["a"]) for row in expected]
    assert got.y.tolist() == [row["y"] for row in expected]
    assert got.rows_seen == 4


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_booleans_are_one_and_zero(read, chunk_bytes):
    fields = Fields("y", labels="class", classes=(0, 1))
    got = read(b'{"a": true, "y": false}\n{"a": 0, "y": true}\n', "t.jsonl", fields, chunk_bytes)
    assert got.x.tolist() == [[1], [0]]
    assert got.y.tolist() == [0, 1]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_boolean_is_the_class_of_its_name_where_classes_have_names(read, chunk_bytes):
    data = b'{"a": 1, "y": true}\n{"a": 2, "y": "true"}\n{"a": 2, "y": 1}\n'
    got = read(data, "t.jsonl", Fields("y", labels="class", classes=("true", 1)), chunk_bytes)
    assert got.y.tolist() == [0, 0, 1]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_features_are_the_keys_of_the_first_thousand_rows_as_they_appear(read, chunk_bytes):
    rows = [{"y": 1, "a": 1}, {"b": 5, "a": 3, "y": 2}] + [{"y": 1}] * 997
    rows += [{"y": 1, "late": 7}, {"y": 1, "never": 8}]
    data = "\n\n".join(map(json.dumps, rows)).encode()
    got = read(data, "t.jsonl", Fields("y", gaps=Gaps("zero")), chunk_bytes)
    assert features_of(got.source, Fields("y")) == ("a", "b", "late")
    assert got.x[:2].tolist() == [[1, 0, 0], [3, 5, 0]]
    assert got.missing == {"a": 999, "b": 1000, "late": 1000}
    got = read(data, "t.jsonl", Fields("y"), chunk_bytes)
    assert (got.rejected, got.rows_seen) == (1001, 1001)


def test_a_key_that_later_rows_alone_have_may_be_the_label_and_their_faults_are_their_own(read):
    got = read(b'{"a": 1}\n{"b": 2, 7}\n{"a": 2, "y": 3}\n', "t.jsonl", Y)
    assert features_of(got.source, Y) == ("a",)
    assert (got.x.tolist(), got.y.tolist(), got.unlabelled, got.rejected) == ([[2]], [3], 1, 1)


BAD_ROWS = [
    (b'{"a": 1, "y": 2, "a": 3}', "", "each key once", "a"),
    (b'{"y": 2}', "a", "has a value", "nothing"),
    (b'{"a": null, "y": 2}', "a", "has a value", "nothing"),
    (b'{"a": "x", "y": 2}', "a", "is a number", "x"),
    (b'{"a": NaN, "y": 2}', "", "NaN is no JSON", "{"),
    (b'{"a": Infinity, "y": 2}', "", "Infinity is no JSON", "{"),
    (b'{"a": 1e400, "y": 2}', "a", "finite", "1e400"),
    (b'{"a": [1], "y": 2}', "a", "number, text", "a list"),
    (b'{"a": {"b": 1}, "y": 2}', "a", "number, text", "an object"),
    (b"[1, 2]", "", "one JSON object", "[1, 2]"),
    (b"7", "", "one JSON object", "7"),
    (b'{"a": 1, "y": 2', "", "one JSON object", "{"),
    (b'{"a": 1, "y": 2} {"a": 1, "y": 2}', "", "one JSON object", "{"),
    (b'{"a": 01, "y": 2}', "", "one JSON object", "{"),
    (b'{"a": 1, "y": "z"}', "y", "label is a number", "z"),
    (b'{"a": 1, "z": ' + b"[" * 70 + b"]" * 70 + b', "y": 1}', "", "nests at most 64", "deeper"),
    (b'{"a": 1, "z": ' + b'{"q":' * 5000, "", "nests at most 64", "deeper"),
]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize(("line", "column", "rule", "value"), BAD_ROWS)
def test_a_bad_line_is_left_out_counted_and_described(read, line, column, rule, value, chunk_bytes):
    got = read(GOOD + line + b"\n" + GOOD, "t.jsonl", Y, chunk_bytes)
    assert got.x.tolist() == [[5], [5]]
    assert (got.rows_seen, got.rejected, got.row.tolist()) == (3, 1, [0, 2])
    ((row, where, why, what),) = got.bad
    assert (row, where) == (1, column)
    assert rule in why
    assert what.startswith(value)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_repeated_key_is_found_beside_an_absent_one(read, chunk_bytes):
    data = GOOD + b'{"a": 1, "a": 2, "y": 3}\n{"a": 4}\n'
    got = read(data, "t.jsonl", Y, chunk_bytes)
    assert (got.x.tolist(), got.rejected, got.unlabelled) == ([[5]], 1, 1)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_key_may_be_spelled_with_escapes(read, chunk_bytes):
    data = GOOD + b'{"\\u0061": 1, "y": 2}\n{"\\u0061": 1, "a": 3, "y": 2}\n'
    got = read(data, "t.jsonl", Y, chunk_bytes)
    assert (got.x.tolist(), got.rejected) == ([[5], [1]], 1)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_ids_are_text_in_one_spelling(read, chunk_bytes):
    ids = [
        '"k:1"',
        "17",
        "-0",
        "1.50",
        "1e5",
        '"a\\"{[:"',
        "null",
        "true",
        '"\\u00e9"',
        "12345678901234567890123",
    ]
    lines = "".join(f'{{"i": {i}, "a": 1, "y": 2}}\n' for i in ids)
    got = read(lines.encode(), "t.jsonl", Fields("y", id="i"), chunk_bytes)
    expected = [
        "k:1",
        "17",
        "0",
        "1.5",
        "100000.0",
        'a"{[:',
        None,
        "true",
        "é",
        "12345678901234567890123",
    ]
    assert got.carried["id"] == expected


def test_half_of_a_surrogate_pair_is_no_text(read):
    data = b'{"i": "\\ud83d", "a": 1, "y": 2}\n{"i": "\\ud83d\\ude00", "a": 1, "y": 2}\n'
    got = read(data, "t.jsonl", Fields("y", id="i"))
    assert (got.carried["id"], got.rejected) == (["😀"], 1)


def test_a_named_column_may_first_appear_in_a_later_row(read):
    got = read(b'{"a": 1}\n{"a": 2, "y": 3}\n', "t.jsonl", Y)
    assert (got.x.tolist(), got.unlabelled) == ([[2]], 1)


def test_keys_that_nobody_named_may_come_and_go_where_features_are_named(read):
    fields = Fields("y", features=("a",))
    got = read(GOOD + b'{"z": {"q": [1]}, "a": 1, "y": 2}\n' + GOOD, "t.jsonl", fields)
    assert got.x.tolist() == [[5], [1], [5]]


REFUSALS = [
    (b"", "holds rows"),
    (b"\n \n", "holds rows"),
    (b"a,y\n1,2\n", "one JSON object"),
    (b'{"a": 1}\n{"a": 2}\n', "label column y"),
    (b'{"y": 1}\n', "columns besides"),
    (GOOD + b'{"a": 1, "y": "\xff"}\n', "UTF-8"),
    (GOOD + b"\0\n", "NUL"),
]


@pytest.mark.parametrize(("data", "rule"), REFUSALS)
def test_a_broken_file_is_refused(refused, data, rule):
    assert rule in refused(data, "t.jsonl", Y).refusal.rule


def test_column_numbers_are_refused(refused):
    assert "have names" in refused(GOOD, "t.jsonl", Fields(1)).refusal.rule


def test_a_line_that_is_too_long_is_refused(refused):
    data = GOOD + b'{"a": 1, "y": ' + b"1" * 200 + b"}\n"
    assert (
        "at most 100 bytes"
        in refused(data, "t.jsonl", Y, 10, Limits(max_row_bytes=100)).refusal.rule
    )


@pytest.mark.parametrize("seed", range(20))
def test_good_and_bad_lines_come_out_the_same_for_every_chunk_size(read, seed):
    choose = random.Random(seed)
    values = [
        "1",
        "-2.5",
        "1e5",
        '"3"',
        '"x:y"',
        "null",
        "true",
        "[1]",
        "1e400",
        "NaN",
        '"\\u00e9"',
        "-0",
    ]
    lines = ['{"a": 1, "b": 2, "i": "q", "y": 3}']
    for _ in range(60):
        good = choose.random() < 0.6
        keys = ["a", "b", "i", "y"] if good else choose.choices("abiyz", k=5)
        pairs = [f'"{key}": {choose.choice(values[:3] if good else values)}' for key in keys]
        lines.append("{" + ", ".join(pairs) + "}")
    data = "\n".join(lines).encode()
    fields = Fields("y", features=("a", "b"), id="i")
    whole = read(data, "t.jsonl", fields)
    for chunk_bytes in (1, 60, 300):
        part = read(data, "t.jsonl", fields, chunk_bytes)
        assert part.bits() == whole.bits()
        assert part.bad == whole.bad
    assert whole.rejected
    assert len(whole.y)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (b'[{"a": 1, "y": 2}, {"a": 3, "y": 4}]\n', "jq -c '.[]'"),
        (b'[\n{"a": 1, "y": 2},\n{"a": 3, "y": 4}\n]\n', "jq -c '.[]'"),
        (b'{"a": 1, "y": 2},\n{"a": 3, "y": 4}\n', "comma between objects"),
        (b'{\n  "a": 1,\n  "y": 2\n}\n', "jq -c ."),
        (b"a,y\n1,2\n", "call a file of CSV .csv"),
        (b'{"a": 1, "y": 2}\r{"a": 3, "y": 4}\r', "end each row with a line feed"),
        (b'{"a": 1, "y": 2\n', "correct the line"),
    ],
)
def test_a_file_that_is_no_json_lines_has_the_remedy_of_what_it_is(refused, data, remedy):
    assert remedy in refused(data, "t.jsonl", Y).refusal.remedy


def test_a_rule_counts_in_the_row_and_not_in_lines_that_the_parser_saw(read):
    got = read(GOOD * 9 + b'{"a": 1, "y" 2}\n', "t.jsonl", Y)
    ((row, _, rule, _),) = got.bad
    assert row == 9
    assert rule == "a row is one JSON object: expecting ':' delimiter, at its character 14"


def test_keys_that_are_data_are_too_many_columns_however_long_the_rows_are(refused):
    rows = range(300)
    keys = [",".join(f'"key of {row} and {place}":1' for place in range(400)) for row in rows]
    data = "".join(f'{{{some},"y":1}}\n' for some in keys).encode()
    assert len(data) > 2 << 20
    refusal = refused(data, "t.jsonl", Fields("y", gaps=Gaps("zero"))).refusal
    assert (refusal.rule, refusal.value) == (
        "a file has at most 100000 columns",
        "more than 100000",
    )
    assert "as values" in refusal.remedy


def test_the_room_for_wide_rows_with_gaps_is_that_of_their_lines(tmp_path):
    keys = [",".join(f'"{row} {place}":1' for place in range(100)) for row in range(100)]
    (tmp_path / "1").write_text("".join(f'{{{some},"y":1}}\n' for some in keys))
    fields = Fields("y", gaps=Gaps("zero"))
    source = prepare(tmp_path / "1", "t.jsonl", tmp_path / "2", fields)
    chunk = next(Survey(source, 1 << 20))
    x = decode(source, chunk, fields).x
    assert x.shape[1] == 10_000
    assert x.nbytes <= block_bytes(source, chunk, fields) <= 2 * x.nbytes
