"""Factorisations: machines for products of features, and matrices for users and items.

Rules: random numbers only for the first factors, from the generator of `init`. The penalty is for
weights and factors, and spares intercepts and biases. Sums over rows are in the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from kernels import counters, losses
from kernels.contract import Array, Defaults, Parameters, Problem
from kernels.losses import LossOptions
from kernels.optimizers import check_not_negative, check_positive

MOST_FACTORS = 1000


def _check_factors(factors: int) -> None:
    if not 1 <= factors <= MOST_FACTORS:
        raise ValueError(f"factors: must be from 1 to {MOST_FACTORS}, got {factors}")


def _check_one_output(options: LossOptions) -> None:
    if options.loss == "softmax":
        raise ValueError("loss: must have one output: softmax has one for each class")


@dataclass(frozen=True, slots=True)
class MachineOptions(LossOptions):
    """Settings of the factorisation machine: each feature has `factors` numbers beside its weight."""

    factors: int = 8
    l1: float = 0.0
    l2: float = 1e-4

    def __post_init__(self) -> None:
        LossOptions.__post_init__(self)
        _check_one_output(self)
        _check_factors(self.factors)
        check_not_negative(self, "l1", "l2")


class FactorisationMachine:
    """o = b + Σ_i w_i x_i + Σ_{i<j} (v_i · v_j) x_i x_j.

    Source: Rendle, Factorization Machines, ICDM 2010; the pairs cost no more than their factors, as
    ½ Σ_d ((Σ_i v_id x_i)² - Σ_i v_id² x_i²). Parameters: `bias` (1,), `factors` (f, d), `weights` (f,).
    """

    Options: ClassVar[type] = MachineOptions
    penalised: tuple[str, ...] = ("factors", "weights")

    def __init__(self, options: MachineOptions, features: int, outputs: int) -> None:
        self.loss = losses.chosen(options)
        self.l1, self.l2 = options.l1, options.l2
        self._shape = (features, options.factors)

    @classmethod
    def problem(cls, options: MachineOptions) -> Problem:
        """By the loss."""
        return losses.problem_of(options)

    @classmethod
    def defaults(cls, options: MachineOptions) -> Defaults:
        """Small batches: enough for numpy, and few enough to learn from a stream."""
        return Defaults(16, 1, 512, "float64", "adagrad", learning_rate=0.05)

    def init(self, generator: np.random.Generator) -> Parameters:
        """Factors normal with deviation 0.01: at 0 they would never move."""
        return {
            "bias": np.zeros(1),
            "factors": generator.normal(0.0, 0.01, self._shape),
            "weights": np.zeros(self._shape[0]),
        }

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, tuple[Array, Array]]:
        """Outputs (n, 1); the tape is x and the factors' sums Σ_i v_id x_i (n, d)."""
        factors = parameters["factors"]
        sums = x @ factors
        pairs = 0.5 * ((sums * sums).sum(axis=1) - (x * x) @ (factors * factors).sum(axis=1))
        return (parameters["bias"] + x @ parameters["weights"] + pairs)[:, None], (x, sums)

    def backward(
        self, parameters: Parameters, tape: tuple[Array, Array], residual: Array
    ) -> Parameters:
        """factors: Σ r x_i (s_d - v_id x_i); weights: Σ r x; bias: Σ r."""
        x, sums = tape
        r = residual[:, 0].astype(x.dtype, copy=False)
        squares = (r @ (x * x))[:, None] * parameters["factors"]
        factors = (x * r[:, None]).T @ sums - squares
        return {"bias": r.sum(keepdims=True), "factors": factors, "weights": r @ x}

    def norms(self, parameters: Parameters, tape: tuple[Array, Array], residual: Array) -> Array:
        """√ of 1 + Σ x_i² + Σ_id x_i² (s_d - v_id x_i)², times |r|; the last sum by its three parts."""
        x, sums = tape
        v, squares = parameters["factors"], x * x
        inner = squares.sum(axis=1) * (sums * sums).sum(axis=1)
        inner += (squares * squares) @ (v * v).sum(axis=1)
        inner -= 2.0 * ((squares * x) @ v * sums).sum(axis=1)
        total = 1.0 + squares.sum(axis=1) + np.maximum(inner, 0.0)
        return np.asarray(np.abs(residual[:, 0]) * np.sqrt(total))

    def gradients(
        self, parameters: Parameters, tape: tuple[Array, Array], residual: Array
    ) -> Array:
        """Each row's gradient, whole: bias, factors, weights."""
        x, sums = tape
        factors = x[:, :, None] * (sums[:, None, :] - parameters["factors"] * x[:, :, None])
        whole = [np.ones((len(x), 1)), factors.reshape(len(x), -1), x]
        return np.asarray(residual * np.hstack(whole))

    def coefficients(self, parameters: Parameters) -> None:
        """The outputs are not linear in x."""
        return None


@dataclass(frozen=True, slots=True)
class MatrixOptions(LossOptions):
    """Settings of the matrix factorisation: tables of 2^bits users and as many items."""

    factors: int = 16
    bits: int = 14
    l1: float = 0.0
    l2: float = 0.0
    start: float = 0.1

    def __post_init__(self) -> None:
        LossOptions.__post_init__(self)
        _check_one_output(self)
        _check_factors(self.factors)
        if not 1 <= self.bits <= 24:
            raise ValueError(f"bits: must be from 1 to 24, got {self.bits}")
        check_positive(self, "start")
        check_not_negative(self, "l1", "l2")


class _Met(NamedTuple):
    """The rows of the tables that samples meet (n,), and the factors that stand there (n, d)."""

    users: Array
    items: Array
    p: Array
    q: Array


class MatrixFactorisation:
    """o = b + b_user + b_item + p_user · q_item, from rows of (user, item).

    Source: Koren, Bell & Volinsky, Computer 42, 2009. Users and items are numbers. Each has the row
    of its table that a hash of its number says, so that new ones are met as they come, nothing grows,
    and every process finds the same row; of m ids about m²/2^(bits+1) pairs share one (Weinberger et
    al., ICML 2009). Parameters: `bias` (1,), `item/bias`, `user/bias` (2^bits,), `item/factors`,
    `user/factors` (2^bits, d). The features are not scaled.
    """

    Options: ClassVar[type] = MatrixOptions
    penalised: tuple[str, ...] = ("item/factors", "user/factors")
    takes_ids = True

    def __init__(self, options: MatrixOptions, features: int, outputs: int) -> None:
        if features != 2:
            raise ValueError(f"the features are the user and the item, got {features} columns")
        self.loss = losses.chosen(options)
        self.l1, self.l2 = options.l1, options.l2
        self._size, self._factors, self._start = 1 << options.bits, options.factors, options.start

    @classmethod
    def problem(cls, options: MatrixOptions) -> Problem:
        """By the loss."""
        return losses.problem_of(options)

    @classmethod
    def defaults(cls, options: MatrixOptions) -> Defaults:
        """Batches of many rows: a step goes over the tables, whatever it moves."""
        rate = 0.1
        return Defaults(256, 1, 64, "float64", "adagrad", rate, standardise=False)

    def init(self, generator: np.random.Generator) -> Parameters:
        """Factors normal with deviation start/√d, biases 0."""
        shape, deviation = (self._size, self._factors), self._start / np.sqrt(self._factors)
        return {
            "bias": np.zeros(1),
            "item/bias": np.zeros(self._size),
            "item/factors": generator.normal(0.0, deviation, shape),
            "user/bias": np.zeros(self._size),
            "user/factors": generator.normal(0.0, deviation, shape),
        }

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, _Met]:
        """Outputs (n, 1); the tape is what the rows met."""
        users, items = (self._place(x[:, column], column) for column in (0, 1))
        p, q = parameters["user/factors"][users], parameters["item/factors"][items]
        output = (
            parameters["bias"] + parameters["user/bias"][users] + parameters["item/bias"][items]
        )
        output += np.einsum("nd,nd->n", p, q)
        return output[:, None], _Met(users, items, p, q)

    def backward(self, parameters: Parameters, tape: _Met, residual: Array) -> Parameters:
        """Sums in the order of the rows, at the places that they met."""
        r = residual[:, 0]
        found = {name: np.zeros_like(value) for name, value in parameters.items()}
        found["bias"][0] = r.sum()
        for name, places, others in (
            ("item", tape.items, tape.p),
            ("user", tape.users, tape.q),
        ):
            np.add.at(found[f"{name}/bias"], places, r)
            np.add.at(found[f"{name}/factors"], places, r[:, None] * others)
        return found

    def norms(self, parameters: Parameters, tape: _Met, residual: Array) -> Array:
        """|r| √(3 + |p|² + |q|²): a row's gradient has those parts alone."""
        inner = np.einsum("nd,nd->n", tape.p, tape.p) + np.einsum("nd,nd->n", tape.q, tape.q)
        return np.asarray(np.abs(residual[:, 0]) * np.sqrt(3.0 + inner))

    def gradients(self, parameters: Parameters, tape: _Met, residual: Array) -> Array:
        """Each row's gradient, whole: nearly all of it zeros."""
        found = []
        for i in range(len(residual)):
            one = _Met(*(array[i : i + 1] for array in tape))
            parts = self.backward(parameters, one, residual[i : i + 1])
            found.append(np.concatenate([parts[name].ravel() for name in sorted(parts)]))
        return np.array(found)

    def coefficients(self, parameters: Parameters) -> None:
        """The outputs are not linear in the ids."""
        return None

    def _place(self, ids: Array, column: int) -> Array:
        """The rows (n,) of ids in their table; users and items are hashed apart."""
        plain = np.ascontiguousarray(ids, np.float64) + 0.0  # -0 is 0
        bits = counters.mixed(plain.view(np.uint64) ^ np.uint64(column))
        return (bits & np.uint64(self._size - 1)).astype(np.intp)
