"""What a stranger's kernel breaks of the contract is named: its function, what was expected, what came."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernels import registry, strangers
from kernels.contract import KernelFault, Rows, Spec, UnknownName
from kernels.learner import Learner
from kernels.linear import Linear, LinearOptions, Logistic
from kernels.losses import LOSSES, SingleOutput

ROWS = Rows(np.ones((4, 2)), np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4), np.zeros(4))


def kernel(base=Linear, **methods):
    """A kernel of two features that differs from a good one in these functions."""
    made = type("Odd", (base,), methods)
    return made(LinearOptions(), 2, 1)


def rehearsed(made):
    strangers.rehearse(strangers.Inspected("odd:Odd", made, 1), 2, "regression")


def with_loss(**parts):
    good = {"value": lambda o, y: o[:, 0] * 0.0, "residual": lambda o, y: o, "link": lambda o: o}
    made = kernel()
    made.loss = SimpleNamespace(**{name: f for name, f in (good | parts).items() if f})
    return made


def test_kernels_that_keep_the_contract_pass():
    for name in ("linear", "mlp", "fm"):
        found = registry.kernel(name)
        made = found(found.Options(**({"loss": "squared"} if name == "mlp" else {})), 2, 1)
        rehearsed(made)
    sys.path.append(str(Path(__file__).parents[2] / "docs" / "quadratic"))
    try:
        found = registry.kernel("quadratic:Quadratic")
    finally:
        sys.path.pop()
    strangers.tried("q", found, found.Options())
    made = found(found.Options(), 2, 1)
    strangers.rehearse(strangers.Inspected("q", made, 1), 2, "binary")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["linear", "mlp", "fm"])
def test_kinks_of_losses_and_of_layers_are_nobody_s_fault(name, loss):
    found = registry.kernel(name)
    options = found.Options(loss=loss, **({"hidden": (50, 50)} if name == "mlp" else {}))
    made = strangers.Inspected("odd:Odd", found(options, 2, 1), 1)
    strangers.rehearse(made, 2, made.problem(options))


FAULTS = {
    "outputs of the wrong shape": (
        kernel(forward=lambda self, p, x: (np.zeros(len(x)), x)),
        r"odd:Odd: forward must give float64 or float32 of shape \(7, 1\) as outputs, got float64 of shape \(7,\)",
    ),
    "outputs of the wrong dtype": (
        kernel(forward=lambda self, p, x: (np.zeros((len(x), 1), int), x)),
        r"forward must give float64 or float32 .* as outputs, got int64 of shape \(7, 1\)",
    ),
    "outputs alone": (
        kernel(forward=lambda self, p, x: np.zeros((len(x), 1))),
        r"forward must give two values, the outputs and the tape, got float64 of shape \(7, 1\)",
    ),
    "three values": (
        kernel(forward=lambda self, p, x: (x, x, x)),
        "forward must give two values, the outputs and the tape, got a tuple of 3",
    ),
    "outputs that are no numbers": (
        kernel(forward=lambda self, p, x: (np.full((len(x), 1), np.nan), x)),
        "forward must give finite outputs for fresh parameters, got .* with NaN or infinity",
    ),
    "an error": (
        kernel(norms=lambda self, p, tape, residual: 1 / 0),
        "norms must not raise an error, got ZeroDivisionError: division by zero",
    ),
    "a gradient that lacks a parameter": (
        kernel(backward=lambda self, p, tape, residual: {"weights": residual.T @ tape}),
        "backward must give a dict of the parameters weights, intercept, got a dict of weights",
    ),
    "a gradient of the wrong shape": (
        kernel(
            backward=lambda self, p, tape, r: {
                "weights": tape.sum(axis=0),
                "intercept": r.sum(axis=0),
            }
        ),
        r"backward must give .* of shape \(1, 2\) as weights, got float64 of shape \(2,\)",
    ),
    "a norm for the batch": (
        kernel(norms=lambda self, p, tape, residual: np.zeros(1)),
        r"norms must give float64 or float32 of shape \(7,\), got float64 of shape \(1,\)",
    ),
    "norms of something else": (
        kernel(norms=lambda self, p, tape, residual: np.abs(residual[:, 0])),
        "norms must give the lengths of the rows of gradients",
    ),
    "gradients in another order": (
        kernel(gradients=lambda self, p, t, r: Linear.gradients(self, p, t, r)[:, ::-1]),
        "gradients must give rows that add up to what backward gives",
    ),
    "a gradient of the wrong sign": (
        kernel(
            backward=lambda self, p, t, r: {
                key: -value for key, value in Linear.backward(self, p, t, r).items()
            },
            gradients=lambda self, p, t, r: -Linear.gradients(self, p, t, r),
        ),
        r"odd:Odd: backward must give the derivative of forward and the loss by weights, got -?[\d.]+ along a "
        r"direction where central differences give -?[\d.]+: turn its sign",
    ),
    "a gradient that is twice too long by one parameter": (
        kernel(
            backward=lambda self, p, t, r: (
                Linear.backward(self, p, t, r) | {"intercept": 2 * r.sum(axis=0)}
            ),
            gradients=lambda self, p, t, r: Linear.gradients(self, p, t, r) * [2, 1, 1],
            norms=lambda self, p, t, r: np.linalg.norm(
                Linear.gradients(self, p, t, r) * [2, 1, 1], axis=1
            ),
        ),
        "by intercept, got .*: look for a term or a factor that is missing",
    ),
    "a residual of another loss": (
        with_loss(value=lambda o, y: (o[:, 0] - y) ** 2, residual=lambda o, y: o - y[:, None]),
        "odd:Odd: loss.residual must give the derivative of loss.value by the outputs, got",
    ),
    "parameters in a list": (
        kernel(init=lambda self, generator: [np.zeros(2)]),
        "init must give a dict of float64 arrays by name, got a list of 1",
    ),
    "a penalty of nothing": (
        kernel(penalised=("slopes",)),
        "penalised must give names among weights, intercept, got 'slopes'",
    ),
    "a loss that lacks a function": (with_loss(link=None), "odd:Odd: loss lacks link"),
    "a loss that is NaN": (
        with_loss(value=lambda o, y: np.sqrt(-1.0 - o[:, 0] ** 2)),
        r"loss.value must give a number for every finite output, got NaN for \[0.0\]",
    ),
    "one loss for the batch": (
        with_loss(value=lambda o, y: o.mean()),
        r"loss.value must give float64 or float32 of shape \(7,\), got",
    ),
    "labels to be scaled without of_aims": (with_loss(scale="spread"), "loss lacks of_aims"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_function_and_what_came(name):
    made, text = FAULTS[name]
    with pytest.raises(KernelFault, match=text):
        rehearsed(made)


class Float32:
    """One layer of ReLUs that computes in float32 throughout, right or wrong by `spoilt`."""

    l2, penalised = 0.0, ()

    def __init__(self, loss, features, hidden, spoilt=lambda by_row: None):
        self.loss = SingleOutput(loss)
        self._sizes, self._spoilt = (features, hidden), spoilt

    def init(self, generator):
        features, hidden = self._sizes
        return {
            "in": generator.normal(size=self._sizes) * np.sqrt(2 / features),
            "kinks": np.zeros(hidden),
            "out": generator.normal(size=hidden) / np.sqrt(hidden),
        }

    def forward(self, parameters, x):
        p, x = {key: value.astype("f") for key, value in parameters.items()}, x.astype("f")
        active = np.maximum(x @ p["in"] + p["kinks"], 0)
        return (active @ p["out"])[:, None], (p, x, active)

    def _by_row(self, tape, residual):
        p, x, active = tape
        r = residual.astype("f")
        inner = r * p["out"] * (active > 0)
        by_row = {"in": x[:, :, None] * inner[:, None, :], "kinks": inner, "out": r * active}
        self._spoilt(by_row)
        return by_row

    def backward(self, parameters, tape, residual):
        return {key: rows.sum(axis=0) for key, rows in self._by_row(tape, residual).items()}

    def gradients(self, parameters, tape, residual):
        by_row = self._by_row(tape, residual)
        return np.hstack([by_row[key].reshape(len(residual), -1) for key in sorted(by_row)])

    def norms(self, parameters, tape, residual):
        return np.linalg.norm(self.gradients(parameters, tape, residual), axis=1)


def turned(by_row):
    by_row["in"] *= -1


def without_half(by_row):
    by_row["in"][:, : by_row["in"].shape[1] // 2] = 0


def without_kinks(by_row):
    by_row["kinks"][:] = 0


PROBLEMS = [("squared", "regression"), ("logistic", "binary"), ("poisson", "counts")]


def rehearse_relus(loss, problem, features, hidden, *spoilt):
    made = Float32(loss, features, hidden, *spoilt)
    strangers.rehearse(strangers.Inspected("odd:Odd", made, 1), features, problem)


@pytest.mark.parametrize("hidden", [32, 128, 256])
@pytest.mark.parametrize("features", [10, 100, 784])
@pytest.mark.parametrize(("loss", "problem"), PROBLEMS)
def test_float32_relus_of_any_size_pass_where_they_are_right_and_only_there(
    loss, problem, features, hidden
):
    rehearse_relus(loss, problem, features, hidden)
    with pytest.raises(KernelFault, match=r"by in, .*: turn its sign"):
        rehearse_relus(loss, problem, features, hidden, turned)
    with pytest.raises(KernelFault, match=r"by kinks, .*: look for a term"):
        rehearse_relus(loss, problem, features, hidden, without_kinks)


def test_most_relus_that_lack_half_a_gradient_are_found():
    """Along random directions half a gradient may come to what the whole does: the processor's rounding decides where."""
    slipped = 0
    for loss, problem in PROBLEMS:
        for features, hidden in itertools.product([10, 100, 784], [32, 128, 256]):
            with contextlib.suppress(KernelFault):
                rehearse_relus(loss, problem, features, hidden, without_half)
                slipped += 1
    assert slipped <= 3  # of 27


def test_what_a_kernel_says_of_its_options_is_looked_at():
    odd = type("Odd", (Linear,), {"problem": classmethod(lambda cls, options: "numbers")})
    with pytest.raises(
        KernelFault, match=r"problem must give one of regression, .*, got 'numbers'"
    ):
        strangers.tried("odd:Odd", odd, LinearOptions())
    odd = type("Odd", (Linear,), {"defaults": classmethod(lambda cls, options: {})})
    with pytest.raises(KernelFault, match=r"defaults must give a kernels\.contract\.Defaults"):
        strangers.tried("odd:Odd", odd, LinearOptions())


def test_a_fault_that_only_some_rows_bring_out_is_named_where_it_is_learnt(bench, strangers):
    learner = Learner(Spec(f"{strangers}:Moody", 2, standardise=False))
    state, results = bench.state(learner), bench.results(learner, ROWS)
    learner.run(state, ROWS, 2, results)
    far = ROWS._replace(x=ROWS.x * 99.0)
    with pytest.raises(KernelFault, match=r"strangers:Moody: norms must give .* of shape \(2,\)"):
        learner.run(state, far, 2, results)


@dataclass(frozen=True)
class Good:
    switch: bool = True
    number: float | None = None
    name: typing.Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    pairs: tuple[tuple[str, float], ...] = ()


@pytest.mark.parametrize(
    "hint", [list, list[int], dict[str, int], typing.Any, np.ndarray, set[int]]
)
def test_an_option_that_no_settings_file_can_hold_is_refused_when_the_kernel_is_loaded(
    monkeypatch, hint
):
    options = dataclasses.make_dataclass(
        "Options", [("sizes", hint, dataclasses.field(default_factory=list))], frozen=True
    )
    monkeypatch.setitem(
        sys.modules, "odd", SimpleNamespace(Odd=type("Odd", (Logistic,), {"Options": options}))
    )
    with pytest.raises(
        UnknownName,
        match=r"Options\.sizes must be annotated with bool, int, float, str, Literal, tuple",
    ):
        registry.kernel("odd:Odd")


def test_options_of_plain_annotations_are_taken(monkeypatch):
    made = SimpleNamespace(Odd=type("Odd", (Logistic,), {"Options": Good}))
    monkeypatch.setitem(sys.modules, "odd", made)
    assert registry.kernel("odd:Odd") is made.Odd
