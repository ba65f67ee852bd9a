"""A sample file's bytes -> chunks -> blocks: CSV and TSV, JSON lines, Parquet, NPY and NPZ; one
module a format.

prepare(path, name, scratch, fields, limits) -> Source          in a worker
Survey(source, chunk_bytes): iterate -> Chunk; then .sha256      in a thread, piece by piece
decode(source, chunk, fields, rows) -> Block                     in a worker, pure
clean(source, chunk, fields) -> Block, or None where a row is bad   in a worker, for a small file among others
judged(source, chunk, fields) -> how many of its rows are bad, and the first    in a worker, where a file is refused
labels(source, chunk, fields) -> distinct labels, as they appear, and their rows in a worker, where classes are
to be learnt
read_alike(paths, names, ...) -> Block, digest      in a worker, for small CSV files that begin alike
features_of(source, fields) -> names of the feature columns
unused_of(source, fields) -> how many columns have no part
names(source, fields) -> features that hold names, no numbers    in a worker, once for a job's first file
block_bytes(source, chunk, fields) -> bound on a block's arrays, in bytes
placed(source, bad, rows, lines) -> a chunk's bad row by the file's row and line
refusal(source, bad) -> FileRefused for a bad row
"""

from service.formats.alike import Read, read_alike
from service.formats.columns import features_of, unused_of
from service.formats.contract import (
    BadRow,
    Block,
    Chunk,
    Fields,
    Gaps,
    Label,
    Limits,
    RowRules,
    Source,
)
from service.formats.decoding import block_bytes, clean, decode, judged, labels, names
from service.formats.refusing import placed, refusal
from service.formats.registry import prepare
from service.formats.survey import Survey

__all__ = [
    "BadRow",
    "Block",
    "Chunk",
    "Fields",
    "Gaps",
    "Label",
    "Limits",
    "Read",
    "RowRules",
    "Source",
    "Survey",
    "block_bytes",
    "clean",
    "decode",
    "features_of",
    "judged",
    "labels",
    "names",
    "placed",
    "prepare",
    "read_alike",
    "refusal",
    "unused_of",
]
