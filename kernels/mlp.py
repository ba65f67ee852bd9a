"""Multi-layer perceptrons of any depth: ReLU, tanh or logistic units, with any loss.

Rules: layer i, counted from 0, has `layer<i>/weights` (out, in) and `layer<i>/bias` (out,). The
penalty spares the biases. The tape holds each layer's input, and for a hidden layer's units the
slope of what becomes of them. Nothing of size (rows, P) is made but by `gradients`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from kernels import counters, losses
from kernels.contract import Array, Defaults, Layout, Parameters, Problem
from kernels.losses import LossOptions
from kernels.optimizers import check_not_negative, check_share

WIDEST = 100_000
"""A wider hidden layer is a slip of the pen: two of them would be 80 GB of weights."""


@dataclass(frozen=True, slots=True)
class MlpOptions(LossOptions):
    """Settings of the MLP; `hidden` gives each hidden layer's width, the first next to the rows.

    `dropout` is the share of hidden units that a step leaves out, at random. The penalty is
    l1 · |weights|₁ + l2/2 · |weights|²; the small one by default is scikit-learn's: on MNIST it is
    worth 0.2 % of accuracy.
    """

    loss: str = "softmax"
    hidden: tuple[int, ...] = (128,)
    activation: Literal["relu", "tanh", "logistic"] = "relu"
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 1e-4

    def __post_init__(self) -> None:
        LossOptions.__post_init__(self)
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON only knows lists
        if not self.hidden or min(self.hidden) < 1 or max(self.hidden) > WIDEST:
            rule = f"must be one or more widths of 1 to {WIDEST}"
            raise ValueError(f"hidden: {rule}, got {list(self.hidden)}")
        check_share(self, "dropout")
        check_not_negative(self, "l1", "l2")


class Mlp:
    """Fully connected layers; backpropagation after Rumelhart, Hinton & Williams, Nature 323, 1986."""

    Options: ClassVar[type] = MlpOptions
    wide = "layer0/weights"

    def __init__(self, options: MlpOptions, features: int, outputs: int) -> None:
        self.l1 = options.l1
        self.l2 = options.l2
        self.loss = losses.chosen(options)
        self.seed = 0
        self.draws = options.dropout > 0
        self._dropout = options.dropout
        self._activation = options.activation
        self._widths = (features, *options.hidden, outputs)
        self._layers = [f"layer{i}" for i in range(len(options.hidden) + 1)]
        self.penalised = tuple(f"{layer}/weights" for layer in self._layers)

    @classmethod
    def problem(cls, options: MlpOptions) -> Problem:
        """By the loss."""
        return losses.problem_of(options)

    @classmethod
    def defaults(cls, options: MlpOptions) -> Defaults:
        """One lane of small steps: what a step of 128 rows learns in a file of some thousand is far less.

        AdaGrad learns far more from the first thousand rows than Adam does, and as much from many.
        """
        return Defaults(32, 1, 256, "float32", "adagrad", learning_rate=0.02)

    def init(self, generator: np.random.Generator) -> Parameters:
        """Normal weights of variance 2/in for ReLU (He et al., ICCV 2015), 2/(in+out) for others and
        for the output (Glorot & Bengio, AISTATS 2010); biases 0."""
        parameters: Parameters = {}
        for i, layer in enumerate(self._layers):
            into, out = self._widths[i], self._widths[i + 1]
            he = self._activation == "relu" and i + 1 < len(self._layers)
            deviation = np.sqrt(2 / into if he else 2 / (into + out))
            parameters[f"{layer}/weights"] = generator.normal(0.0, deviation, (out, into))
            parameters[f"{layer}/bias"] = np.zeros(out)
        return parameters

    def forward(
        self, parameters: Parameters, x: Array, numbers: Array | None = None
    ) -> tuple[Array, _Tape]:
        """Layer after layer; the last has no activation. With `numbers` (n,) units are dropped: a
        unit that stays counts 1/(1 - dropout) (Srivastava et al., JMLR 15, 2014)."""
        output, tape = self.rest(parameters, x @ parameters[self.wide].T, numbers)
        tape.inputs[0] = x
        return output, tape

    def rest(
        self, parameters: Parameters, sums: Array, numbers: Array | None
    ) -> tuple[Array, _Tape]:
        """The outputs from the first layer's weights · x, which may come from elsewhere."""
        inputs, slopes = [sums], []
        sums = sums + parameters["layer0/bias"]
        for i, layer in enumerate(self._layers[1:]):
            hidden, slope = _activated(self._activation, sums)
            if numbers is not None and self.draws:
                stays = counters.shares(self.seed, i, numbers, hidden.shape[1]) >= self._dropout
                factor = stays * hidden.dtype.type(1 / (1 - self._dropout))
                hidden, slope = hidden * factor, slope * factor
            inputs.append(hidden)
            slopes.append(slope)
            sums = hidden @ parameters[f"{layer}/weights"].T
            sums += parameters[f"{layer}/bias"]
        return sums, _Tape(inputs, slopes)

    def pull(
        self, parameters: Parameters, tape: _Tape, residual: Array
    ) -> tuple[Array, Parameters]:
        """The derivative by those sums (n, m), and the gradient of all that is not `layer0/weights`."""
        gradient: Parameters = {}
        first = residual
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            if layer != "layer0":
                gradient[f"{layer}/weights"] = delta.T @ inputs
            gradient[f"{layer}/bias"] = delta.sum(axis=0)
            first = delta
        return first, gradient

    def pull_rows(
        self, parameters: Parameters, tape: _Tape, residual: Array
    ) -> tuple[Array, Parameters]:
        """As `pull`, but row by row: (n, size) of each parameter."""
        gradient: Parameters = {}
        first = residual
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            if layer != "layer0":
                outer = delta[:, :, None] * inputs[:, None, :]
                gradient[f"{layer}/weights"] = outer.reshape(len(delta), -1)
            gradient[f"{layer}/bias"] = delta
            first = delta
        return first, gradient

    def backward(self, parameters: Parameters, tape: _Tape, residual: Array) -> Parameters:
        """weights: Σ delta ⊗ input; bias: Σ delta."""
        gradient: Parameters = {}
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            gradient[f"{layer}/weights"] = delta.T @ inputs
            gradient[f"{layer}/bias"] = delta.sum(axis=0)
        return gradient

    def norms(self, parameters: Parameters, tape: _Tape, residual: Array) -> Array:
        """√ Σ_layers |delta|² (1 + |input|²), since a layer's gradient is delta ⊗ (1, input).
        Source: Goodfellow, Efficient per-example gradient computations, arXiv 1510.01799."""
        return self.norms_by(parameters, tape, residual, _squares(tape.inputs[0]))

    def norms_by(
        self, parameters: Parameters, tape: _Tape, residual: Array, squares: Array
    ) -> Array:
        """As `norms`, where the rows' |x|² (n,) is known."""
        total = np.zeros(len(residual))
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            total += _squares(delta) * (1.0 + (squares if layer == "layer0" else _squares(inputs)))
        return np.asarray(np.sqrt(total))

    def gradients(self, parameters: Parameters, tape: _Tape, residual: Array) -> Array:
        """Each row's gradient, whole."""
        parts: Parameters = {}
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            outer = delta[:, :, None] * inputs[:, None, :]
            parts[f"{layer}/weights"] = outer.reshape(len(delta), -1)
            parts[f"{layer}/bias"] = delta
        return np.hstack([parts[name] for name in sorted(parts)])

    def factors(self, parameters: Parameters, tape: _Tape, residual: Array) -> dict[str, Array]:
        """Each layer's `input` (n, in) and `delta` (n, out): the gradient of a row's weights is
        delta ⊗ input, of its biases delta."""
        found: dict[str, Array] = {}
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            found[f"{layer}/delta"] = delta
            found[f"{layer}/input"] = inputs
        return found

    def factors_layout(self, rows: int) -> Layout:
        """Shapes and dtypes of what `factors` gives of so many rows."""
        found: Layout = {}
        for i, layer in enumerate(self._layers):
            found[f"{layer}/delta"] = ((rows, self._widths[i + 1]), "float64")
            found[f"{layer}/input"] = ((rows, self._widths[i]), "float64")
        return found

    def coefficients(self, parameters: Parameters) -> None:
        """There are none."""
        return None

    def _deltas(
        self, parameters: Parameters, tape: _Tape, residual: Array
    ) -> Iterator[tuple[str, Array, Array]]:
        """From the last layer to the first: its name, its inputs, the loss by its outputs (n, out)."""
        delta = residual.astype(tape.inputs[0].dtype, copy=False)
        for i in reversed(range(len(self._layers))):
            yield self._layers[i], tape.inputs[i], delta
            if i > 0:
                delta = (delta @ parameters[f"{self._layers[i]}/weights"]) * tape.slopes[i - 1]


class _Tape(NamedTuple):
    """Each layer's input (n, in), and each hidden layer's slopes (n, out)."""

    inputs: list[Array]
    slopes: list[Array]


def _activated(activation: str, hidden: Array) -> tuple[Array, Array]:
    """What units make of their sums (n, out), and its derivative."""
    if activation == "relu":
        return np.maximum(hidden, 0, out=hidden), hidden > 0
    if activation == "tanh":
        hidden = np.tanh(hidden, out=hidden)
        return hidden, 1 - hidden * hidden
    hidden = losses.logistic_link(hidden)
    return hidden, hidden * (1 - hidden)


def _squares(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))
