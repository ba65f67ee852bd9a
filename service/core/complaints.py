"""Complaints: what is wrong with a setting, in one line that says where and what is allowed.

Rules: a type says its own rule once (`Says`), and whatever breaks it is reported in those words. A check that knows more than
a type (a key that is unknown, two settings that don't fit) raises `broken`. `complaint` is the border: no text of pydantic's
own gets past it.

    config.toml: job churn: optimizer.learning_rate: must be greater than 0, got -1
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Place = tuple[str | int, ...]

FEW = 20  # allowed keys are listed where there are no more than these
LONGEST_VALUE = 80  # characters of a value that are shown

_NOTHING = object()
_WHOLE = "whole"  # the type of an error whose text is complete: rule and value

_WORDS = {
    "missing": "must be given",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "literal_error": "must be {expected}",
}


@dataclass(frozen=True, slots=True)
class Says:
    """A type's rule in words (after "must be"), for every way in which a value can break it."""

    rule: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), "broken", custom_error_message=f"must be {self.rule}"
        )


def broken(rule: str, *place: str | int, value: Any = _NOTHING) -> PydanticCustomError:
    """The error of a validator: the rule, where it is broken (below the validator's own place), and the value."""
    got = "" if value is _NOTHING else f", got {shown(value)}"
    return PydanticCustomError(_WHOLE, "{text}", {"text": rule + got, "place": place})


@contextmanager
def below(*place: str | int) -> Iterator[None]:
    """Puts the place of what is `broken` inside the block below `place`."""
    try:
        yield
    except PydanticCustomError as error:
        context = error.context or {}
        inner = context["place"]
        raise PydanticCustomError(_WHOLE, "{text}", context | {"place": place + inner}) from None


def check_keys(
    table: Mapping[str, Any],
    known: Iterable[str],
    idle: Container[str] = frozenset(),
    elsewhere: Callable[[str], str] = lambda key: "",
) -> None:
    """Raises `broken` for the first key that is not known; names the nearest, and those that are allowed.

    `idle` keys are known, but what else stands in the table has no use for them: they aren't told as allowed.
    What `elsewhere` says of a key ("which ... has", or nothing) is told instead of the nearest.
    """
    keys = sorted(known)
    for key in table:
        if key not in keys:
            allowed = [other for other in keys if other not in idle]
            told = elsewhere(key) or f"unknown key{_nearest(key, keys)}"
            few = f", allowed are {', '.join(allowed)}" if len(allowed) <= FEW else ""
            raise broken(told + few, key)


def _nearest(key: str, keys: list[str]) -> str:
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f", the nearest is {near[0]}" if near else ""


def complaint(error: ValidationError, where: str, given: Any = None) -> str:
    """The first thing that is wrong, in one line, and how many more there are; `given` is what was validated."""
    place, rule = first_rule(error)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    places = (where, *_by_name(place, given))
    return escaped(": ".join(part for part in (*places, rule) if part) + more)


def _by_name(place: Place, given: Any) -> tuple[str, ...]:
    """A place with the name of its job, where it has one; a name that is itself wrong doesn't tell which."""
    match place:
        case ("jobs", int() as index, str() as key, *rest) if key != "name":
            job = given["jobs"][index] if isinstance(given, Mapping) else {}
            if isinstance(job.get("name"), str):
                return f"job {printable(job['name'])}", written((key, *rest))
    return (written(place),)


def first_rule(error: ValidationError) -> tuple[Place, str]:
    """Where the first error is, and the rule that is broken there with the value that breaks it."""
    first = error.errors(include_url=False)[0]
    context: dict[str, Any] = first.get("ctx", {})
    place = (*first["loc"], *context.get("place", ()))
    if first["type"] == _WHOLE:
        return place, str(context["text"])
    if "expected" in context:  # the values of a Literal: quoted as TOML does
        context["expected"] = context["expected"].replace("'", '"')
    known = _WORDS.get(first["type"])
    words = known.format(**context) if known else first["msg"]
    got = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
    return place, words + got


def written(place: Place) -> str:
    """A place as people write it: `jobs[0].model.hidden[1]`."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{printable(step)}"
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """A value as TOML writes it, of bounded length and without control characters."""
    if isinstance(value, Mapping):
        return "a table"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return printable(text)


def printable(text: str) -> str:
    """The text with everything unprintable escaped, cut to `LONGEST_VALUE` characters."""
    clean = escaped(text)
    return clean if len(clean) <= LONGEST_VALUE else clean[: LONGEST_VALUE - 1] + "…"


def escaped(text: str) -> str:
    """The text with everything unprintable escaped: one line, harmless on a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
