"""config/default.toml says every key, and says what the settings themselves say."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from kernels import registry
from kernels.registry import RULES
from kernels.schedules import SCHEDULES
from service.cli.configuration import load
from service.cli.shipped import shipped
from service.core.job_settings import Job
from service.core.settings import Settings

TEXT = shipped("default.toml").read_text("utf-8")
TABLES = tomllib.loads(TEXT)
OPTIONED = {
    "model": registry.kernel,
    "optimizer": registry.optimizer,
    "schedule": registry.schedule,
}


def sections() -> list[tuple[str, type[BaseModel], dict[str, Any]]]:
    """(name, model, its table in the file) of every section."""
    job = TABLES["jobs"][0]
    top = [(name, _section(Settings, name), TABLES[name]) for name in TABLES if name != "jobs"]
    nested = [name for name, value in job.items() if isinstance(value, dict)]
    return [*top, ("jobs", Job, job), *((f"jobs.{n}", _section(Job, n), job[n]) for n in nested)]


def _section(model: type[BaseModel], name: str) -> type[BaseModel]:
    annotation = model.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation


def test_it_is_a_valid_configuration() -> None:
    assert [job.name for job in load(shipped("default.toml")).jobs] == ["example"]


def test_it_has_every_section() -> None:
    assert set(TABLES) == set(Settings.model_fields)
    nested = {name for name, value in TABLES["jobs"][0].items() if isinstance(value, dict)}
    assert nested == {
        "model",
        "optimizer",
        "schedule",
        "training",
        "scaling",
        "csv",
        "missing",
        "hashing",
        "output",
    }


@pytest.mark.parametrize(("name", "model", "table"), sections())
def test_every_key_with_a_default_is_there_with_it(
    name: str, model: type[BaseModel], table: dict[str, Any]
) -> None:
    for key, field in model.model_fields.items():
        default = field.default
        if key == "options" or default is PydanticUndefined or isinstance(default, BaseModel):
            continue
        if default is None and (name, key) != ("jobs", "label"):  # all kernels but one need it
            assert key not in table, f"{name}.{key} has no default"
        elif default is not None:
            plain = list(default) if isinstance(default, tuple) else default
            value = str(plain) if key == "root" else plain
            assert table[key] == value, f"{name}.{key}"


@pytest.mark.parametrize(("name", "model", "table"), sections())
def test_every_key_without_a_default_is_there_as_a_comment(
    name: str, model: type[BaseModel], table: dict[str, Any]
) -> None:
    missing = set(model.model_fields) - set(table) - {"options"}
    for key in missing:
        assert re.search(rf"^# {key} = ", TEXT, re.MULTILINE), f"{name}.{key}"


def test_every_key_follows_a_comment_that_explains_it() -> None:
    blocks = re.split(r"\n\s*\n", TEXT)
    for block in blocks:
        lines = block.splitlines()
        keys = [line for line in lines if re.match(r"(# )?\w+ = ", line)]
        if keys:
            assert lines[0].startswith("# "), block
            assert not re.match(r"# \w+ = ", lines[0]), block


def test_the_kernels_options_are_those_in_force() -> None:
    for name, kernel in registry.KERNELS.items():
        assert _listed(name) == _written(kernel.Options), name


@pytest.mark.parametrize("entries", [RULES, SCHEDULES])
def test_the_options_of_optimizers_and_schedules_are_those_in_force(entries: Any) -> None:
    for name, entry in entries.items():
        assert _listed(name) == _written(entry.Options), name


def _listed(name: str) -> str:
    """What the comments list as the options of `name`."""
    found = re.search(rf"^#   (?:\w+, )*{name}(?:, \w+)* {{2,}}(.*)$", TEXT, re.MULTILINE)
    assert found, f"{name} is not in default.toml"
    return found[1]


def _written(options: type[Any]) -> str:
    """The options as the file lists them: those that are None by default belong to some losses only."""
    fields = dataclasses.fields(options)
    return ", ".join(
        field.name if field.default is None else f"{field.name} = {json.dumps(field.default)}"
        for field in fields
    )


def test_a_configuration_of_one_job_means_the_same_as_the_file() -> None:
    tables = {"jobs": [{"name": "example", "label": "y", "model": {"kernel": "logistic"}}]}
    assert Settings.model_validate({"jobs": tuple(tables["jobs"])}) == load(shipped("default.toml"))
