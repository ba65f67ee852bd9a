"""L-BFGS: steps by the gradient of a whole file, for `train` with several epochs.

Rules: those of `rules`. A pass over a file adds up the loss f and its gradient at one trial point; the
file's end takes the step. The first pass only learns how features and labels are scaled: from then on
that stays as it is, since a function that changes can't be minimised. The parameters are the best
point so far; the trial point is what rows are scored by.

    trial: f ≤ f₀ + 10⁻⁴ t d·g₀ ?   ─ yes ─▶ it becomes the point, d ← -H g by two loops, t ← 1
                                    ╰ no ──▶ t ← a shorter one by a parabola, the same d

Source: Liu & Nocedal, Mathematical Programming 45, 1989; the line search is Armijo's (Nocedal & Wright,
Numerical Optimization, 2006, 3.1 and 7.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.contract import Array, Kernel, Layout, Parameters, State
from kernels.rules import Batch, Entry, Rule, Shapes, penalty

MOST_MEMORY = 100
_FALL, _TINY, _CURVED = 1e-4, 1e-10, 1e-10
SCALING, FIRST, SEARCHING, DONE = range(4)
"""What the pass under way is for."""


@dataclass(frozen=True, slots=True)
class LbfgsOptions:
    """Settings of `lbfgs`: how many steps back it remembers."""

    memory: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.memory <= MOST_MEMORY:
            raise ValueError(f"memory: must be from 1 to {MOST_MEMORY}, got {self.memory}")


class Lbfgs(Rule):
    """The rule of `lbfgs`. Vectors (P,) are all parameters end to end, in the order of their names."""

    ends_files = True

    def __init__(self, kernel: Kernel, shapes: Shapes, dtype: str, options: LbfgsOptions) -> None:
        super().__init__(kernel, shapes, dtype, options)
        self._size = sum(int(np.prod(shape)) for shape in shapes.values())

    def layout(self) -> Layout:
        vector = ((self._size,), "float64")
        history = ((self.options.memory, self._size), "float64")
        found: Layout = {
            "optimizer/direction": vector,
            "optimizer/gradient": vector,
            "optimizer/history/gradients": history,
            "optimizer/history/steps": history,
            "optimizer/phase": ((1,), "int64"),
            "optimizer/remembered": ((1,), "int64"),
            "optimizer/search": ((3,), "float64"),
            "optimizer/sums/loss": ((2,), "float64"),
            "optimizer/sums/gradient": vector,
        }
        for name, shape in self.shapes.items():
            found[f"optimizer/trial/{name}"] = (shape, self.dtype)
        return found

    def init(self, state: State) -> None:
        self._set(state, "optimizer/trial", self._flat(state, "parameters"))

    def watches(self, state: State) -> bool:
        """Whether moments are still taken in."""
        return int(state["optimizer/phase"][0]) == SCALING

    def scoring(self, state: State) -> Parameters:
        return {name: state[f"optimizer/trial/{name}"] for name in self.shapes}

    def sums_layout(self) -> Layout:
        found: Layout = {"loss": ((1,), "float64")}
        return found | {f"gradient/{n}": (s, self.dtype) for n, s in self.shapes.items()}

    def sums(self, state: State, batch: Batch, rate: float) -> State:
        aim = batch.aim
        gradient = self.kernel.backward(batch.parameters, batch.tape, aim.residual(batch.raw))
        found = {f"gradient/{name}": value for name, value in gradient.items()}
        return found | {"loss": np.array([aim.values(batch.raw).sum()])}

    def step(self, state: State, sums: State, rows: int, rate: float) -> None:
        """Adds a batch; the step is taken at the file's end."""
        total = np.concatenate([np.ravel(sums[f"gradient/{name}"]) for name in self.shapes])
        state["optimizer/sums/gradient"][...] += total
        state["optimizer/sums/loss"][...] += (sums["loss"][0], rows)

    def end_file(self, state: State) -> None:
        """What a whole pass has told becomes the next trial point."""
        phase = int(state["optimizer/phase"][0])
        value, gradient = self._evaluated(state)
        if phase == SCALING:
            phase = FIRST
        elif phase == FIRST or (phase == SEARCHING and self._falls(state, value)):
            self._accept(state, value, gradient, is_first=phase == FIRST)
            phase = SEARCHING if np.abs(gradient).max() > _TINY else DONE
        elif phase == SEARCHING:
            phase = self._shorten(state, value)
        state["optimizer/phase"][0] = phase
        state["optimizer/sums/gradient"][...] = 0
        state["optimizer/sums/loss"][...] = 0

    def _evaluated(self, state: State) -> tuple[float, Array]:
        """The mean loss and its gradient (P,) at the trial point, with the penalty."""
        loss, rows = state["optimizer/sums/loss"]
        theta = self._flat(state, "optimizer/trial")
        l2 = np.concatenate(
            [np.full(int(np.prod(s)), penalty(self.kernel, n)[1]) for n, s in self.shapes.items()]
        )
        rows = max(rows, 1.0)
        value = float(loss / rows + 0.5 * (l2 * theta * theta).sum())
        return value, state["optimizer/sums/gradient"] / rows + l2 * theta

    def _falls(self, state: State, value: float) -> bool:
        before, slope, length = state["optimizer/search"]
        return bool(value <= before + _FALL * length * slope)

    def _accept(self, state: State, value: float, gradient: Array, is_first: bool) -> None:
        trial, point = self._flat(state, "optimizer/trial"), self._flat(state, "parameters")
        if not is_first:
            self._remember(state, trial - point, gradient - state["optimizer/gradient"])
        self._set(state, "parameters", trial)
        state["optimizer/gradient"][...] = gradient
        direction = -self._inverse_times(state, gradient)
        slope = float(direction @ gradient)
        if slope >= 0:  # rounding has spoilt the history
            state["optimizer/remembered"][0] = 0
            direction, slope = -gradient, -float(gradient @ gradient)
        length = min(1.0, 1.0 / max(np.abs(gradient).sum(), _TINY)) if is_first else 1.0
        state["optimizer/direction"][...] = direction
        state["optimizer/search"][...] = (value, slope, length)
        self._set(state, "optimizer/trial", trial + length * direction)

    def _shorten(self, state: State, value: float) -> int:
        """A shorter step along the same direction: to the lowest point of a parabola, within bounds."""
        before, slope, length = state["optimizer/search"]
        rise = value - before - slope * length
        best = -slope * length * length / (2.0 * rise) if np.isfinite(rise) and rise > 0 else 0.0
        shorter = float(np.clip(best, 0.1 * length, 0.5 * length))
        state["optimizer/search"][2] = shorter
        point = self._flat(state, "parameters")
        if shorter < _TINY:
            self._set(state, "optimizer/trial", point)
            return DONE
        self._set(state, "optimizer/trial", point + shorter * state["optimizer/direction"])
        return SEARCHING

    def _remember(self, state: State, step: Array, change: Array) -> None:
        """The newest pair stands last; one without curvature is not kept."""
        if step @ change <= _CURVED * (change @ change):
            return
        for name, value in (("steps", step), ("gradients", change)):
            history = state[f"optimizer/history/{name}"]
            history[:-1] = history[1:].copy()
            history[-1] = value
        remembered = state["optimizer/remembered"]
        remembered[0] = min(int(remembered[0]) + 1, self.options.memory)

    def _inverse_times(self, state: State, gradient: Array) -> Array:
        """H g by two loops over the history."""
        count = int(state["optimizer/remembered"][0])
        steps = state["optimizer/history/steps"][self.options.memory - count :]
        changes = state["optimizer/history/gradients"][self.options.memory - count :]
        q, shares = gradient.copy(), np.zeros(count)
        for i in reversed(range(count)):
            shares[i] = (steps[i] @ q) / (steps[i] @ changes[i])
            q -= shares[i] * changes[i]
        if count:
            q *= (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
        for i in range(count):
            q += steps[i] * (shares[i] - (changes[i] @ q) / (steps[i] @ changes[i]))
        return q

    def _flat(self, state: State, kind: str) -> Array:
        parts = [state[f"{kind}/{name}"].ravel() for name in self.shapes]
        return np.concatenate(parts).astype(np.float64)

    def _set(self, state: State, kind: str, flat: Array) -> None:
        at = 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            state[f"{kind}/{name}"][...] = flat[at : at + size].reshape(shape)
            at += size


def _misfit(kernel: Any) -> str | None:
    if getattr(kernel, "l1", 0.0) > 0:
        return "lbfgs knows no l1"
    if getattr(kernel, "draws", False):
        return "lbfgs minimises a function that stays the same, and dropout changes it"
    return None


LBFGS = Entry(LbfgsOptions, Lbfgs, _misfit)
