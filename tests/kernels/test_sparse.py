"""Sparse rows: learning from what isn't 0 is learning from the whole rows, by parts of the state or in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernels import sparse
from kernels.contract import Rows, Sparse, Spec
from kernels.learner import Learner
from kernels.passes.slots import compact

BITS, FEATURES, SLOTS = 5, 2, 20


def rows_of(n, classes, seed=1):
    """The same rows twice: dense, and with all columns but the first two as slots."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, FEATURES + SLOTS)) * (random.random((n, FEATURES + SLOTS)) < 0.3)
    x = x.astype(np.float32).astype(np.float64)
    row, slot = np.nonzero(x[:, FEATURES:])
    starts = np.concatenate([[0], np.cumsum((x[:, FEATURES:] != 0).sum(axis=1))])
    entries = Sparse(starts, slot.astype(np.uint32), x[:, FEATURES:][row, slot].astype(np.float32))
    y, w = random.integers(0, classes, n).astype(np.float64), random.uniform(0.0, 2.0, n)
    w[random.random(n) < 0.1] = 0.0
    dense = Rows(x, y, w, np.zeros(n))
    return dense, dense._replace(x=np.ascontiguousarray(x[:, :FEATURES]), sparse=entries)


def learnt(learner, bench, rows, step):
    """The state and the results after rounds of `step` rows, each on the part that its rows touch."""
    state, results = bench.state(learner), bench.results(learner, rows, "")
    for start in range(0, len(rows.y), step):
        piece = rows.slice(start, start + step)
        slots, entries = sparse.compacted(piece.sparse, BITS)
        part = bench.arrays(sparse.part_layout(learner.layout(), len(slots)))
        sparse.take(state, slots, part)
        own = {name: array[start : start + step] for name, array in results.items()}
        assert learner.run(part, piece._replace(sparse=entries), 1, own)
        sparse.put(part, state)
        sparse.put(part, state)
    return state, results


CASES = [
    ("logistic", {}, {"name": "normalised"}, 1),
    ("linear", {"loss": "huber"}, {"name": "normalised"}, 1),
    ("linear", {"loss": "poisson", "intercept": False}, {"name": "normalised"}, 1),
    ("softmax", {}, {"name": "normalised"}, 3),
    ("logistic", {"l1": 0.003, "l2": 0.001}, {"name": "ftrl"}, 1),
    ("softmax", {"l1": 0.001, "intercept": False}, {"name": "ftrl", "beta": 0.5}, 3),
]


@pytest.mark.parametrize(("kernel", "options", "optimizer", "outputs"), CASES)
def test_slots_learn_what_features_would(kernel, options, optimizer, outputs, bench):
    dense, rows = rows_of(300, 3 if outputs > 1 else 2)
    spec = Spec(kernel, FEATURES, options, outputs, optimizer, standardise=False, bits=BITS)
    learner = Learner(spec)
    state, results = learnt(learner, bench, rows, 70)
    peer = Learner(Spec(kernel, SLOTS + FEATURES, options, outputs, optimizer, standardise=False))
    peer_state, peer_results = bench.state(peer), bench.results(peer, dense, "")
    peer.run(peer_state, dense, 1, peer_results)
    for name, array in peer_results.items():
        np.testing.assert_allclose(results[name], array, rtol=1e-9, atol=1e-12)
    found = learner.predict(state, rows.x, None, rows.sparse)
    np.testing.assert_allclose(found, peer.predict(peer_state, dense.x), rtol=1e-9, atol=1e-12)
    if options.get("l1"):
        weights = learner.slot_weights(state, np.arange(SLOTS))
        exact = peer.coefficients(peer_state)[1][:, FEATURES:]
        assert ((weights == 0) == (exact == 0)).all()
        assert 0 < (weights == 0).sum() < weights.size


@pytest.mark.parametrize("optimizer", ["normalised", "ftrl"])
def test_rounds_cut_anywhere_give_the_same_bits_of_each_slot(optimizer, bench):
    _, rows = rows_of(200, 2)
    spec = Spec("logistic", FEATURES, optimizer={"name": optimizer}, bits=BITS)
    learner = Learner(spec)
    state, results = learnt(learner, bench, rows, 200)
    other, others = learnt(learner, bench, rows, 7)
    assert all(state[name].tobytes() == array.tobytes() for name, array in other.items())
    assert all(results[name].tobytes() == array.tobytes() for name, array in others.items())
    alone = [
        learner.predict(state, rows.x[i : i + 1], None, rows.sparse.slice(i, i + 1))
        for i in range(len(rows.y))
    ]
    together = learner.predict(state, rows.x, None, rows.sparse)
    assert np.concatenate(alone).tobytes() == together.tobytes()


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000])
def test_places_are_numbered_by_their_first_slot(count):
    slots = np.random.default_rng(count).integers(0, 300, count).astype(np.uint32) * 4099
    found, places = compact(slots, 24)
    assert found.tolist() == list(dict.fromkeys(slots.tolist()))
    assert found[places].tolist() == slots.tolist()


@pytest.mark.parametrize("optimizer", ["normalised", "ftrl"])
def test_a_model_file_holds_the_touched_slots_and_nothing_is_lost(optimizer, bench):
    _, rows = rows_of(100, 2)
    learner = Learner(Spec("logistic", FEATURES, optimizer={"name": optimizer}, bits=BITS))
    state, _ = learnt(learner, bench, rows, 50)
    slots = sparse.touched(state)
    assert slots.tolist() == list(range(SLOTS))
    saved = bench.arrays(sparse.part_layout(learner.layout(), len(slots)))
    sparse.take(state, slots, saved)
    whole = sparse.unpack(saved, learner.layout())
    assert whole.keys() == state.keys()
    assert all(whole[name].tobytes() == array.tobytes() for name, array in state.items())
    with pytest.raises(ValueError, match="slots: must be below 16"):
        sparse.unpack(saved, Learner(replace(learner.spec, bits=4)).layout())
