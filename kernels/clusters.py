"""Mini-batch k-means: centres that move to the mean of the rows that are nearest to them.

Rules: those of `contract` and `rules`. The centres are chosen among the first distinct rows, by
k-means++; before there are any, a row's distance is that to the origin. Ties go to the first centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels import counters
from kernels.contract import Array, Defaults, Domain, Kernel, Layout, Parameters, Problem, State
from kernels.losses import Scale
from kernels.rules import Batch, Entry, Rule, Shapes
from kernels.scaling import kept

MOST_CLUSTERS = 10_000
POOL = 16
"""Rows that are looked at to choose a centre: so many for each."""


@dataclass(frozen=True, slots=True)
class KMeansOptions:
    """Settings of `kmeans`: how many centres there are."""

    clusters: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.clusters <= MOST_CLUSTERS:
            raise ValueError(f"clusters: must be from 2 to {MOST_CLUSTERS}, got {self.clusters}")


class Nearest:
    """The squared distance to the nearest centre, of outputs (n, k) that are squared distances.

    domain: no label at all; link: the nearest centre's index; formula: min_j o_j; gradient: 1 for the
    nearest, else 0. Source: Lloyd, IEEE Trans. Inf. Theory 28, 1982.
    """

    name = "nearest"
    problem: Problem = "clustering"
    domain = Domain()
    scale: Scale = "none"
    is_likelihood = False

    def value(self, output: Array, y: Array) -> Array:
        """(n,) float64."""
        return np.asarray(output.min(axis=1), np.float64)

    def residual(self, output: Array, y: Array) -> Array:
        """(n, k) float64."""
        residual = np.zeros(output.shape)
        residual[np.arange(len(output)), output.argmin(axis=1)] = 1.0
        return residual

    def link(self, output: Array) -> Array:
        """(n,) float64: which centre is nearest, counted from 0."""
        return np.asarray(output.argmin(axis=1), np.float64)

    def floor(self, y: Array) -> Array:
        """(n,) zeros."""
        return np.zeros(len(y))


class KMeans:
    """Parameters: `centres` (k, f), the origin until they are chosen."""

    Options: ClassVar[type] = KMeansOptions
    loss = Nearest()
    l2 = 0.0
    penalised: tuple[str, ...] = ()
    seed = 0

    def __init__(self, options: KMeansOptions, features: int, outputs: int) -> None:
        self._shape = (options.clusters, features)

    @classmethod
    def problem(cls, options: KMeansOptions) -> Problem:
        """Clustering."""
        return "clustering"

    @classmethod
    def defaults(cls, options: KMeansOptions) -> Defaults:
        """Batches of many rows, each centre with a rate of its own."""
        return Defaults(256, 1, 32, "float64", "counting")

    def init(self, generator: np.random.Generator) -> Parameters:
        """No centre yet: the rows bring them."""
        return {"centres": np.zeros(self._shape)}

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, Array]:
        """Squared distances (n, k), by differences, so that a row on a centre is at 0 from it."""
        output = np.empty((len(x), self._shape[0]))
        for j, centre in enumerate(parameters["centres"]):
            apart = x - centre
            output[:, j] = np.einsum("nf,nf->n", apart, apart)
        return output, x

    def backward(self, parameters: Parameters, tape: Array, residual: Array) -> Parameters:
        """centres: Σ r_j 2 (c_j - x)."""
        residual = residual.astype(tape.dtype, copy=False)
        pull = residual.sum(axis=0)[:, None] * parameters["centres"] - residual.T @ tape
        return {"centres": 2.0 * pull}

    def norms(self, parameters: Parameters, tape: Array, residual: Array) -> Array:
        """√ Σ_j r_j² 4 |c_j - x|²; the residual says which are near."""
        total = np.zeros(len(tape))
        for j, centre in enumerate(parameters["centres"]):
            apart = tape - centre
            total += 4.0 * residual[:, j] ** 2 * np.einsum("nf,nf->n", apart, apart)
        return np.asarray(np.sqrt(total))

    def gradients(self, parameters: Parameters, tape: Array, residual: Array) -> Array:
        """Each row's gradient, whole."""
        pull = 2.0 * residual[:, :, None] * (parameters["centres"] - tape[:, None, :])
        return np.asarray(pull.reshape(len(tape), -1))

    def coefficients(self, parameters: Parameters) -> None:
        """There are none."""
        return None


@dataclass(frozen=True, slots=True)
class CountingOptions:
    """Settings of `counting`; after `half_life` rows a row counts half, so that centres follow a drift."""

    half_life: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.half_life < float("inf"):
            raise ValueError(f"half_life: must be 0 or greater, and finite, got {self.half_life}")


class Counting(Rule):
    """The rule of k-means: each centre goes to the mean of its rows, the batch's and those before.

    c ← c + (Σ w x - n c) / (N + n), N ← N + n, with n = Σ w of the centre's rows in the batch. Source:
    Sculley, Web-Scale K-Means Clustering, WWW 2010, with a batch's rows taken together. As long as
    there are no centres, `observe` collects distinct rows, and the first step that has as many as
    centres chooses among them. `optimizer/weight` is N; centres have been chosen once it isn't 0.
    """

    observed = ("optimizer/pool", "optimizer/pooled")

    def __init__(
        self, kernel: Kernel, shapes: Shapes, dtype: str, options: CountingOptions
    ) -> None:
        super().__init__(kernel, shapes, dtype, options)
        self._shape = shapes["centres"]

    def layout(self) -> Layout:
        k, features = self._shape
        return {
            "optimizer/pool": ((POOL * k, features), self.dtype),
            "optimizer/pooled": ((1,), "int64"),
            "optimizer/weight": ((k,), "float64"),
        }

    def observe(self, state: State, z: Array, w: Array) -> None:
        pool, pooled = state["optimizer/pool"], state["optimizer/pooled"]
        if state["optimizer/weight"].any() or pooled[0] == len(pool):
            return
        known = {row.tobytes() for row in pool[: pooled[0]]}
        for row in z[w > 0]:
            if row.tobytes() not in known and pooled[0] < len(pool):
                known.add(row.tobytes())
                pool[pooled[0]] = row
                pooled[0] += 1

    def sums_layout(self) -> Layout:
        return {"rows": (self._shape, "float64"), "weight": ((self._shape[0],), "float64")}

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        own = self.kernel.loss.residual(batch.raw, batch.aim.y) * batch.aim.w[:, None]
        return {"rows": own.T @ batch.z.astype(np.float64), "weight": own.sum(axis=0)}

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        weight, centres = state["optimizer/weight"], state["parameters/centres"]
        if not weight.any():
            pool = state["optimizer/pool"][: state["optimizer/pooled"][0]]
            if len(pool) >= len(centres):
                centres[...] = spread_out(pool.astype(np.float64), len(centres), self.kernel.seed)
                weight[...] = 1.0
            return
        weight *= kept(self.options.half_life, rows)
        weight += sums["weight"]
        moved = sums["rows"] - sums["weight"][:, None] * centres
        shares = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
        centres += (rate * shares[:, None] * moved).astype(centres.dtype)


def spread_out(rows: Array, count: int, seed: int) -> Array:
    """Centres (count, f) among distinct rows (n, f): of a few rows, drawn by their squared distance from
    the centres so far, the one that leaves least of it. Source: greedy k-means++ (Arthur &
    Vassilvitskii, SODA 2007, 5)."""
    trials = 2 + int(math.log(count))
    draws = counters.shares(seed, 0, np.arange(count), trials)
    chosen = [rows[int(draws[0, 0] * len(rows))]]
    apart = np.square(rows - chosen[0]).sum(axis=1)
    for own in draws[1:]:
        ends = np.cumsum(apart)
        places = np.searchsorted(ends, own * ends[-1], side="right")
        left = [np.minimum(apart, np.square(rows - rows[place]).sum(axis=1)) for place in places]
        best = int(np.argmin([part.sum() for part in left]))
        chosen.append(rows[places[best]])
        apart = left[best]
    return np.array(chosen)


def _misfit(kernel: Any) -> str | None:
    if isinstance(kernel, KMeans):
        return None
    return "counting goes with the kernel kmeans only"


COUNTING = Entry(CountingOptions, Counting, _misfit)
