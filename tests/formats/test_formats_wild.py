"""CSV as it is found in the wild: delimiters, encodings, line ends, comments, decimal commas, quotes."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import pytest

from service.formats import Fields, Gaps, RowRules, Survey, decode, labels, prepare
from service.formats import plain as passes
from service.formats.contract import Dialect, Hashed

pytestmark = pytest.mark.usefixtures("as_few_and_many")
Y = Fields("y")
CHUNKS = (1, 7, 64, 4 << 20)
PLAIN = "a,y,k\n1.5,2,é\n-3,4,z\n"
CARRIED = {"id": ["é", "z"]}


def fields(**dialect: str) -> Fields:
    return Fields("y", ("a",), id="k", dialect=Dialect(**dialect))


def decimal_comma(text: str) -> str:
    return text.replace(",", ";").replace(".", ",")


WILD = {
    "a mark of byte order": ("t.csv", b"\xef\xbb\xbf" + PLAIN.encode(), {}),
    "CRLF": ("t.csv", PLAIN.replace("\n", "\r\n").encode(), {}),
    "CR": ("t.csv", PLAIN.replace("\n", "\r").encode(), {}),
    "CR without a last one": ("t.csv", PLAIN.replace("\n", "\r").rstrip().encode(), {}),
    "CR between quotes": ("t.csv", b'"a","y","k"\r"1.5","2","\xc3\xa9"\r"-3","4","z"\r', {}),
    "CR, then LF": ("t.csv", PLAIN.replace("\n", "\r", 1).encode(), {}),
    "CR, then CRLF": ("t.csv", PLAIN.replace("\n", "\r", 1).replace("\n", "\r\n").encode(), {}),
    "LF, then CRLF": ("t.csv", "\n".join(PLAIN.split("\n", 1)).replace("4,z\n", "4,z\r\n").encode(), {}),
    "CR in UTF-16": ("t.csv", PLAIN.replace("\n", "\r").encode("utf-16"), {}),
    "UTF-16": ("t.csv", PLAIN.encode("utf-16"), {}),
    "UTF-16 without a mark": ("t.csv", PLAIN.encode("utf-16-be"), {"encoding": "utf-16-be"}),
    "Latin-1": ("t.csv", PLAIN.encode("latin-1"), {"encoding": "latin-1"}),
    "Latin-1, packed": ("t.csv.gz", gzip.compress(PLAIN.encode("latin-1")), {"encoding": "latin-1"}),
    "a mark goes before what is said": ("t.csv", PLAIN.encode("utf-8-sig"), {"encoding": "latin-1"}),
    "semicolons": ("t.csv", PLAIN.replace(",", ";").encode(), {}),
    "tabs": ("t.csv", PLAIN.replace(",", "\t").encode(), {}),
    "bars": ("t.csv", PLAIN.replace(",", "|").encode(), {}),
    "a delimiter of one's own": ("t.csv", PLAIN.replace(",", "^").encode(), {"delimiter": "^"}),
    "a name that doesn't hold": ("t.tsv", PLAIN.encode(), {"delimiter": ","}),
    "a first line that says the delimiter": ("t.csv", b"sep=^\n" + PLAIN.replace(",", "^").encode(), {}),
    "it in quotes, before a blank line": ("t.tsv", b'"sep=;"\r\n\r\n' + PLAIN.replace(",", ";").encode(), {}),
    "it where the settings say another": ("t.csv", b"sep=;\n" + PLAIN.encode(), {"delimiter": ","}),
    "it with a mark of byte order": ("t.csv", b"\xef\xbb\xbfsep=,\n" + PLAIN.encode(), {}),
    "decimal commas": ("t.csv", decimal_comma(PLAIN).encode(), {"decimal": ","}),
    "quoted decimal commas": ("t.csv", b'a,y,k\n"1,5",2,\xc3\xa9\n-3,4,z\n', {"decimal": ","}),
    "comments": ("t.csv", ("# it's \"\n" + PLAIN.replace("\n", "\n#,\"\n", 2)).encode(), {"comment": "#"}),
    "comments and CR": ("t.csv", ("# it's \"\r" + PLAIN.replace("\n", "\r#,\"\r", 2)).encode(), {"comment": "#"}),
    "a comment at the end": ("t.csv", (PLAIN + "//").encode(), {"comment": "//"}),
    "a mark before a comment": ("t.csv", ("\ufeff# x\n" + PLAIN).encode(), {"comment": "#"}),
    "single quotes": ("t.csv", PLAIN.replace("z", "'z'").encode(), {"quote": "'"}),
    "trailing commas": ("t.csv", PLAIN.replace("\n", ",,\n").encode(), {}),
    "trailing commas in the rows": ("t.csv", PLAIN.replace("2,é", "2,é,").replace("4,z", "4,z,").encode(), {}),
    "trailing commas in one row": ("t.csv", PLAIN.replace("2,é", "2,é,,,").encode(), {}),
    "trailing commas in the header": ("t.csv", PLAIN.replace("k", "k,,").encode(), {}),
    "trailing commas without a line break": ("t.csv", PLAIN.replace("4,z\n", "4,z,,").encode(), {}),
    "trailing commas and CRLF": ("t.csv", PLAIN.replace("z\n", "z,\n").replace("\n", "\r\n").encode(), {}),
    "trailing quotes of nothing": ("t.csv", PLAIN.replace("2,é", '2,é,"",""').encode(), {}),
    "lines of commas": ("t.csv", PLAIN.replace("\n", "\n,,\n,,\n").encode(), {}),
}  # fmt: skip


@pytest.mark.parametrize("how", WILD)
@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_what_is_written_otherwise_is_read_alike(read, how, chunk_bytes):
    name, data, dialect = WILD[how]
    got = read(data, name, fields(**dialect), chunk_bytes)
    assert (got.x.tolist(), got.y.tolist(), got.carried) == ([[1.5], [-3]], [2, 4], CARRIED)
    assert (got.rows_seen, got.row.tolist()) == (2, [0, 1])


DELIMITERS = [
    ("Temp, C;y;k\n1;2;3\n4;5;6\n", ";"),
    ("a;y\n1,5;2,5\n2,5;3,5\n", ";"),
    ('"a;b","y"\n1,2\n', ","),
    ("a|b,y\n1|2,3\n", ","),
    ("a,b\tc,y\n1,2 \t3,4\n", ","),
    ("y\n1\n", ","),
    ("a;y\n1;2\n3;4;5\n6;7\n8,8,8;9\n", ";"),
    ("a;b,c,y\n1;2\n3;4\n5,6,7\n", ";"),
]


@pytest.mark.parametrize(("text", "mark"), DELIMITERS)
def test_the_delimiter_is_what_splits_the_first_rows_alike(tmp_path, text, mark):
    path = tmp_path / "1"
    path.write_text(text)
    name = text.split("\n")[0].split(mark)[0].strip('"')
    source = prepare(path, "t.csv", tmp_path / "s", Fields(None, (name,), unlabelled="keep"))
    assert source.dialect.delimiter == mark


def test_a_decimal_comma_delimits_only_where_nothing_else_does(read):
    got = read(b"1,5;2,5\n3,5;4,5\n", "t.csv", Fields(1, dialect=Dialect(decimal=",")))
    assert (got.x.tolist(), got.y.tolist()) == ([[1.5], [3.5]], [2.5, 4.5])


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_with_a_decimal_comma_a_number_with_a_point_makes_a_bad_row(read, chunk_bytes):
    data = b"k;a;y\n1.5;1,5;2\n2.5;1.500;3\n3.5;-,5e1;4\n4.5;1.000,5;5\n5.5;1,5;6.\n6.5;x,y;7\n"
    got = read(data, "t.csv", fields(decimal=","), chunk_bytes)
    assert (got.x.tolist(), got.y.tolist()) == ([[1.5], [-5]], [2, 4])
    assert got.carried == {"id": ["1.5", "3.5"]}
    found = [(row, column, value) for row, column, _, value in got.bad]
    assert found == [(1, "a", "1.500"), (3, "a", "1.000,5"), (4, "y", "6."), (5, "a", "x,y")]
    assert "decimal comma" in got.bad[0][2]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_what_stands_below_no_name_makes_a_bad_row(read, chunk_bytes):
    got = read(b"a,y,,\n1,2,,\n3,4,,x\n5,6,,\n7,8\n9\n1,2,,,3\n", "t.csv", Y, chunk_bytes)
    assert got.source.columns == ("a", "y")
    assert got.x.tolist() == [[1], [5], [7]]
    assert [b[:2] for b in got.bad] == [(1, "number 3"), (4, ""), (5, "")]
    assert "a column without a name is empty" in got.bad[0][2]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_delimiter_trails_only_where_nothing_stands_behind_it(read, chunk_bytes):
    data = b'a,y\n1,2,\n3,4, \n5,6,,7\n,8,\n9,,\n1,2,""\n3,4,""""\n5,6,,\n7\n'
    got = read(data, "t.csv", Fields("y", gaps=Gaps("zero")), chunk_bytes)
    assert (got.x[:, 0].tolist(), got.y.tolist()) == ([1, 0, 1, 5], [2, 8, 2, 6])
    assert got.row.tolist() == [0, 3, 5, 7]
    assert got.unlabelled == 1
    found = [(row, value.partition(":")[0]) for row, _, _, value in got.bad]
    assert found == [(1, "3 fields"), (2, "4 fields"), (6, "3 fields"), (8, "1 field")]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_line_of_delimiters_is_a_blank_line_and_a_line_of_quotes_is_none(read, chunk_bytes):
    gaps = Fields("y", gaps=Gaps("zero"))
    got = read(b'a,y\n,\n1,2\n,\n"",3\n,\n"",""\n,4\n5,\n', "t.csv", gaps, chunk_bytes)
    assert (got.y.tolist(), got.row.tolist()) == ([2, 3, 4], [0, 1, 3])
    assert (got.rows_seen, got.unlabelled, got.rejected) == (5, 2, 0)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_where_quotes_are_characters_they_are_left_alone(read, chunk_bytes):
    data = b'k\ta\ty\n"so" 5" he\t1\t2\nsaid"\t3\t4\n'
    got = read(data, "t.tsv", fields(quote=""), chunk_bytes)
    assert got.carried == {"id": ['"so" 5" he', 'said"']}
    assert got.y.tolist() == [2, 4]


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_comments_mark_in_quotes_is_none(read, chunk_bytes):
    got = read(b'k,a,y\n"x\n#y",1,2\n#,"\nz,3,4\n', "t.csv", fields(comment="#"), chunk_bytes)
    assert got.carried == {"id": ["x\n#y", "z"]}


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_lines_keep_their_numbers(tmp_path, lines_of_bad_rows, chunk_bytes):
    path = tmp_path / "1"
    path.write_bytes(b"# one\r# two\r\ra,y\r1,x\r#\r\r3,x\r")
    fields = Fields("y", dialect=Dialect(comment="#"))
    source = prepare(path, "t.csv", tmp_path / "s", fields)
    assert source.notes == ("line ends", "comments")
    assert lines_of_bad_rows(source, fields, chunk_bytes) == [5, 8]


TEXT = b'#a"\r\n"b\r\n#c\rd";e\r#f\r\r\n##\n"";"\r"\n#g"\n"h'
PASSES = [passes.with_line_feeds, passes.without_comments]


@pytest.mark.parametrize("of", [*PASSES, partial(passes.without_comments, returns=True)])
def test_it_makes_no_difference_where_a_text_is_cut(of):
    dialect = Dialect(comment="#")
    whole = b"".join(of([TEXT], dialect))
    for first in range(len(TEXT) + 1):
        for second in range(first, len(TEXT) + 1):
            pieces = [TEXT[:first], TEXT[first:second], TEXT[second:]]
            assert b"".join(of(pieces, dialect)) == whole
    assert b"".join(of([bytes([byte]) for byte in TEXT], dialect)) == whole


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("t.csv", Fields("y", dialect=Dialect(comment="#"))),
        ("t.svm", Fields("label", format="svmlight", hashed=Hashed(8))),
    ],
)
@pytest.mark.parametrize("data", [b"# only\n", b"\n#\n\n# more", b"#\n" * 3])
def test_a_file_of_comments_has_no_rows(refused, name, fields, data):
    refusal = refused(data, name, fields).refusal
    assert (refusal.rule, refusal.value) == ("a file holds rows", "only blank lines and comments")


def test_only_what_lies_outside_of_quotes_is_touched():
    dialect = Dialect(comment="#")
    assert b"".join(passes.with_line_feeds([b'a\r\n"b\r"\rc\r'], dialect)) == b'a\n"b\r"\nc\n'
    assert b"".join(passes.without_comments([b'#"\n"\n#"\n#\n'], dialect)) == b'\n"\n#"\n\n'


REFUSED = [
    (b"a,y\n1,\xe9\n", {}, "UTF-8", "t.csv:2: byte 6 of the file", "csv.encoding"),
    (PLAIN.encode("utf-16-le"), {}, "NUL", "t.csv:1: byte 1 of the file", "csv.encoding"),
    (b"a,y\n1,\x81\n", {"encoding": "windows-1252"}, "windows-1252", "t.csv: byte 6", "UTF-8"),
    (PLAIN.encode("utf-16")[:-1], {}, "utf-16", f"t.csv: byte {2 * len(PLAIN)}", "UTF-8"),
    (
        b'a,y\n1,2\n5" x" ,3\n',
        {},
        "enclose whole fields",
        "t.csv:3: byte 9 of the file",
        'csv.quote = ""',
    ),
    (
        b'\n\na,y"x"\n1,2\n',
        {},
        "enclose whole fields",
        "t.csv:3: byte 5 of the file",
        'csv.quote = ""',
    ),
    (b'a,y\n1,"2\n', {}, "close", "t.csv:2", 'csv.quote = ""'),
]


@pytest.mark.parametrize(("data", "dialect", "rule", "place", "remedy"), REFUSED)
def test_a_refusal_names_the_setting_that_helps(refused, data, dialect, rule, place, remedy):
    refusal = refused(data, "t.csv", Fields("y", dialect=Dialect(**dialect))).refusal
    assert rule in refusal.rule
    assert refusal.place == place
    assert remedy in refusal.remedy


@pytest.mark.parametrize(
    ("data", "name", "mark"),
    [
        (b"a y\n1 2\n", "t.csv", " "),
        (b"a:y\n1:2\n", "t.csv", ":"),
        (b"a,y\n1,2\n", "t.tsv", ","),
        (b"a;y;c,d,e,f,g\n1;2;3,4,5,6,7\n", "t.csv", ";"),
    ],
)
def test_where_another_delimiter_gives_the_column_a_note_says_so_and_it_helps(
    read, refused, data, name, mark
):
    for label, feature in (("y", "a"), ("a", "y")):
        fields = Fields(label, (feature,))
        assert f'csv.delimiter = "{mark}"' in refused(data, name, fields).refusal.remedy
        said = Fields(label, (feature,), dialect=Dialect(delimiter=mark))
        assert read(data, name, said).rows_seen == 1


def test_where_no_delimiter_gives_the_column_a_note_names_none(refused):
    remedy = refused(b"a b;c,z\n1 2;3,4\n", "t.csv", Y).refusal.remedy
    assert remedy.startswith("add the column, or correct `label`; line 1 was taken for the header")


def test_a_line_that_says_the_delimiter_is_no_header(refused):
    refusal = refused(b"sep=;\n", "t.csv", Y).refusal
    assert (refusal.rule, refusal.value) == ("a file has rows below its header", "a header only")


def test_the_export_of_a_sensor_is_read_as_it_is(read):
    data = (
        "Date;Time;CO;T;y;;\r\n"
        "10/03/2004;18.00.00;2,6;13,6;0,75;;\r\n"
        "10/03/2004;19.00.00;-200;13,3;0,7;;\r\n" + ";;;;;;\r\n" * 3
    ).encode()
    how = Fields("y", ("CO", "T"), time="Time", gaps=Gaps("zero", ("-200",)))
    got = read(
        data,
        "air.csv",
        Fields(**{k: getattr(how, k) for k in how.__slots__} | {"dialect": Dialect(decimal=",")}),
    )
    assert (got.x.tolist(), got.y.tolist()) == ([[2.6, 13.6], [0, 13.3]], [0.75, 0.7])
    assert got.carried == {"time": ["18.00.00", "19.00.00"]}
    assert (got.rows_seen, got.missing) == (2, {"CO": 1})


def test_a_column_may_be_called_by_what_polars_takes_for_a_pattern(tmp_path: Path) -> None:
    text = "{},{},{},{},y\n1,,2024-05-01,Ulm,1\nx,2,2024-05-01,Ulm,0\n3,?,oops,Ulm,1\n4,5,,K,zz\n"
    found = []
    for a, b, d, k in (("a", "b", "d", "k"), ("*", "^.*$", "^d.*$", "^[k*]$")):
        (tmp_path / "t.csv").write_text(text.format(a, b, d, k))
        fields = Fields(
            "y", (a, b, d, k), gaps=Gaps("mean", ("?",), (b,)), times=((d, ("year", "weekday")),),
            hashed=Hashed(8, (k,), (), 1, ((a, b),)),
        )  # fmt: skip
        source = prepare(tmp_path / "t.csv", "t.csv", tmp_path / "scratch", fields)
        (chunk,) = Survey(source, 1 << 20)
        block = decode(source, chunk, fields, RowRules("skip", 1.0, 100))
        names = dict(zip((a, b, d, k, "y"), "abdky", strict=True))
        bad = [(one.row, names[one.column], one.rule, one.value) for one in block.first_bad]
        missing = {names[name]: count for name, count in block.missing.items()}
        found.append((block.x.tobytes(), block.y.tolist(), bad, missing))
        assert tuple(labels(source, chunk, fields)) == (1.0, 0.0, "zz")
    assert found[0] == found[1]
