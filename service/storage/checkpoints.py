"""Model files: safetensors with one metadata key, written whole, read against a digest.

Rules. A model file is never changed once it has its name. Its bytes are a function of tensors and header: safetensors
sorts the tensors, and the metadata holds ONE key, `headrace`, with sorted JSON (several keys come out in random order).
A file that is not, to the byte, what the journal recorded is damaged, and says so with its path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, TensorSpec, serialize
from safetensors.numpy import load

from service.core.errors import StorageDamaged
from service.core.layout import CURRENT, shown
from service.storage.disk import names, replace_file, replace_link, storage_border

KEY = "headrace"
SUFFIX = ".safetensors"
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_HEAD_ALIGNMENT = 8  # of safetensors: its tensors begin at such a multiple
# What safetensors and json raise on bytes that are not a model of ours.
_FOREIGN = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError)

Tensors = Mapping[str, NDArray[Any]]
_Spec = tuple[str, np.dtype[Any], tuple[int, ...]]


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
    return Series(directory).write(stem, tensors, header, is_kept=is_kept)


class Series:
    """Models of one job, one after the other: what their bytes have in common is made once.

    To make a small model's bytes anew took three times as long as to hash them. The values in their headers must not change
    while the series lasts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told: dict[str, tuple[Any, str]] = {}
        self._specs: list[_Spec] = []
        self._frame: _Frame | None = None

    def write(
        self, stem: str, tensors: Tensors, header: Mapping[str, Any], *, is_kept: bool = True
    ) -> Written:
        """As the function of that name."""
        data = self._bytes(tensors, header)
        name = stem + SUFFIX
        if is_kept:
            replace_file(self._directory / name, data)
        return Written(name, hashlib.sha256(data).hexdigest(), len(data))

    def _bytes(self, tensors: Tensors, header: Mapping[str, Any]) -> bytes:
        """What `safetensors.numpy.save` gives, but that the header may be told from what was told before."""
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        specs = [(name, array.dtype, array.shape) for name, array in arrays.items()]
        if self._frame is None or specs != self._specs:
            self._frame, self._specs = _frame(arrays), specs
        frame = self._frame
        text = ",".join([self._tell(key, header[key]) for key in sorted(header)])
        head = f"{frame.before}{{{text}}}{frame.after}".encode()
        head += b" " * (-len(head) % _HEAD_ALIGNMENT)
        return b"".join(
            [len(head).to_bytes(8, "little"), head, *[arrays[name].data for name in frame.order]]
        )

    def _tell(self, key: str, value: Any) -> str:
        """One entry of the header, as JSON inside a string of JSON."""
        known = self._told.get(key)
        if known is not None and known[0] is value:
            return known[1]
        told = _JSON.encode(f"{_JSON.encode(key)}:{_JSON.encode(value)}")[1:-1]
        self._told[key] = value, told
        return told


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


@dataclass(frozen=True, slots=True)
class _Frame:
    """How the head of a model file begins and ends, with our header in between, and in which order its tensors follow."""

    before: str
    after: str
    order: tuple[str, ...]


def _frame(arrays: Tensors) -> _Frame:
    """Asked of safetensors itself: its bytes for these arrays, without a header of ours."""
    specs = {
        name: TensorSpec(
            dtype=_named(array.dtype),
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    data = bytes(serialize(specs, metadata={KEY: ""}))
    head = data[8 : 8 + int.from_bytes(data[:8], "little")].decode().rstrip(" ")
    before, empty, after = head.partition('"' + KEY + '":""')
    assert empty, "safetensors tells the metadata as it is given"
    order = tuple(name for name in json.loads(head) if name != "__metadata__")
    return _Frame(before + empty[:-1], '"' + after, order)


@lru_cache(maxsize=64)
def _named(dtype: np.dtype[Any]) -> str:
    if dtype != dtype.newbyteorder("<"):
        raise ValueError(f"model: its tensors are little-endian, got dtype {dtype.str}")
    return str(dtype.name)


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
