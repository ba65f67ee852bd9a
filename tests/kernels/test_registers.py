"""Registers: what stands in four places at once is what stands in each, to the bit; and elementary functions of both."""

from __future__ import annotations

import numba as nb
import numpy as np
import pytest

from kernels import elementary, loops, losses, registers
from kernels.registers import LENGTH

RANDOM = np.random.default_rng(3)
A, B, C = RANDOM.normal(0, 3, (3, 400))
A[:3], B[1:4] = [0.0, 1.0, -0.0], [1.0, 0.0, -0.0]


def applied(function, *arrays, kind=np.float64):
    """The results (n,) of a function of numbers, compiled number by number, and register by register."""
    compiled = nb.njit(function, **loops.FLAGS)
    load, store = registers.load, registers.store

    @nb.njit(**loops.FLAGS)
    def one_by_one(a, b, c, found):
        for i in range(len(a)):
            found[i] = compiled(a[i], b[i], c[i])

    @nb.njit(**loops.FLAGS)
    def by_fours(a, b, c, found):
        for i in range(0, len(a), LENGTH):
            at = (i,)
            store(found, at, compiled(load(a, at), load(b, at), load(c, at)))

    found = np.empty((2, len(arrays[0])), kind)
    given = [np.asarray(array, kind) for array in arrays]
    given += [given[0]] * (3 - len(given))
    one_by_one(*given, found[0])
    by_fours(*given, found[1])
    assert found[0].tobytes() == found[1].tobytes()
    return found[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, c: a + b - 2.0 * c / (b * b + 1.0),
        lambda a, b, c: -a * (3 - b) + True * c,
        lambda a, b, c: (a > b) * c + (a >= 0.0) - (b < c) * (a <= 1.0) + (b == 0.0),
        lambda a, b, c: abs(a) + np.abs(b) * np.sign(c),
        lambda a, b, c: np.maximum(a, 0.5) * np.minimum(b, c),
    ],
)
def test_a_formula_of_registers_is_numpy_s(function):
    found = applied(function, A, B, C)
    np.testing.assert_allclose(found, function(A, B, C), rtol=1e-14, atol=1e-14)


def test_a_formula_of_single_precision_stays_in_it():
    found = applied(lambda a, b, c: a * b - c, A, B, C, kind=np.float32)
    a, b, c = (array.astype(np.float32) for array in (A, B, C))
    assert found.tobytes() == (a * b - c).tobytes()


def test_a_fused_sum_is_rounded_once():
    fma = registers.fma
    a = np.full(LENGTH, 1.0 + 2.0**-30)
    found = applied(lambda a, b, c: fma(a, b, c), a, a, np.full(LENGTH, -(1.0 + 2.0**-29)))
    assert found.tolist() == [2.0**-60] * LENGTH


def test_the_larger_and_the_smaller_of_two_are_no_number_where_the_first_is_none():
    a, b = np.array([np.nan, 1.0, 2.0, -0.0]), np.array([1.0, 2.0, 1.0, 0.0])
    np.testing.assert_array_equal(
        applied(lambda a, b, c: np.maximum(a, b), a, b), [np.nan, 2, 2, 0]
    )
    np.testing.assert_array_equal(
        applied(lambda a, b, c: np.minimum(a, b), a, b), [np.nan, 1, 1, 0]
    )


def test_registers_are_loaded_spread_and_stored_anywhere_in_an_array():
    load, spread, store, widened = (
        registers.load, registers.spread, registers.store, registers.widened
    )  # fmt: skip

    @nb.njit(**loops.FLAGS)
    def moved(a, b):
        store(b, (1, 3), load(a, (0, 1)))
        store(b, (0, 0), widened(spread(a, (1, 2))))
        store(b, (0, 4), 7)
        return registers.summed(load(a, (0, 1))), registers.least(load(a, (0, 1)))

    a = np.array([[9.0, 4.0, 3.0, 8.0, 5.0], [0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)
    b = np.full((2, 8), -1.0, np.float32)
    assert moved(a, b) == (20.0, 3.0)
    assert b.tolist() == [[2, 2, 2, 2, 7, 7, 7, 7], [-1, -1, -1, 4, 3, 8, 5, -1]]


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_zeros_begin_where_a_line_of_memory_does(shape, dtype):
    for _ in range(20):
        found = registers.zeros(shape, dtype)
        assert found.ctypes.data % 64 == 0
        assert (found.shape, found.dtype, found.any()) == (shape, np.dtype(dtype), False)


SPACED = np.concatenate([np.exp(RANDOM.uniform(-700, 700, 4000)), RANDOM.uniform(0.5, 2.0, 4000)])


@pytest.mark.parametrize(
    ("function", "expected", "x"),
    [
        (lambda a, b, c: elementary.log(a), np.log, SPACED),
        (lambda a, b, c: elementary.inverse_root(a), lambda x: 1 / np.sqrt(x), SPACED),
        (lambda a, b, c: losses.exp(a), np.exp, RANDOM.uniform(-708, 709, 4000)),
        (lambda a, b, c: losses.log1p(a), np.log1p, RANDOM.random(4000)),
    ],
    ids=["log", "inverse root", "exp", "log1p"],
)
def test_elementary_functions_are_right_to_two_last_places(function, expected, x):
    exact = expected(x.astype(np.longdouble))
    assert np.max(np.abs(applied(function, x) - exact) / np.spacing(np.abs(expected(x)))) <= 2


def test_an_inverse_deviation_is_0_where_nothing_varies_and_bounded_where_next_to_nothing_does():
    found = applied(
        lambda a, b, c: elementary.inverse_deviation(a), np.array([0.0, 5e-324, 1e-290, 4.0])
    )
    np.testing.assert_allclose(found, [0.0, 1e145, 1e145, 0.5], rtol=1e-15)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, c: a * b - c,
        lambda a, b, c: np.where(a > b, 1.0 - c, c) * (a - b) ** 2,
        lambda a, b, c: (a > 0.0) & (b < 0.0),
        lambda a, b, c: np.logaddexp(a, 0.0) if a > b else c,
        lambda a, b, c: np.tanh(a) + np.log1p(np.abs(b)) + c**2,
        lambda a, b, c: np.sqrt(np.abs(a)) - np.exp(b) * np.square(c),
    ],
    ids=["at once", "where", "and", "a branch", "functions", "roots"],
)
def test_what_registers_do_not_have_is_done_number_by_number(function):
    found = registers.of_registers(nb.njit(function, **loops.FLAGS))
    expected = [function(a, b, c) for a, b, c in zip(A, B, C, strict=True)]
    np.testing.assert_allclose(applied(lambda a, b, c: found(a, b, c), A, B, C), expected, 1e-14)
