"""The compiled pass against the learner's own, written batch by batch in numpy."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from kernels import compiled, learner, loops, warming
from kernels.contract import Spec

PLAIN = {"linear": "PlainLinear", "logistic": "PlainLogistic", "softmax": "PlainSoftmax"}
CLASSES = {"linear": 0, "logistic": 2, "softmax": 3}


def both(bench, strangers, spec, rows, batch_rows):
    ours, recorded = bench.run(spec, rows, batch_rows)
    plain = replace(spec, kernel=f"{strangers}:{PLAIN[spec.kernel]}")
    theirs, expected = bench.run(plain, rows, batch_rows)
    return {**ours, **recorded}, {**theirs, **expected}


def spec_of(kernel, optimizer, **more):
    outputs = 3 if kernel == "softmax" else 1
    return Spec(kernel, 5, outputs=outputs, optimizer={"name": optimizer}, **more)


@pytest.mark.parametrize(
    ("kernel", "optimizer", "batch_rows"),
    list(itertools.product(PLAIN, ["sgd", "adagrad", "adam"], [1, 7, 64])),
)
def test_the_pass_equals_numpy_for_every_loss_optimizer_and_batch(
    bench, strangers, kernel, optimizer, batch_rows
):
    spec = spec_of(kernel, optimizer, clip=1.5, options={"l2": 0.01})
    rows = bench.rows(150, 5, CLASSES[kernel])
    ours, expected = both(bench, strangers, spec, rows, batch_rows)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kernel", PLAIN)
@pytest.mark.parametrize(
    "more",
    [
        {"standardise": False},
        {"clip": 0.0},
        {"scale_target": False},
        {"options": {"intercept": False}},
        {"schedule": {"name": "inverse_scaling"}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_the_pass_equals_numpy_for_every_switch(bench, strangers, kernel, more):
    rows = bench.rows(60, 5, CLASSES[kernel])
    rows = rows._replace(x=rows.x / 20)
    ours, expected = both(bench, strangers, spec_of(kernel, "adagrad", **more), rows, 1)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kernel", PLAIN)
@pytest.mark.parametrize("rows_of", ["float64", "float32"])
def test_the_pass_in_single_precision_is_near_numpy_s(bench, strangers, kernel, rows_of):
    spec = spec_of(kernel, "adagrad", dtype="float32", clip=5.0)
    rows = bench.rows(60, 5, CLASSES[kernel])
    rows = rows._replace(x=rows.x.astype(rows_of))
    ours, expected = both(bench, strangers, spec, rows, 4)
    assert ours["parameters/weights"].dtype == np.float32
    for name, value in expected.items():
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-4 * scale, err_msg=name)


def test_read_only_rows_give_the_same_bits(bench):
    spec = spec_of("logistic", "adagrad")
    rows = bench.rows(30, 5, 2)
    open_, _ = bench.run(spec, rows, 1)
    for array in rows:
        array.flags.writeable = False
    closed, _ = bench.run(spec, rows, 1)
    assert {k: v.tobytes() for k, v in open_.items()} == {k: v.tobytes() for k, v in closed.items()}


def test_what_is_compiled_is_cached_by_the_sources_of_its_formulas():
    assert loops.checksum(loops) != loops.checksum(loops, learner)
    assert loops.checksum(loops) == loops.checksum(loops)


def test_infinite_and_huge_features_show_in_the_state_and_are_never_hidden(bench):
    spec = spec_of("logistic", "adagrad")
    made = learner.Learner(spec)
    rows = bench.rows(10, 5, 2)
    rows.x[4, 2] = 1e300
    state, _ = bench.run(spec, rows, 1)
    assert not made.finite(state)


def test_warming_compiles_what_the_built_in_kernels_run():
    warming.warm()
    assert compiled.learn.signatures
    assert len(compiled.learn.signatures) <= 4
