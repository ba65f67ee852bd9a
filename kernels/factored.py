"""Whole gradients from factored records: what `samples = "factored"` leaves out is put back.

Rules: a gradient is a product of a layer's deltas and its inputs. A linear kernel's record holds the
deltas alone (`residual`), for its input is the scaled row itself, which `scaled_rows` gives; an MLP's
holds both. A whole gradient is one vector, the parameters end to end in the order of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.contract import Array, Rows, Spec
from kernels.learner import Learner


def gradient(
    record: Mapping[str, Any], scaled_row: Array | None = None, intercept: bool = True
) -> Array:
    """The whole gradient (P,) float64 of a sample's loss, from its record in samples.jsonl.

    `scaled_row` (f,) is the row as the step saw it; an MLP's record has no need of it. `intercept`
    says whether a linear kernel has one.
    """
    factors = record.get("factors")
    if factors is None:
        if scaled_row is None:
            raise ValueError("scaled_row: must be given for a record without factors")
        delta = np.atleast_1d(np.asarray(record["residual"], np.float64))
        return _layer(delta if intercept else None, delta, np.asarray(scaled_row, np.float64))
    layers = [factors[layer] for layer in sorted(factors)]
    parts = [(np.asarray(one["delta"]), np.asarray(one["input"])) for one in layers]
    return np.concatenate([_layer(delta, delta, inputs) for delta, inputs in parts])


def scaled_rows(
    spec: Spec, before: Mapping[str, Array] | None, rows: Rows, batch_rows: int
) -> Array:
    """The rows x (n, f) of a file as its steps saw them: scaled by moments that grow batch by batch.

    `before` holds the tensors of the model file from before the file, by their names there (as
    `safetensors.numpy.load_file` gives them), None for a job's first; `rows` are the file's rows that
    were learnt from, in order, and `batch_rows` those of a whole step (of all lanes, where several
    lanes make one step).
    """
    learner = Learner(spec)
    state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in learner.layout().items()}
    learner.init(state)
    for name, array in state.items():
        was = None if before is None else before.get(f"state/{name}")
        if was is not None and (name.startswith("scaling/") or was.shape == array.shape):
            array[...] = was  # what is of other classes, or of slots, has no part in the scaling
    found = np.empty(rows.x.shape, spec.dtype)
    for start in range(0, len(rows.y), batch_rows):
        stop = start + batch_rows
        part = rows.slice(start, stop)
        learner.enter(state, [part])
        found[start:stop] = learner.scaled(state, part.x)
    return found


def _layer(bias: Array | None, delta: Array, inputs: Array) -> Array:
    """A layer's part: biases before weights, as their names are in order."""
    outer = np.outer(delta, inputs).ravel()
    return outer if bias is None else np.concatenate([bias, outer])
