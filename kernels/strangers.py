"""A stranger's kernel: loaded by name, tried before it learns anything, and inspected while it does.

Rules: whoever writes a kernel should be told by name what it breaks of the contract: the function, what
was expected of it, what came. `load` looks at the class, `tried` at what it says of a job's options,
`rehearse` calls every function with a few made-up rows and holds the gradient against numerical
derivatives, and `Inspected` looks at each answer later.
Built-in kernels have tests for all this, and are not inspected.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from kernels.contract import (
    Array,
    Defaults,
    Kernel,
    KernelFault,
    Parameters,
    Problem,
    UnknownName,
)
from kernels.losses import SingleOutput, SoftmaxLoss
from kernels.slopes import Slopes, disagreement, slopes_along

METHODS = ("problem", "defaults", "init", "forward", "backward", "norms", "gradients")
LOSS_METHODS = ("value", "residual", "link")
ALLOWED = "bool, int, float, str, Literal, tuple of these, and `| None`"
"""What an option may be annotated with: what a settings file can say, and what is the same when it is
read back from a model file."""

_MOST_PARAMETERS = 1_000_000
"""Beyond so many whole gradients are not built to be tried, nor parameters moved."""
_ROWS = 7
"""Of a rehearsal: no number that shapes are likely to have otherwise."""
_APART = 0.1
"""How far these lie from fresh parameters, among which zeros often are kinks or saddles."""


def load(name: str) -> type[Kernel]:
    """The class that `package.module:Name` means; `UnknownName` says why it can't be a kernel."""
    path, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(path), attribute)
    except Exception as error:  # a stranger's module may raise anything while it is imported
        raise UnknownName(f"kernel: {name!r} can't be loaded, {error}") from error
    missing = [part for part in ("Options", *METHODS) if not hasattr(found, part)]
    if missing:
        raise UnknownName(f"kernel: {name!r} is no kernel, it lacks {', '.join(missing)}")
    wrong = _wrong_options(found.Options)
    if wrong is not None:
        raise UnknownName(f"kernel: {name!r} is no kernel, {wrong}")
    return found  # type: ignore[no-any-return]


def tried(name: str, found: Any, options: Any) -> None:
    """Asks a class what it says of these options. Raises KernelFault."""
    problem = _called(name, "problem", found.problem, options)
    known = typing.get_args(Problem)
    if problem not in known:
        raise _fault(name, "problem", f"one of {', '.join(known)}", problem)
    defaults = _called(name, "defaults", found.defaults, options)
    if not isinstance(defaults, Defaults):
        raise _fault(name, "defaults", "a kernels.contract.Defaults", defaults)
    if problem == "clustering" and not hasattr(options, "clusters"):
        raise KernelFault(f"{name}: Options must have `clusters`, how many outputs there are")


def made(name: str, found: Any, options: Any, features: int, outputs: int) -> Any:
    """An instance; a ValueError is its word that it can't be made for so many. Raises KernelFault."""
    try:
        return found(options, features, outputs)
    except (MemoryError, ValueError):
        raise
    except Exception as error:
        raise _raised(name, "__init__", error) from error


def rehearse(inspected: Inspected, features: int, problem: Problem) -> None:
    """Calls every function of a kernel on made-up rows, and compares what they say. Raises KernelFault."""
    name, outputs = inspected.name, inspected.outputs
    random = np.random.Generator(np.random.PCG64(0))
    x, y = random.normal(size=(_ROWS, features)), _labels(problem, outputs)
    parameters = inspected.init(random)
    raw, tape = inspected.forward(parameters, x)
    if not np.isfinite(raw).all():
        raise _fault(name, "forward", "finite outputs for fresh parameters", raw)
    residual = inspected.loss.residual(raw, y)
    inspected.loss.value(raw, y)
    inspected.loss.link(raw)
    total = inspected.backward(parameters, tape, residual)
    norms = inspected.norms(parameters, tape, residual)
    _check_residual(inspected, raw, y)
    if sum(value.size for value in parameters.values()) > _MOST_PARAMETERS:
        return
    each = inspected.gradients(parameters, tape, residual)
    flat = np.concatenate([np.ravel(total[key]) for key in sorted(total)])
    _check_alike(
        name, "gradients", "rows that add up to what backward gives", each.sum(axis=0), flat
    )
    lengths = np.linalg.norm(each, axis=1)
    _check_alike(name, "norms", "the lengths of the rows of gradients", norms, lengths)
    _check_backward(inspected, parameters, x, y)


def _check_residual(inspected: Inspected, raw: Array, y: Array) -> None:
    """Whether the residual is the derivative of the loss by the outputs, at outputs near those of fresh parameters."""
    loss = inspected.loss

    def slopes(random: np.random.Generator) -> Slopes:
        at = raw + _APART * random.normal(size=raw.shape)
        claimed = loss.residual(at, y)
        return slopes_along(claimed, lambda move: loss.value(at + move, y), raw.dtype, random)

    told = disagreement(slopes)
    if told is not None:
        raise _not_derivative(inspected.name, "loss.residual", "loss.value", "the outputs", told)


def _check_backward(inspected: Inspected, parameters: Parameters, x: Array, y: Array) -> None:
    """Whether backward is the derivative of the loss by each parameter, held against what `forward` and the loss do.

    Each array is moved by itself: among all, that of a small one, or of one whose gradient is missing, would be lost.
    """

    def slopes_by(moved: str) -> Callable[[np.random.Generator], Slopes]:
        def slopes(random: np.random.Generator) -> Slopes:
            at = {
                key: value + _APART * random.normal(size=value.shape)
                for key, value in parameters.items()
            }

            def losses(move: Array) -> Array:
                there = at | {moved: at[moved] + move}
                return inspected.loss.value(inspected.forward(there, x)[0], y)  # type: ignore[no-any-return]

            raw, tape = inspected.forward(at, x)
            found = inspected.backward(at, tape, inspected.loss.residual(raw, y))
            return slopes_along(found[moved], losses, raw.dtype, random)

        return slopes

    for name in parameters:
        told = disagreement(slopes_by(name))
        if told is not None:
            raise _not_derivative(inspected.name, "backward", "forward and the loss", name, told)


def _not_derivative(
    name: str, function: str, of: str, by: str, told: tuple[float, float]
) -> KernelFault:
    found, slope = told
    is_turned = abs(found + slope) <= 1e-2 * abs(slope)
    remedy = "turn its sign" if is_turned else "look for a term or a factor that is missing"
    return KernelFault(
        f"{name}: {function} must give the derivative of {of} by {by}, got {found:.6g} along a "
        f"direction where central differences give {slope:.6g}: {remedy}"
    )


class Inspected:
    """A kernel whose answers are looked at. Made of one with `features` and so many `outputs`."""

    def __init__(self, name: str, kernel: Any, outputs: int) -> None:
        self.name, self._kernel, self.outputs = name, kernel, outputs
        for part in ("loss", "l2", "penalised"):
            if not hasattr(kernel, part):
                raise KernelFault(f"{name} lacks {part}, which docs/kernels.md asks for")
        fresh = self.init(np.random.Generator(np.random.PCG64(0)))
        self._shapes = {key: value.shape for key, value in fresh.items()}
        self._size = sum(value.size for value in fresh.values())
        strange = sorted(set(kernel.penalised) - set(fresh))
        if strange:
            raise _fault(name, "penalised", f"names among {', '.join(fresh)}", strange[0])
        self.loss = _inspected_loss(name, kernel.loss, outputs)

    def __getattr__(self, key: str) -> Any:
        return getattr(self._kernel, key)

    def init(self, generator: np.random.Generator) -> Parameters:
        found = _called(self.name, "init", self._kernel.init, generator)
        expected = "a dict of float64 arrays by name"
        if not (isinstance(found, dict) and found):
            raise _fault(self.name, "init", expected, found)
        for key, value in found.items():
            if not (isinstance(key, str) and _is_floats(value)):
                raise _fault(self.name, "init", expected, value, of=str(key))
        return found

    def forward(self, parameters: Parameters, x: Array, *numbers: Array) -> tuple[Array, Any]:
        found = _called(self.name, "forward", self._kernel.forward, parameters, x, *numbers)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise _fault(self.name, "forward", "two values, the outputs and the tape", found)
        self._check("forward", found[0], (len(x), self.outputs), of="outputs")
        return found

    def backward(self, parameters: Parameters, tape: Any, residual: Array) -> Parameters:
        found = _called(self.name, "backward", self._kernel.backward, parameters, tape, residual)
        if not (isinstance(found, dict) and found.keys() == self._shapes.keys()):
            expected = f"a dict of the parameters {', '.join(self._shapes)}"
            raise _fault(self.name, "backward", expected, found)
        for key, shape in self._shapes.items():
            self._check("backward", found[key], shape, of=key)
        return found

    def norms(self, parameters: Parameters, tape: Any, residual: Array) -> Array:
        found = _called(self.name, "norms", self._kernel.norms, parameters, tape, residual)
        return self._check("norms", found, (len(residual),))

    def gradients(self, parameters: Parameters, tape: Any, residual: Array) -> Array:
        found = _called(self.name, "gradients", self._kernel.gradients, parameters, tape, residual)
        return self._check("gradients", found, (len(residual), self._size))

    def _check(self, function: str, found: Any, shape: tuple[int, ...], of: str = "") -> Array:
        return _checked(self.name, function, found, shape, of)


class InspectedLoss:
    """A stranger's loss whose answers are looked at: a finite output has a loss, whatever it is."""

    def __init__(self, name: str, loss: Any, outputs: int) -> None:
        self._name, self._loss, self._outputs = name, loss, outputs
        needs = (*LOSS_METHODS, *(["of_aims"] if getattr(loss, "scale", "") == "spread" else []))
        missing = [part for part in needs if not hasattr(loss, part)]
        if missing:
            raise KernelFault(f"{name}: loss lacks {', '.join(missing)}, see docs/kernels.md")

    def __getattr__(self, key: str) -> Any:
        return getattr(self._loss, key)

    def value(self, output: Array, y: Array) -> Array:
        found = _called(self._name, "loss.value", self._loss.value, output, y)
        return self._numbers("loss.value", found, (len(y),), output)

    def residual(self, output: Array, y: Array) -> Array:
        found = _called(self._name, "loss.residual", self._loss.residual, output, y)
        return self._numbers("loss.residual", found, (len(y), self._outputs), output)

    def link(self, output: Array) -> Array:
        found = _called(self._name, "loss.link", self._loss.link, output)
        shapes = [(len(output),), (len(output), self._outputs)]
        shape = shapes[-1] if np.shape(found) == shapes[-1] else shapes[0]
        return _checked(self._name, "loss.link", found, shape)

    def of_aims(self, unit: float) -> Any:
        found = _called(self._name, "loss.of_aims", self._loss.of_aims, unit)
        return _inspected_loss(self._name, found, self._outputs)

    def _numbers(self, function: str, found: Any, shape: tuple[int, ...], output: Array) -> Array:
        numbers = _checked(self._name, function, found, shape)
        broken = np.isnan(numbers.reshape(len(output), -1)).any(axis=1)
        broken &= np.isfinite(output).all(axis=1)
        if broken.any():
            at = output[int(np.argmax(broken))].tolist()
            raise KernelFault(
                f"{self._name}: {function} must give a number for every finite output, got NaN for {at}"
            )
        return numbers


def _inspected_loss(name: str, loss: Any, outputs: int) -> Any:
    is_ours = isinstance(loss, SingleOutput | SoftmaxLoss | InspectedLoss)
    return loss if is_ours else InspectedLoss(name, loss, outputs)


def _called(name: str, function: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (MemoryError, KernelFault):
        raise
    except Exception as error:  # whatever it is, it is the kernel's
        raise _raised(name, function, error) from error


def _raised(name: str, function: str, error: Exception) -> KernelFault:
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return KernelFault(f"{name}: {function} must not raise an error, got {text}")


def _checked(name: str, function: str, found: Any, shape: tuple[int, ...], of: str = "") -> Array:
    if not (_is_floats(found) and found.shape == shape):
        raise _fault(name, function, f"float64 or float32 of shape {shape}", found, of)
    return np.asarray(found)


def _check_alike(name: str, function: str, expected: str, found: Array, other: Array) -> None:
    """To 0.1 %: sums in another order, or in float32, are still the same."""
    most = max(1e-6, float(np.abs(other).max(initial=0.0)))
    if not np.allclose(found, other, rtol=1e-3, atol=1e-3 * most):
        raise KernelFault(f"{name}: {function} must give {expected}, got others")


def _is_floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in (np.float64, np.float32)


def _fault(name: str, function: str, expected: str, found: Any, of: str = "") -> KernelFault:
    part = f" as {of}" if of else ""
    return KernelFault(f"{name}: {function} must give {expected}{part}, got {_described(found)}")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        broken = (
            "" if value.dtype.kind != "f" or np.isfinite(value).all() else " with NaN or infinity"
        )
        return f"{value.dtype} of shape {value.shape}{broken}"
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return (
        f"{value!r}"[:80] if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    )


def _labels(problem: Problem, outputs: int) -> Array:
    """Labels (n,) of every kind that the problem has; above 0, where they are amounts."""
    numbers = np.arange(_ROWS, dtype=np.float64)
    if problem in ("binary", "multiclass"):
        return numbers % (2 if problem == "binary" else outputs)
    return numbers + 1.0 if problem == "counts" else numbers - 2.5


def _wrong_options(options: Any) -> str | None:
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        return "its Options must be a frozen dataclass"
    try:
        hints = typing.get_type_hints(options, include_extras=True)
    except Exception as error:  # a name that isn't there, or anything that an annotation may raise
        return f"an annotation of its Options can't be read, {error}"
    for field in dataclasses.fields(options):
        if not _may_be(hints[field.name]):
            written = getattr(hints[field.name], "__name__", str(hints[field.name]))
            return (
                f"Options.{field.name} must be annotated with {ALLOWED}, got "
                f"{hints[field.name] if typing.get_args(hints[field.name]) else written}"
            )
    return None


def _may_be(hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _may_be(inner[0])
    if origin is Literal:
        return True
    if origin in (typing.Union, types.UnionType, tuple):
        return _all(one for one in inner if one is not Ellipsis)
    return hint in (bool, int, float, str, type(None), tuple)


def _all(hints: Iterable[Any]) -> bool:
    return all(map(_may_be, hints))
