"""Multi-layer perceptrons of any depth: ReLU or tanh, with softmax, logistic or squared output.

Rules: layer i, counted from 0, has `layer<i>/weights` (out, in) and `layer<i>/bias` (out,). The
penalty spares the biases. The tape is each layer's input. Nothing of size (rows, P) is made but
by `gradients`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from kernels.contract import Array, Defaults, Loss, Parameters, Problem
from kernels.losses import LogisticLoss, SoftmaxLoss, Squared

_OUTPUTS: dict[str, tuple[Problem, Loss]] = {
    "softmax": ("multiclass", SoftmaxLoss()),
    "logistic": ("binary", LogisticLoss()),
    "squared": ("regression", Squared()),
}

WIDEST = 100_000
"""A wider hidden layer is a slip of the pen: two of them would be 80 GB of weights."""


@dataclass(frozen=True, slots=True)
class MlpOptions:
    """Settings of the MLP; `hidden` gives each hidden layer's width, the first next to the rows.

    The small penalty is scikit-learn's: on MNIST it is worth 0.2 % of accuracy.
    """

    hidden: tuple[int, ...] = (128,)
    activation: Literal["relu", "tanh"] = "relu"
    output: Literal["softmax", "logistic", "squared"] = "softmax"
    l2: float = 1e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON only knows lists
        if not self.hidden or min(self.hidden) < 1 or max(self.hidden) > WIDEST:
            rule = f"must be one or more widths of 1 to {WIDEST}"
            raise ValueError(f"hidden: {rule}, got {self.hidden}")
        if not 0 <= self.l2 < float("inf"):
            raise ValueError(f"l2: must be 0 or greater, and finite, got {self.l2}")


class Mlp:
    """Fully connected layers; backpropagation after Rumelhart, Hinton & Williams, Nature 323, 1986."""

    Options: ClassVar[type] = MlpOptions

    def __init__(self, options: MlpOptions, features: int, outputs: int) -> None:
        self.l2 = options.l2
        self.loss = _OUTPUTS[options.output][1]
        self._tanh = options.activation == "tanh"
        self._widths = (features, *options.hidden, outputs)
        self._layers = [f"layer{i}" for i in range(len(options.hidden) + 1)]
        self.penalised = tuple(f"{layer}/weights" for layer in self._layers)

    @classmethod
    def problem(cls, options: MlpOptions) -> Problem:
        """By the output's loss."""
        return _OUTPUTS[options.output][0]

    @classmethod
    def defaults(cls, options: MlpOptions) -> Defaults:
        """Four lanes of one batch each: the exact gradient of a round, and work for four cores.

        AdaGrad learns far more from the first thousand rows than Adam does, and as much from many.
        """
        return Defaults(32, 4, 1, "float32", "adagrad", learning_rate=0.03)

    def init(self, generator: np.random.Generator) -> Parameters:
        """Normal weights of variance 2/in for ReLU (He et al., ICCV 2015), 2/(in+out) for tanh and
        for the output (Glorot & Bengio, AISTATS 2010); biases 0."""
        parameters: Parameters = {}
        for i, layer in enumerate(self._layers):
            into, out = self._widths[i], self._widths[i + 1]
            he = not self._tanh and i + 1 < len(self._layers)
            deviation = np.sqrt(2 / into if he else 2 / (into + out))
            parameters[f"{layer}/weights"] = generator.normal(0.0, deviation, (out, into))
            parameters[f"{layer}/bias"] = np.zeros(out)
        return parameters

    def forward(self, parameters: Parameters, x: Array) -> tuple[Array, list[Array]]:
        """Layer after layer; the last has no activation."""
        tape = [x]
        for layer in self._layers[:-1]:
            hidden = _affine(parameters, layer, tape[-1])
            tape.append(np.tanh(hidden, out=hidden) if self._tanh else _relu(hidden))
        return _affine(parameters, self._layers[-1], tape[-1]), tape

    def backward(self, parameters: Parameters, tape: list[Array], residual: Array) -> Parameters:
        """weights: Σ delta ⊗ input; bias: Σ delta."""
        gradient: Parameters = {}
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            gradient[f"{layer}/weights"] = delta.T @ inputs
            gradient[f"{layer}/bias"] = delta.sum(axis=0)
        return gradient

    def norms(self, parameters: Parameters, tape: list[Array], residual: Array) -> Array:
        """√ Σ_layers |delta|² (1 + |input|²), since a layer's gradient is delta ⊗ (1, input).
        Source: Goodfellow, Efficient per-example gradient computations, arXiv 1510.01799."""
        total = np.zeros(len(residual))
        for _, inputs, delta in self._deltas(parameters, tape, residual):
            total += _squares(delta) * (1.0 + _squares(inputs))
        return np.asarray(np.sqrt(total))

    def gradients(self, parameters: Parameters, tape: list[Array], residual: Array) -> Array:
        """Each row's gradient, whole."""
        parts: Parameters = {}
        for layer, inputs, delta in self._deltas(parameters, tape, residual):
            outer = delta[:, :, None] * inputs[:, None, :]
            parts[f"{layer}/weights"] = outer.reshape(len(delta), -1)
            parts[f"{layer}/bias"] = delta
        return np.hstack([parts[name] for name in sorted(parts)])

    def coefficients(self, parameters: Parameters) -> None:
        """There are none."""
        return None

    def _deltas(
        self, parameters: Parameters, tape: list[Array], residual: Array
    ) -> Iterator[tuple[str, Array, Array]]:
        """From the last layer to the first: its name, its inputs, the loss by its outputs (n, out)."""
        delta = residual.astype(tape[0].dtype, copy=False)
        for i in reversed(range(len(self._layers))):
            yield self._layers[i], tape[i], delta
            if i > 0:
                slope = 1 - tape[i] * tape[i] if self._tanh else tape[i] > 0
                delta = (delta @ parameters[f"{self._layers[i]}/weights"]) * slope


def _affine(parameters: Parameters, layer: str, inputs: Array) -> Array:
    outputs = inputs @ parameters[f"{layer}/weights"].T
    outputs += parameters[f"{layer}/bias"]
    return outputs


def _relu(hidden: Array) -> Array:
    return np.maximum(hidden, 0, out=hidden)


def _squares(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))
