"""What the readers of sample files agree on: the values that travel from a file's bytes to a block.

Rules
- Every value here is frozen and picklable: it is made in one process and read in another.
- A file's structure (its container, header, quotes, encoding) is whole or the file is refused with
  `FileRefused`.
- A row is good or it is counted and left out; whoever calls decides what a bad row means for the
  file (`RowRules`).
- Nothing depends on where the chunks were cut: the same file gives the same rows for every
  `chunk_bytes`.

    path --prepare--> Source --Survey--> Chunk, Chunk, ... --decode--> Block, Block, ...

Words: a *column* is known by its name, or without a header by its number counted from 0, written
as text ("0", "1", ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from kernels.contract import ANY, Domain, Sparse
from service.formats.frames import pl

SPARSE_TEXTS = ("svmlight", "vw")
"""Formats whose features have slots instead of names."""
MOST_NOTES = 1000
"""However many bad rows a chunk has, no more than these are described."""

HEAD_ROWS = 1000
HEAD_BYTES = 1 << 20
"""What a file teaches before it is learnt, its first rows do: no more than these, in text those in about so many bytes."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Column = str | int
FormatName = Literal["auto", "svmlight", "vw"]
Label = str | float
"""A class label as files give it: a number where the text is one ("1" is 1 is 1.0), otherwise the
text."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Which features are missing, beside those where nothing stands, and what becomes of them."""

    fill: Literal["none", "zero", "mean"] = "none"
    """"none": a missing feature makes its row a bad one. "mean": it is NaN in the block, for the model
    knows the mean."""
    values: tuple[str, ...] = ()
    """Texts, without regard to case, and numbers, however they are spelled."""
    indicators: tuple[Column, ...] = ()
    """Features that get a column more, behind all features: 1 where they are missing, else 0."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How CSV is written: what the settings say, and in a prepared source what its first lines show."""

    delimiter: str = "auto"
    """One character; "auto" until `csv.inspect` has found it."""
    encoding: str = "auto"
    """A codec's name; "auto" is UTF-8. A mark of byte order goes before both."""
    decimal: Literal[".", ","] = "."
    quote: Literal['"', "'", ""] = '"'
    """Empty: quotes are characters like others."""
    comment: str = ""
    """Lines that begin with it are no rows; empty: there are none."""

    @property
    def quotes(self) -> bytes:
        """The quote as it stands in the file; empty where nothing quotes."""
        return self.quote.encode()


@dataclass(frozen=True, slots=True)
class Hashed:
    """What becomes sparse of a row, and how many slots there are."""

    bits: int = 0
    """The slots of sparse rows are 2^bits; 0: rows are dense."""
    categorical: tuple[Column, ...] = ()
    """Columns of names: each name is a feature of its own."""
    text: tuple[Column, ...] = ()
    """Columns of words, which are counted."""
    ngrams: int = 1
    """The longest run of words that is a feature of its own."""
    interactions: tuple[tuple[Column, Column], ...] = ()
    """Pairs of features or columns of names, whose product is a feature."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are hashed by themselves, and are no features."""
        return (*self.categorical, *self.text)


@dataclass(frozen=True, slots=True)
class Fields:
    """Which columns are what. Columns given as numbers mean a file without a header (CSV, TSV,
    NPY)."""

    label: Column | None
    features: tuple[Column, ...] | None = None
    """None: every column that has no other part and is not in `exclude`, in the file's order."""
    exclude: tuple[Column, ...] = ()
    id: Column | None = None
    weight: Column | None = None
    time: Column | None = None
    offset: Column | None = None
    exposure: Column | None = None
    labels: Literal["number", "class", "none"] = "number"
    domain: Domain = ANY
    """The numbers that a label may be."""
    classes: tuple[Label | int, ...] | None = None
    """The classes in their order; `decode` needs them when `labels` is "class" (`labels()` finds
    them)."""
    unlabelled: Literal["skip", "keep"] = "skip"
    """A row without a label: left out and counted, or (for predictions) kept with y = NaN. With
    "keep" a label that is no number, or none of the classes, is none, too; and the columns of the
    label and the id may be absent from the file."""
    gaps: Gaps = Gaps()
    dialect: Dialect = Dialect()
    """CSV only."""
    format: FormatName = "auto"
    """What all files are, whatever their names; "auto": as their names say."""
    hashed: Hashed = Hashed()
    times: tuple[tuple[Column, tuple[str, ...]], ...] = ()
    """Columns of dates and times, and which parts of each are features instead of them."""

    @property
    def roles(self) -> tuple[Column, ...]:
        """The columns that have a part of their own."""
        named = (self.label, self.weight, self.id, self.time, self.offset, self.exposure)
        return tuple(column for column in named if column is not None)

    @property
    def named(self) -> set[Column]:
        """Every column that has a part, as far as the settings, or the files before, say."""
        times = (column for column, _ in self.times)
        return {*self.roles, *(self.features or ()), *self.hashed.columns, *times}

    @property
    def numbered(self) -> bool:
        """Columns are numbers, so the file has no header."""
        return any(isinstance(column, int) for column in (*self.named, *self.exclude))


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a file may be in each direction, before it is refused."""

    max_bytes: int = 64 << 30
    """Bytes after unpacking; bounds what a compressed file may write to disk."""
    max_ratio: float = 250.0
    """Bytes out for a byte in, judged once 64 MiB have come out: a bomb's ratio is near 1000,
    honest tables stay below 100."""
    max_row_bytes: int = 16 << 20
    max_columns: int = 100_000


@dataclass(frozen=True, slots=True)
class RowRules:
    """What the settings say about bad rows. `decode` only counts and describes them; the decode
    stage applies the rest."""

    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_bad_rows: float = 0.01
    """With "skip": the share of a file's rows that may be bad."""
    notes: int = 5
    """How many of a chunk's bad rows are described, at most `MOST_NOTES`; all are counted."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array of an NPY or NPZ file: where its bytes lie and what they mean."""

    name: str
    path: str
    offset: int
    dtype: str
    rows: int
    columns: int | None
    """None: one-dimensional, a single column of the array's own name."""
    fortran: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A prepared sample file: everything that decoding any part of it needs to know."""

    path: str
    """The file to read: the unpacked one, if the dropped one was compressed or in another
    encoding."""
    name: str
    """The original name, made safe for messages."""
    format: Literal["csv", "jsonl", "parquet", "npy", "svmlight", "vw"]
    columns: tuple[str, ...]
    """All columns in the file's order. JSON lines: those of the first row and those that the
    fields name; of the first rows, where these name no features."""
    size: int
    """Bytes of the file at `path`."""
    data_start: int = 0
    """Byte of the first data row (after BOM and header)."""
    first_line: int = 1
    """Text: the 1-based line on which that byte stands."""
    dialect: Dialect = Dialect()
    """CSV and TSV only."""
    aside: tuple[str, ...] = ()
    """Columns that are features only where the fields name them: Parquet's, where pandas says that they are an index."""
    unnamed: int = 0
    """CSV: columns without a name behind `columns`."""
    rows: int | None = None
    """Rows, where the format knows them without reading all."""
    groups: tuple[int, ...] = ()
    """Parquet: the rows of each group, where they are known."""
    sha256: str | None = None
    """Of the file as it was dropped; only when it was unpacked (`Survey.sha256` has it in every
    case)."""
    notes: tuple[str, ...] = ()
    """What was undone on the way: "gzip", "zstd", "utf-8 bom", another encoding's name, "line ends", "comments"."""
    arrays: tuple[Array, ...] = ()
    """NPY and NPZ only."""
    limits: Limits = Limits()
    bits: int = 0
    """Sparse text only: see `Hashed.bits`."""

    @property
    def is_text(self) -> bool:
        """Whether rows are lines, and chunks ranges of bytes."""
        return self.format in ("csv", "jsonl", *SPARSE_TEXTS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part `index` of a file: [start, stop) in bytes for text (whole rows), in rows for Parquet,
    NPY and NPZ."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row was left out; every text is bounded and escaped."""

    row: int
    """Index among the data rows, bad ones and unlabelled ones counted: the chunk's, and once it is
    `placed` the file's."""
    column: str
    """Empty when the whole row is wrong."""
    rule: str
    value: str
    remedy: str
    line: int | None = None
    """Line breaks of the chunk before the row, and once it is `placed` the file's 1-based line; None
    where the format has no lines."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A decoded chunk: n good rows in the file's order.

    Size: `block_bytes` bounds the arrays before decoding; for text it is never more than 12 bytes
    for a byte of chunk, unless features may be missing.
    """

    x: Floats
    """(n, features), C-order, finite but for gaps that are to be filled with the mean; columns in the
    order of `features_of`, and behind them those of `Gaps.indicators`."""
    y: Floats
    """(n,): a number in the label's units, or the position in `Fields.classes`; NaN only with
    unlabelled = "keep"."""
    w: Floats | None
    """(n,), finite and not negative; None without a weight column."""
    offset: Floats | None
    """(n,), finite: the offset, or the exposure's logarithm; None where the fields name neither."""
    row: Integers
    """(n,): index among the chunk's data rows, growing."""
    carried: dict[str, pl.Series] | None
    """"id" and "time" as text (n,), where the fields name them; an absent value is null. None when
    neither is named."""
    rows_seen: int
    """All data rows of the chunk: n + unlabelled + rejected (blank lines are no rows)."""
    unlabelled: int
    rejected: int
    first_bad: tuple[BadRow, ...] = ()
    lines: int = 0
    """Text: line breaks in the chunk."""
    sparse: Sparse | None = None
    """What is sparse of the n rows, where the job has slots."""
    gaps: Mapping[str, Mask] = field(default_factory=dict)
    """Which of the n rows lacked a feature, by feature; only features that some row of the chunk lacked."""

    @property
    def missing(self) -> dict[str, int]:
        """How many of the n rows lacked a feature, by feature; only those that were lacking."""
        return {name: count for name, gap in self.gaps.items() if (count := int(gap.sum()))}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns that a reader must give."""

    features: tuple[str, ...]
    others: tuple[str, ...]
    """Label, weight, id and time, as far as there are such."""
    texts: frozenset[str]
    """Those to be given as text even if they look like numbers: id, time, and a label that is a
    name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.features, *self.others)))


class Format(Protocol):
    """One kind of sample file: a module with these two functions. They hold no state and may run
    in any process."""

    def inspect(self, source: Source, fields: Fields) -> Source:
        """Reads header, schema or footer of the file at `source.path`, and fills in the rest of
        the source.

        Raises FileRefused when the content is not what the name says, is not whole, or holds no
        rows.
        """
        ...

    def table(self, source: Source, chunk: Chunk, wanted: Wanted) -> Table:
        """Reads the wanted columns of a chunk. Raises FileRefused for faults of structure."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A chunk as a reader gives it: a frame of the columns asked for, and the rows that have
    none."""

    frame: pl.DataFrame
    """Each wanted column as Float64 or as String; text that is a number counts as one. Null is an
    empty cell."""
    row: Integers
    """(height,): which of the chunk's data rows each line of the frame is, growing."""
    rows_seen: int
    """All data rows; those that aren't in the frame could not be split into cells (short, long, no
    JSON object)."""
    bad: tuple[BadRow, ...] = ()
    """The first of these, with their reasons, in order."""
    lines: int = 0
    """Text: line breaks in the chunk."""
    x: Floats | None = None
    """(height, features), C-order: the features, where a reader has them as a matrix; then they
    aren't in the frame."""
    is_full: bool = False
    """Whether the reader knows that all of `x` are finite numbers: who asks need not look."""
    sparse: Sparse | None = None
    """What is sparse of the rows (height,)."""
    texts: Callable[[], Table] | None = None
    """Reads the same rows as text, where the reader has parsed numbers: notes say how a bad value
    is spelled."""
