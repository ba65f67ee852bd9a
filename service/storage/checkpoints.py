"""Model files: safetensors with one metadata key, written whole, read against a digest.

Rules. A model file is never changed once it has its name. Its bytes are a function of tensors and header: safetensors
sorts the tensors, and the metadata holds ONE key, `headrace`, with sorted JSON (several keys come out in random order).
A file that is not, to the byte, what the journal recorded is damaged, and says so with its path.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from service.core.errors import StorageDamaged
from service.core.layout import CURRENT, shown
from service.storage.disk import names, replace_file, replace_link, storage_border

KEY = "headrace"
SUFFIX = ".safetensors"
# What safetensors and json raise on bytes that are not a model of ours.
_FOREIGN = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError)

_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16",
    "int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64", "int64": "I64", "uint64": "U64",
}  # fmt: skip
"""What safetensors calls numpy's dtypes, in its order."""
_RANKS = {name: rank for rank, name in enumerate(_DTYPES)}
_quoted = json.JSONEncoder(ensure_ascii=False).encode
_told = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Written:
    """A model file on the disk: its name in its directory, its digest in hex, its bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a model file holds. The tensors are read-only views on the file's bytes."""

    tensors: dict[str, NDArray[Any]]
    header: dict[str, Any]


def public_stem(sequence: int, version: int) -> str:
    """The name, less its suffix, of the model after the job's `sequence`-th accepted file."""
    return f"{sequence:08d}-v{version}"


def private_stem(admission: int, row: int | Literal[""]) -> str:
    """The name, less its suffix, of a resume point at data row `row` of a file; without a row, what all have in common."""
    return f"a{admission}-r{row}"


def write(
    directory: Path,
    stem: str,
    tensors: Tensors,
    header: Mapping[str, Any],
    *,
    is_kept: bool = True,
) -> Written:
    """Writes a model durably. `header` is JSON without NaN; tensors may be of any layout in memory.

    One that is not to be kept (a newer one of the same commit takes its place) is not written; what it would be is said all
    the same. Raises DiskFull and StorageError; then no file has the name that had not before.
    """
    text = _told(header)
    data = _serialized({name: np.ascontiguousarray(tensors[name]) for name in tensors}, text)
    name = stem + SUFFIX
    if is_kept:
        replace_file(directory / name, data)
    return Written(name, hashlib.sha256(data).hexdigest(), len(data))


def read(path: Path, sha256: str | None) -> Checkpoint:
    """Reads a model; with a digest, StorageDamaged unless every byte is as written."""
    data = _verified(path, sha256)
    try:
        length = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + length])["__metadata__"][KEY]
        return Checkpoint(load(data), json.loads(text))
    except _FOREIGN as error:
        raise StorageDamaged(
            f"{shown(path)}: must be a model of headrace, got {_line(error)}"
        ) from error


def verify(path: Path, sha256: str) -> None:
    """Raises StorageDamaged unless the file is there and has the digest."""
    _verified(path, sha256)


def point_current(directory: Path, name: str | None) -> None:
    """Lets `current.safetensors` lead to the model `name` at once; None takes the link away.

    Not flushed: the journal knows the newest model, and recovery points to it again.
    """
    link = directory / CURRENT
    if name is not None:
        replace_link(link, name)
        return
    with storage_border("delete", link):
        link.unlink(missing_ok=True)


def prune(directory: Path, keep: Collection[str], *, up_to: str | None = None) -> list[str]:
    """Deletes the directory's models but those kept, of all or of those up to one; says which.

    `up_to` spares what a later commit of the same group has already written. Not flushed: recovery would delete again.
    """
    models = [name for name in names(directory) if name.endswith(SUFFIX) and name != CURRENT]
    if up_to is not None:
        models = [name for name in models if _order(name) <= _order(up_to)]
    pruned = [name for name in models if name not in keep]
    for name in pruned:
        with storage_border("delete", directory / name):
            (directory / name).unlink(missing_ok=True)
    return pruned


def _serialized(arrays: Tensors, text: str) -> bytes:
    """What `safetensors.numpy.save` gives, to the byte, in a third of its time: most of a header is known from the model before."""
    entries = tuple((name, array.dtype, array.shape) for name, array in arrays.items())
    listed, order = _laid_out(entries)
    head = f'{{"__metadata__":{{"{KEY}":{_quoted(text)}}}{listed}}}'.encode()
    head += b" " * (-len(head) % 8)
    return b"".join((len(head).to_bytes(8, "little"), head, *(arrays[name].data for name in order)))


@lru_cache(maxsize=64)
def _laid_out(
    entries: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...],
) -> tuple[str, list[str]]:
    """What the header of a model file says of its tensors, and their order: the widest numbers first, then by name."""
    entries = tuple(sorted(entries, key=lambda entry: (-_rank(entry[1]), entry[0])))
    listed, start = "", 0
    for name, dtype, shape in entries:
        end = start + math.prod(shape) * dtype.itemsize
        told = {"dtype": _DTYPES[dtype.name], "shape": shape, "data_offsets": (start, end)}
        listed += f",{_quoted(name)}:{json.dumps(told, separators=(',', ':'))}"
        start = end
    return listed, [name for name, _, _ in entries]


def _rank(dtype: np.dtype[Any]) -> int:
    if dtype != dtype.newbyteorder("<"):
        raise ValueError(f"model: its tensors are little-endian, got dtype {dtype.str}")
    return _RANKS[dtype.name]


def _order(name: str) -> tuple[int, ...]:
    """(sequence, version) of a public model, (admission, row) of a private one: both grow with time."""
    return tuple(map(int, re.findall(r"[0-9]+", name)))


def _verified(path: Path, sha256: str | None) -> bytes:
    try:
        with storage_border("read", path):
            data = path.read_bytes()
    except Exception as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise StorageDamaged(f"{shown(path)}: the model must be there, got no file") from error
        raise
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise StorageDamaged(f"{shown(path)}: the model's sha256 must be {sha256}, got {found}")
    return data


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:120]
