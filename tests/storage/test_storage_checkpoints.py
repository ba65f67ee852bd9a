"""Model files: the same bytes for the same model, and no byte that may change unseen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from service.core.errors import StorageDamaged
from service.storage import checkpoints

TENSORS = {
    "parameters/weights": np.arange(6.0).reshape(2, 3),
    "steps": np.array([7]),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(2.5, np.float32),
}
HEADER = {"z": 1, "a": {"y": [1, 2], "b": "ü☃"}, "none": None}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = checkpoints.write(tmp_path, "00000001-v7", TENSORS, HEADER)
    assert written.name == "00000001-v7.safetensors"
    assert written.size == (tmp_path / written.name).stat().st_size
    found = checkpoints.read(tmp_path / written.name, written.sha256)
    assert found.header == HEADER
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_order_and_memory_layout_make_no_difference_to_the_bytes(tmp_path: Path) -> None:
    wide = np.arange(24.0).reshape(4, 6)
    one = {"a": wide[:, ::2], "b": np.asfortranarray(wide), "c": np.array([1])}
    other = {"c": np.array([1]), "b": wide.copy(), "a": wide[:, ::2].copy()}
    header = dict(reversed(HEADER.items()))
    first = checkpoints.write(tmp_path, "one", one, HEADER)
    second = checkpoints.write(tmp_path, "other", other, header)
    assert first.sha256 == second.sha256
    read = checkpoints.read(tmp_path / first.name, None)
    np.testing.assert_array_equal(read.tensors["a"], wide[:, ::2])


def test_models_in_a_series_are_each_what_safetensors_makes_of_them(tmp_path: Path) -> None:
    series, settings = checkpoints.Series(tmp_path), {"a": ['"quoted"', "\\", "ü☃\x7f"], "b": {}}
    models = [
        (TENSORS, {"version": 1, "settings": settings}),
        ({name: tensor + tensor for name, tensor in TENSORS.items()}, {"version": 2, "settings": settings}),
        (TENSORS | {"steps": np.arange(3)}, {"version": 3, "settings": settings, "more": [None, 1.5]}),
        (dict(reversed(TENSORS.items())), {"settings": {"b": {}}, "version": 3}),
        ({}, {}),
    ]  # fmt: skip
    for number, (tensors, header) in enumerate(models):
        written = series.write(f"{number}", tensors, header)
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        assert (tmp_path / written.name).read_bytes() == save(whole, metadata={"headrace": text})


def test_the_metadata_has_one_key(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, "m", TENSORS, HEADER)
    data = (tmp_path / "m.safetensors").read_bytes()
    assert data.count(b'"headrace":') == 1
    assert data.count(b"__metadata__") == 1


@pytest.mark.parametrize("length", range(8))  # of what the header is padded behind
def test_the_bytes_are_those_that_safetensors_writes(tmp_path: Path, length: int) -> None:
    kinds = ["bool", "u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "f8", "i8", "u8"]
    tensors = {f"{7 * n % 12}/{kind}": np.arange(6).astype(kind) for n, kind in enumerate(kinds)}
    tensors |= TENSORS | {"scalar": np.ones(1), 'é"\\\n': np.ones((2, 1, 3)), "b/f8": np.ones(2)}
    header = {**HEADER, "more": "x" * length}
    written = checkpoints.write(tmp_path, "m", tensors, header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    expected = save(tensors, metadata={checkpoints.KEY: text})
    assert (tmp_path / written.name).read_bytes() == expected


def test_a_header_with_nan_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoints.write(tmp_path, "m", {}, {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    written = checkpoints.write(tmp_path, "m", TENSORS, HEADER)
    path = tmp_path / written.name
    whole = path.read_bytes()
    for place in range(len(whole)):
        torn = bytearray(whole)
        torn[place] ^= 0x40
        path.write_bytes(torn)
        with pytest.raises(StorageDamaged, match=r"m\.safetensors: the model's sha256 must be"):
            checkpoints.read(path, written.sha256)


def test_every_flipped_byte_is_read_or_refused_without_a_digest(tmp_path: Path) -> None:
    written = checkpoints.write(tmp_path, "m", TENSORS, HEADER)
    path = tmp_path / written.name
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for bit in (0x01, 0x40, 0x80):
            torn = bytearray(whole)
            torn[place] ^= bit
            path.write_bytes(torn)
            try:
                checkpoints.read(path, None)
            except StorageDamaged:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize("with_digest", [True, False])
def test_every_shorter_file_is_damaged(tmp_path: Path, with_digest: bool) -> None:
    written = checkpoints.write(tmp_path, "m", TENSORS, HEADER)
    path = tmp_path / written.name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StorageDamaged):
            checkpoints.read(path, written.sha256 if with_digest else None)


@pytest.mark.parametrize(
    "foreign", [b"", b"\0" * 8, b"x" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 64]
)
def test_a_foreign_file_is_damaged(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(foreign)
    with pytest.raises(StorageDamaged, match=r"m\.safetensors: must be a model of headrace"):
        checkpoints.read(path, None)


def test_a_missing_model_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(StorageDamaged, match="the model must be there, got no file"):
        checkpoints.verify(tmp_path / "none.safetensors", "0")


def test_current_follows_the_newest_model(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written = checkpoints.write(tmp_path, name, TENSORS, {"name": name})
        checkpoints.point_current(tmp_path, written.name)
        assert checkpoints.read(tmp_path / "current.safetensors", None).header == {"name": name}
    assert os.readlink(tmp_path / "current.safetensors") == "b.safetensors"
    checkpoints.point_current(tmp_path, None)
    checkpoints.point_current(tmp_path, None)
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_pruning_keeps_what_is_named_the_link_and_what_is_no_model(tmp_path: Path) -> None:
    for name in "abc":
        checkpoints.write(tmp_path, name, {}, {})
    checkpoints.point_current(tmp_path, "c.safetensors")
    (tmp_path / "notes.txt").touch()
    assert checkpoints.prune(tmp_path, {"c.safetensors"}) == ["a.safetensors", "b.safetensors"]
    assert sorted(os.listdir(tmp_path)) == ["c.safetensors", "current.safetensors", "notes.txt"]


def test_pruning_up_to_a_model_spares_the_newer_ones(tmp_path: Path) -> None:
    stems = [checkpoints.public_stem(sequence, 7 * sequence) for sequence in (8, 9, 10, 11)]
    names = [checkpoints.write(tmp_path, stem, {}, {}).name for stem in stems]
    assert checkpoints.prune(tmp_path, {names[1]}, up_to=names[2]) == [names[0], names[2]]


def test_stems_sort_by_sequence_and_private_ones_tell_their_file() -> None:
    assert checkpoints.public_stem(7, 1200) == "00000007-v1200"
    assert checkpoints.private_stem(12, 4096) == "a12-r4096"
