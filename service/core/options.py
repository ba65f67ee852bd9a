"""Options: the kernel, optimizer or schedule that a name means, and its own settings, checked against its `Options`.

Rules: whoever writes a kernel knows nothing of settings files. A frozen dataclass of plain annotated fields with defaults is
all that is asked of them, and for ranges a ValueError from `__post_init__` ("l2: must be at least 0, got -1"). Types are
exact: no "3" for 3. Everything here raises what `complaints.broken` makes, at a place below the table that the name stands in.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kernels.contract import UnknownName
from service.core.complaints import broken, check_keys, first_rule

_T = TypeVar("_T")


def found(meant: Callable[[str], _T], name: str, *place: str) -> _T:
    """What the name that stands at `place` means, by a look-up of `kernels.registry`."""
    try:
        return meant(name)
    except UnknownName as error:
        raise broken(str(error).partition(": ")[2], *place) from None


def complete(
    options: type[Any],
    given: Mapping[str, Any],
    own: Iterable[str],
    idle: Iterable[str] = (),
    elsewhere: Callable[[str], str] = lambda key: "",
) -> dict[str, Any]:
    """Every option by name, the given ones checked, the others by default; `own` keys may stand beside them.

    `idle` keys are of no use beside what is given; `Options` may say which of its own are (`idle(given)`).
    `elsewhere` says of a key that isn't known here what it is an option of.
    """
    types = _types(options)  # type: ignore[arg-type]  # a class is hashable: mypy thinks of its metaclass
    own_idle = options.idle(given) if hasattr(options, "idle") else ()
    check_keys(given, {*types, *own}, {*idle, *own_idle}, elsewhere)
    checked = {name: _checked(types[name], name, value) for name, value in given.items()}
    for name in _required(options):
        if name not in checked:
            raise broken("must be given", name)
    try:
        whole = options(**checked)
    except ValueError as error:
        raise _out_of_range(error, types) from None
    return {name: getattr(whole, name) for name in types}


def _checked(type_: TypeAdapter[Any], name: str, value: Any) -> Any:
    try:
        return type_.validate_python(value)
    except ValidationError as error:
        place, rule = first_rule(error)
        raise broken(rule, name, *(step for step in place if isinstance(step, int))) from None


def _out_of_range(error: Exception, types: Mapping[str, Any]) -> Exception:
    name, _, rule = str(error).partition(": ")
    return broken(rule, name) if rule and name in types else broken(str(error))


def _required(options: type[Any]) -> list[str]:
    nothing = dataclasses.MISSING
    fields = dataclasses.fields(options)
    return [f.name for f in fields if f.default is nothing and f.default_factory is nothing]


@functools.cache
def _types(options: type[Any]) -> dict[str, TypeAdapter[Any]]:
    """The exact type of each option, in the order of the dataclass."""
    config = ConfigDict(strict=True, allow_inf_nan=False)
    hints = typing.get_type_hints(options, include_extras=True)
    names = [field.name for field in dataclasses.fields(options)]
    return {name: TypeAdapter(hints[name], config=config) for name in names}
