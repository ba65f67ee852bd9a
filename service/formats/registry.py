"""Chooses the format of a sample file by its name, undoes its packing, and reads what stands
before its rows.

Rules: the name's suffixes choose; the content must agree, or the file is refused. To add a format:
a module with the two functions of `contract.Format`, its suffixes in SUFFIXES, its name in FORMATS.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from service.core.errors import FileRefused
from service.formats import contents, csv, jsonl, npy, npz, parquet, svmlight, vw
from service.formats.columns import check_fields
from service.formats.contract import Dialect, Fields, Format, Limits, Source
from service.formats.unpack import unpack
from service.formats.wording import shown

FORMATS: dict[str, Format] = {
    "csv": csv,
    "jsonl": jsonl,
    "parquet": parquet,
    "npy": npy,
    "svmlight": svmlight,
    "vw": vw,
}
SUFFIXES: dict[str, tuple[Literal["csv", "jsonl", "parquet", "npy"], str]] = {
    ".csv": ("csv", ""),
    ".tsv": ("csv", "\t"),
    ".tab": ("csv", "\t"),
    ".jsonl": ("jsonl", ""),
    ".ndjson": ("jsonl", ""),
    ".parquet": ("parquet", ""),
    ".pq": ("parquet", ""),
    ".npy": ("npy", ""),
    ".npz": ("npy", ""),
}
NAMED = {".svm": "svmlight", ".svmlight": "svmlight", ".libsvm": "svmlight", ".vw": "vw"}
"""Suffixes of formats that a job must name: its model is another one."""
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
UNPACKABLE = (".parquet", ".pq", ".npz")
"""They compress by themselves."""


def prepare(
    path: str | Path, name: str, scratch: str | Path, fields: Fields, limits: Limits | None = None
) -> Source:
    """Opens the sample file at `path` (its original name is `name`) as far as its first row.

    A packed file, or one that isn't UTF-8, is written to `scratch`, which then is the source's
    path; otherwise `scratch` isn't touched. Raises FileRefused; then `scratch` may exist and is
    the caller's to delete.
    """
    safe = shown(os.path.basename(name))
    kind: Literal["csv", "jsonl", "parquet", "npy", "svmlight", "vw"]
    if fields.format == "auto":
        suffix, packing = _suffixes(safe, name)
        kind, delimiter = SUFFIXES[suffix]
    else:
        suffix, packing = "", PACKINGS.get(os.path.splitext(name.lower())[1])
        kind, delimiter = fields.format, ""
    source = Source(
        path=str(path),
        name=safe,
        format=kind,
        columns=(),
        size=os.stat(path).st_size,
        dialect=_dialect(fields, delimiter),
        limits=limits or Limits(),
    )
    source = unpack(source, packing, scratch)
    source = npz.unzip(source, scratch) if suffix == ".npz" else source
    source = FORMATS[kind].inspect(source, fields)
    check_fields(source, fields)
    return source


def _dialect(fields: Fields, delimiter: str) -> Dialect:
    """The settings' dialect; a name that says a delimiter says it where they don't."""
    said = fields.dialect
    return replace(said, delimiter=delimiter) if delimiter and said.delimiter == "auto" else said


def _suffixes(safe: str, name: str) -> tuple[str, str | None]:
    """The format's suffix and what is packed around it."""
    stem, last = os.path.splitext(name.lower())
    packing = PACKINGS.get(last)
    suffix = os.path.splitext(stem)[1] if packing else last
    if suffix in NAMED:
        raise FileRefused(
            "a job whose files are sparse text names their format",
            place=safe,
            value=suffix,
            remedy=f'set format = "{NAMED[suffix]}" in the job; it needs no label then',
        )
    if suffix not in SUFFIXES or (packing and suffix in UNPACKABLE):
        raise FileRefused(
            f"a name ends with {', '.join(SUFFIXES)}; .gz or .zst may follow text and .npy",
            place=safe,
            value=shown(suffix + (last if packing else "") or "no suffix"),
            remedy=contents.mend(suffix, packs_itself=suffix in UNPACKABLE),
        )
    return suffix, packing
