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
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.settings import Settings, parse

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
    listed = _listed("model")
    assert set(listed) == set(registry.KERNELS)
    for name, kernel in registry.KERNELS.items():
        assert listed[name] == _written(kernel.Options), name


@pytest.mark.parametrize(("section", "entries"), [("optimizer", RULES), ("schedule", SCHEDULES)])
def test_the_options_that_are_listed_of_optimizers_and_schedules_are_those_in_force(
    section: str, entries: Any
) -> None:
    """The comments show the best known ones; what there is at all, a wrong name is told (see below)."""
    listed = _listed(section)
    assert listed
    for name, options in listed.items():
        assert options == _written(entries[name].Options), name


@pytest.mark.parametrize(("section", "entries"), [("optimizer", RULES), ("schedule", SCHEDULES)])
def test_an_unknown_name_or_key_is_told_every_optimizer_and_schedule_and_all_their_options(
    section: str, entries: Any
) -> None:
    """So says the comment, and so a name that isn't listed is found in the program itself."""
    assert f'name = "?" makes `headrace check` list every {section}' in TEXT
    job = '[[jobs]]\nname = "a"\nlabel = "y"\nmodel.kernel = "linear"\n'
    with pytest.raises(ConfigurationError, match=f"must be one of {', '.join(entries)}, got '\\?'"):
        parse(f'{job}[jobs.{section}]\nname = "?"\n', "c")
    for name, entry in entries.items():
        options = sorted(["name", *(field.name for field in dataclasses.fields(entry.Options))])
        with pytest.raises(ConfigurationError, match=f"allowed are {', '.join(options)}$"):
            parse(f'{job}[jobs.{section}]\nname = "{name}"\nzzzz = 1\n', "c")


def _listed(section: str) -> dict[str, str]:
    """The options that the comments of a section of jobs list, by the name of what has them."""
    text = TEXT.split(f"\n[jobs.{section}]\n")[1].split("\n[jobs.")[0]
    rows = re.findall(r"^#   (\w+(?:, \w+)*) {2,}(.*)$", text, re.MULTILINE)
    is_options = re.compile(r"\w+(?: = |, |$)").match
    return {name: row[1] for row in rows if is_options(row[1]) for name in row[0].split(", ")}


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
