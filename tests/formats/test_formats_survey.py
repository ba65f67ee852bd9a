"""Chunks and digests; and what is asked of a source beside its rows."""

from __future__ import annotations

import array
import fcntl
import hashlib
import io
import os
import pickle
import random
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from service.core.errors import FileRefused
from service.formats import (
    BadRow,
    Fields,
    Gaps,
    Limits,
    RowRules,
    Survey,
    block_bytes,
    decode,
    labels,
    placed,
    prepare,
    refusal,
)

Y = Fields("y")


def prepared(tmp_path, data, name="t.csv", fields=Y):
    path = tmp_path / "1"
    path.write_bytes(data)
    return prepare(path, name, tmp_path / "2", fields, Limits())


@pytest.mark.parametrize("seed", range(10))
def test_chunks_are_whole_rows_and_all_of_them(tmp_path, seed):
    choose = random.Random(seed)
    rows = []
    for number in range(200):
        note = "".join(choose.choice('ab\n,"') for _ in range(choose.randint(0, 12)))
        quoted = '"' + note.replace('"', '""') + '"'
        rows.append(f"{number},{quoted},1\n".encode())
    source = prepared(tmp_path, b"a,k,y\n" + b"".join(rows))
    ends = set(np.cumsum([len(row) for row in rows]) + source.data_start)
    for chunk_bytes in (1, 20, 100, 1000):
        chunks = list(Survey(source, chunk_bytes))
        assert chunks[0].start == source.data_start
        assert chunks[-1].stop == source.size
        assert [c.index for c in chunks] == list(range(len(chunks)))
        assert all(a.stop == b.start for a, b in pairwise(chunks))
        assert {c.stop for c in chunks} <= ends
        assert all(c.stop - c.start <= max(chunk_bytes, 80) for c in chunks)


ROWS = {"t.csv": b'a,k,y\n1,2,3\n4,"5\n",6\n', "t.jsonl": b'{"a":1,"y":2}\n' * 2}


@pytest.mark.parametrize("name", ROWS)
def test_a_last_row_without_a_line_break_goes_with_those_before_it(tmp_path, name):
    source = prepared(tmp_path, ROWS[name].rstrip(b"\n"), name)
    (chunk,) = Survey(source, 1000)
    assert (chunk.start, chunk.stop) == (source.data_start, source.size)
    assert [c.stop for c in Survey(source, 15)][
        -1
    ] == source.size  # larger files' chunks keep their size
    assert all(c.stop - c.start <= 15 for c in Survey(source, 15))


@pytest.mark.parametrize("last", [b'7,"8"8,9', b"7,\xff,9", b"7,\0,9"])
def test_a_last_row_with_a_fault_of_structure_hides_no_bad_row_before_it(tmp_path, last):
    source = prepared(tmp_path, b"a,k,y\n1,2,3\nx,5,6\n" + last)
    chunks = list(Survey(source, 1000))
    assert [c.stop for c in chunks] == [source.size - len(last), source.size]
    assert decode(source, chunks[0], Y, RowRules()).first_bad[0].value == "x"


def test_chunks_grow_from_the_size_of_the_first(tmp_path):
    source = prepared(tmp_path, b"a,y\n" + b"1234567,1\n" * 200)
    sizes = [chunk.stop - chunk.start for chunk in Survey(source, 500, first_bytes=100)]
    assert sizes == [100, 200, 400, 500, 500, 300]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize("chunk_bytes", [10, 4 << 20])
def test_the_digest_is_known_after_the_last_chunk(tmp_path, name, chunk_bytes):
    frame = pl.DataFrame({"a": np.arange(100.0), "y": np.arange(100)})
    out = io.BytesIO()
    {"t.csv": frame.write_csv, "t.jsonl": frame.write_ndjson, "t.parquet": frame.write_parquet}[
        name
    ](out)
    survey = Survey(prepared(tmp_path, out.getvalue(), name), chunk_bytes)
    assert survey.sha256 is None
    while next(survey, None) is not None:
        assert survey.sha256 is None
    assert survey.sha256 == hashlib.sha256(out.getvalue()).hexdigest()


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    source = prepared(tmp_path, b"a,y\n" + b"1,2\n" * 100)
    survey = Survey(source, 50)
    chunk = next(survey)
    (tmp_path / "1").write_bytes(b"a,y\n1,2\n")
    with pytest.raises(FileRefused, match="keeps its size"):
        list(survey)
    with pytest.raises(FileRefused, match="keeps its size"):
        decode(source, chunk, Y, RowRules())


def test_a_survey_may_end_early(tmp_path):
    survey = Survey(prepared(tmp_path, b"a,y\n" + b"1,2\n" * 100), 8)
    next(survey)
    survey.close()
    assert next(survey, None) is None
    assert survey.sha256 is None


def test_a_survey_that_ends_while_a_thread_is_at_a_step_closes_its_file_after_that(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = b"a,y\n" + b"1,2\n" * 100
    survey = Survey(replace(prepared(tmp_path, data), path=str(pipe)), len(data))
    with ThreadPoolExecutor() as threads:
        step = threads.submit(next, survey, None)
        with pipe.open("wb") as writer:
            writer.write(data[:50])
            writer.flush()
            _await_empty(writer)  # now it reads again, and waits for the rest
            survey.close()
            writer.write(data[50:])
        assert step.result().stop == len(data)
    with pytest.raises(OSError):  # nobody reads
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_no_thread_touches_a_survey_that_another_is_at_a_step_of(tmp_path):
    """A generator that runs can't be closed: CPython 3.11 may crash then."""
    survey = Survey(prepared(tmp_path, b"a,y\n1,2\n"), 8)
    chunks = _Slow()
    survey._chunks = chunks
    survey._was_opened = True
    with ThreadPoolExecutor() as threads:
        step = threads.submit(next, survey, None)
        chunks.begun.wait()
        survey.close()
        assert not chunks.closed
        chunks.go_on.set()
        assert step.result() == "chunk"
    assert chunks.closed == 1


class _Slow:
    """A generator, as far as a survey needs one, that waits at its step."""

    def __init__(self):
        self.begun, self.go_on, self.closed = threading.Event(), threading.Event(), 0

    def __next__(self):
        self.begun.set()
        self.go_on.wait()
        return "chunk"

    def close(self):
        assert self.go_on.is_set()
        self.closed += 1


def _await_empty(writer):
    waiting = array.array("i", [1])
    while waiting[0]:
        fcntl.ioctl(writer, termios.FIONREAD, waiting)


@pytest.mark.parametrize("chunk_bytes", [1, 9, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_of_a_row_counts_blank_lines_and_breaks_in_quotes(
    tmp_path, lines_of_bad_rows, end, chunk_bytes
):
    lines = ['"a', '",k,y', "x,p,1", "", '2,"q', "", 'r",x', "3,s,3", "4", "5,t,x"]
    fields = Fields("y", id="k")
    source = prepared(tmp_path, end.join(lines).encode(), fields=fields)
    assert lines_of_bad_rows(source, fields, chunk_bytes) == [3, 5, 9, 10]


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_the_line_of_a_row_of_json_and_of_parquet(tmp_path, lines_of_bad_rows, chunk_bytes):
    lines = b'\n{"a":"x","y":2}\n\n{"a":1,"y":2}\n{"a":"x","y":2}\n\n{\n'
    source = prepared(tmp_path, lines, "t.jsonl")
    assert lines_of_bad_rows(source, Y, chunk_bytes) == [2, 5, 7]
    out = io.BytesIO()
    pl.DataFrame({"a": ["x"], "y": [2]}).write_parquet(out)
    source = prepared(tmp_path, out.getvalue(), "t.parquet")
    assert lines_of_bad_rows(source, Y, chunk_bytes) == [None]


def test_a_refusal_for_a_row_says_rule_place_value_and_remedy(tmp_path):
    source = prepared(tmp_path, b"a,y\n1,2\nx,3\n")
    (chunk,) = Survey(source, 1000)
    (bad,) = decode(source, chunk, Y).first_bad
    got = refusal(source, placed(source, bad, 0, 0)).refusal
    assert (got.rule, got.place, got.value) == (
        "a feature is a number",
        "t.csv:3: row 1, column a",
        "x",
    )
    assert got.remedy


def test_only_the_first_bad_rows_are_described_but_all_are_counted(tmp_path):
    source = prepared(tmp_path, b"a,y\n" + b"x,1\n1\n" * 500)
    (chunk,) = Survey(source, 1 << 20)
    block = decode(source, chunk, Y, RowRules())
    assert block.rejected == 1000
    assert [b.row for b in block.first_bad] == [0, 1, 2, 3, 4]
    assert all(isinstance(b, BadRow) for b in block.first_bad)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"a,y\n1,UP\n1,DOWN\n1,1.0\n1, UP\n1,\n1,1\n,01\n", "t.csv"),
        (
            b'{"y": "UP"}\n{"y": "DOWN", "a": 1}\n{"y": 1}\n{"y": null}\n{"y": "1.0"}\n',
            "t.jsonl",
        ),
    ],
)
def test_labels_are_numbers_where_they_can_be_and_each_is_found_once(tmp_path, data, name):
    fields = Fields("y", features=("a",), labels="class")
    source = prepared(tmp_path, data, name, fields)
    (chunk,) = Survey(source, 1 << 20)
    is_json = name == "t.jsonl"
    assert tuple(labels(source, chunk, fields)) == ("UP", "DOWN", 1.0)  # as they appear
    assert labels(source, chunk, fields) == {"UP": 2 - is_json, "DOWN": 1, 1.0: 3 - is_json}


def test_labels_of_a_typed_column_are_numbers_or_names(tmp_path):
    for values, expected in (
        ([3, 1, 3], (3.0, 1.0)),
        ([3.0, float("nan"), 1.0], (3.0, 1.0)),
        (["b", "a", None], ("b", "a")),
        ([True, False, None], ("true", "false")),
    ):
        out = io.BytesIO()
        pl.DataFrame({"a": [1, 2, 3], "y": values}).write_parquet(out)
        fields = Fields("y", labels="class")
        source = prepared(tmp_path, out.getvalue(), "t.parquet", fields)
        (chunk,) = Survey(source, 1 << 20)
        assert tuple(labels(source, chunk, fields)) == expected


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("classes", [(0.0, 1.0), ("a", "b")])
def test_a_label_that_is_nan_is_none_whatever_else_is_in_its_chunk(read, chunk_bytes, classes):
    names = b"a,y\n1,NaN\nx,%s\n3,%s\n4,nan\n" % tuple(str(c).encode() for c in classes)
    fields = Fields("y", labels="class", classes=classes)
    got = read(names, "t.csv", fields, chunk_bytes)
    assert (got.y.tolist(), got.unlabelled, got.rejected) == ([1], 2, 1)
    source = got.source
    found = [label for chunk in Survey(source, 1 << 20) for label in labels(source, chunk, fields)]
    assert found == list(classes)


def test_more_than_a_thousand_labels_are_refused(tmp_path):
    fields = Fields("y", labels="class")
    source = prepared(
        tmp_path, b"a,y\n" + b"".join(b"1,%d\n" % i for i in range(1001)), fields=fields
    )
    (chunk,) = Survey(source, 1 << 20)
    with pytest.raises(FileRefused, match="at most 1000"):
        labels(source, chunk, fields)


@pytest.mark.parametrize("classes", [("UP", "DOWN", 1), ("UP", "DOWN", "1.0")])
def test_labels_meet_their_classes_by_text_or_by_number(tmp_path, classes):
    fields = Fields("y", labels="class", classes=classes)
    source = prepared(tmp_path, b"a,y\n1,UP\n2,DOWN \n3,1\n4,1.0\n5,01\n6,up\n7,\n", fields=fields)
    (chunk,) = Survey(source, 1 << 20)
    block = decode(source, chunk, fields)
    assert block.y.tolist() == [0, 1, 2, 2, 2]
    assert (block.unlabelled, block.rejected) == (1, 1)
    assert block.first_bad[0].value == "up"


GAPPY = Fields("y", gaps=Gaps("mean"))


@pytest.mark.parametrize("chunk_bytes", [10, 100, 1 << 20])
def test_a_block_is_never_larger_than_its_bound(tmp_path, chunk_bytes):
    files = {
        "narrow.csv": (b"a,y\n" + b"1,2\n" * 1000, Y),
        "empty.csv": (b"a,z,y\n" + b"1,,2\n" * 1000, Fields("y", features=("a",))),
        "predict.csv": (b"a\n" + b"1\n" * 999 + b"1", Fields("y", unlabelled="keep")),
        "weight.csv": (b"a,w,y\n" + b"1,1,2\n" * 1000, Fields("y", weight="w")),
        "t.jsonl": (b'{"a":1,"y":2}\n' * 1000, Y),
        "gaps.csv": (b"a,b,c,y\n" + b",,,2\n" * 1000, GAPPY),
        "gaps.jsonl": (b'{"a":1,"b":1,"c":1,"y":2}\n' + b'{"y":2}\n' * 1000, GAPPY),
    }
    for name, (data, fields) in files.items():
        source = prepared(tmp_path, data, name, fields)
        for chunk in Survey(source, chunk_bytes):
            block = decode(source, chunk, fields)
            arrays = [block.x, block.y, block.row, *([] if block.w is None else [block.w])]
            size = sum(array.nbytes for array in arrays)
            bound = block_bytes(source, chunk, fields)
            assert size <= bound, name
            assert fields.gaps.fill != "none" or bound <= 12 * (chunk.stop - chunk.start + 1), name


def test_what_travels_between_processes_can_be_pickled(tmp_path):
    source = prepared(tmp_path, b"a,k,y\n1,p,2\n", fields=Fields("y", id="k"))
    (chunk,) = Survey(source, 1000)
    again, same, fields, rows = pickle.loads(
        pickle.dumps((source, chunk, Fields("y", id="k"), RowRules()))
    )
    assert (again, same) == (source, chunk)
    block = pickle.loads(pickle.dumps(decode(again, same, fields, rows)))
    assert block.x.tolist() == [[1]]
    assert block.carried["id"].to_list() == ["p"]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (Fields("y", features=("a", "q")), "feature column q"),
        (Fields("y", id="q"), "id column q"),
        (Fields("y", weight="q"), "weight column q"),
        (Fields("y", time="q"), "time column q"),
        (Fields("q"), "label column q"),
        (Fields("y", features=("a", "y")), "label is no feature"),
        (Fields("y", features=("a", "a")), "named once"),
        (Fields("y", features=()), "columns besides"),
    ],
)
def test_a_file_without_the_columns_of_the_fields_is_refused(tmp_path, fields, rule):
    with pytest.raises(FileRefused, match=rule):
        prepared(tmp_path, b"a,b,y\n1,2,3\n", fields=fields)
