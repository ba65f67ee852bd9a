"""Sections: what every table of the configuration is made of.

Rules: a section is frozen, of exact types ("3" is no number), and closed to keys that it doesn't know. Each type says its rule
once, in the words that a user reads when a value breaks it.
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_serializer,
    model_validator,
)

from service.core.complaints import Says, check_keys
from service.core.options import complete, found
from service.core.spelling import as_name

_Text = Annotated[str, StringConstraints(min_length=1)]
_Number = Annotated[int, Field(ge=0)]


def _canonical(label: str | int | float) -> str | int | float:
    """A label as sample files give it: "1" is 1 is 1.0, and any other text a name, "True" that of "true"."""
    try:
        number = float(label)
    except ValueError:
        return as_name(str(label))
    if not math.isfinite(number) or "_" in str(label):
        return label
    return int(number) if number.is_integer() else number


_Encoding = Literal[
    "auto",
    "utf-8",
    "utf-16-le",
    "utf-16-be",
    "latin-1",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "shift-jis",
    "gb18030",
    "big5",
    "euc-kr",
]


def _encoding(name: object) -> object:
    """The name that an encoding has here: others know it as cp1252, or iso-8859-1."""
    try:
        codec = codecs.lookup(str(name))
    except (LookupError, ValueError):
        return name
    own = (known for known in get_args(_Encoding)[1:] if codecs.lookup(known).name == codec.name)
    return next(own, name)


_Label = Annotated[str | int | float, AfterValidator(_canonical)]
_Count = Annotated[int, Field(ge=1, lt=2**63)]

Text = Annotated[_Text, Says("a string that is not empty")]
Words = Annotated[
    tuple[_Text, ...],
    Says("a list of strings, none of them empty: an empty cell is missing anyway"),
]
Texts = Annotated[tuple[_Text, ...], Says("a list of strings")]
Switch = Annotated[bool, Says("true or false")]
Encoding = Annotated[_Encoding, BeforeValidator(_encoding)]
Count = Annotated[_Count, Says("a whole number from 1")]
AutoCount = Annotated[_Count | Literal["auto"], Says('a whole number from 1, or "auto"')]
Lanes = Annotated[
    Annotated[int, Field(ge=1, le=1024)] | Literal["auto"],
    Says('a whole number from 1 to 1024, or "auto"'),
]
"""Each lane of a round reads the rows of all: more of them than any machine has cores only cost."""
Seconds = Annotated[float, Field(gt=0), Says("a number of seconds greater than 0")]
Share = Annotated[float, Field(ge=0, le=1), Says("a share from 0 to 1")]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"),
    Says("1 to 64 of the letters A to Z and a to z, digits, - and _"),
]
Column = Annotated[_Text | _Number, Says("a column's name, or its number counted from 0")]
Columns = Annotated[
    tuple[_Text | _Number, ...],
    Field(min_length=1),
    Says("a list of at least one column, by name or by number counted from 0"),
]
Excluded = Annotated[
    tuple[str | _Number, ...],
    Field(min_length=1),
    Says(
        'a list of at least one column, by name ("" for those without one) or by number counted from 0'
    ),
]
Label = Annotated[_Label, Says("a name or a number")]
Classes = Annotated[
    Annotated[tuple[_Label, ...], Field(min_length=2)] | Annotated[int, Field(ge=2)],
    Says("a list of at least 2 names or numbers, or their count where they are 0, 1, 2, ..."),
]


class Section(BaseModel):
    """A table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _arrange(cls, table: Any) -> Any:
        if isinstance(table, Mapping):
            check_keys(table, cls.model_fields, cls.useless(table))
        return table

    @classmethod
    def useless(cls, table: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys that are known, and of no use beside the others in this table."""
        return ()


class OpenSection(Section):
    """A table that holds the options of what it names beside its own keys.

    It is read and written flat; inside, `options` holds every option by name, defaults included.
    `OWN` are the keys of ours, the first of them the name; `BUILT_IN` is what there is to name, by name.
    """

    OWN: ClassVar[tuple[str, ...]]
    BUILT_IN: ClassVar[Mapping[str, Any]]

    options: dict[str, Any] = {}

    @staticmethod
    def meant(name: str) -> Any:
        """What the name means, a thing with a frozen dataclass `Options`; any error if it means nothing."""
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def _arrange(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        own = {key: table[key] for key in cls.OWN if key in table}
        given = {key: value for key, value in table.items() if key not in cls.OWN}
        name = own.get(cls.OWN[0], cls.model_fields[cls.OWN[0]].default)
        return own | {"options": cls.completed(name, given)}

    @classmethod
    def completed(cls, name: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of `name`, checked and whole; as they are given where nobody can tell yet."""
        if not isinstance(name, str) or name == "auto":
            return dict(given)
        meant = found(cls.meant, name, cls.OWN[0])
        elsewhere = functools.partial(cls._elsewhere, name)
        return complete(meant.Options, given, cls.OWN, cls.idle(meant, given), elsewhere)

    @classmethod
    def _elsewhere(cls, name: str, key: str) -> str:
        """That `key` is no option of `name`, but of others; nothing where it is nobody's."""
        having = [
            other
            for other, entry in cls.BUILT_IN.items()
            if key in {field.name for field in dataclasses.fields(entry.Options)}
        ]
        if not having:
            return ""
        return f"unknown key of {name}: it belongs to {', '.join(having)}"

    @classmethod
    def idle(cls, meant: Any, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys of ours that have no use beside what is meant and its given options."""
        return ()

    @model_serializer(mode="plain")
    def _flat(self) -> dict[str, Any]:
        whole = {key: getattr(self, key) for key in self.OWN} | self.options
        return {key: value for key, value in whole.items() if value is not None}
