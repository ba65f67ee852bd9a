"""`headrace check`: validates a configuration and prints what is in force."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from kernels.contract import KernelFault
from service.cli.configuration import load
from service.cli.options import config_option
from service.core.complaints import printable
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.remedies import against_few_steps
from service.core.resolution import follows_labels, resolve
from service.core.settings import Settings


@click.command("check")
@config_option
def command(config: Path) -> int:
    """Validate a configuration and print all of it, every default and every "auto" written out."""
    settings = load(config)
    for job in settings.jobs:
        try:
            job.model.rehearse(job.width)
        except KernelFault as fault:
            raise ConfigurationError(
                f"{printable(str(config))}: job {job.name}: model.kernel: must keep to docs/kernels.md: {fault}"
            ) from None
    click.echo("\n".join(in_force(settings)))
    return 0


DELETES = """\
# intake.after = "delete": what is learnt is gone afterwards. `headrace verify` can't learn it again, and `headrace retract`
# can take back a file only where nothing that came after it must be learnt again."""


def in_force(settings: Settings) -> Iterator[str]:
    """The settings as TOML; what they make impossible as a comment."""
    if settings.intake.after == "delete":
        yield DELETES
        yield ""
    whole = settings.model_dump(mode="json", exclude_none=True)
    del whole["jobs"]
    for name, table in whole.items():
        yield from _table(f"[{name}]", table)
    for job in map(resolve, settings.jobs):
        table = job.model_dump(mode="json", exclude_none=True)
        yield from _table("[[jobs]]", {k: v for k, v in table.items() if not isinstance(v, dict)})
        for part, inner in table.items():
            if isinstance(inner, dict):
                yield from _table(f"[jobs.{part}]", inner, _comments(job, part))


def _comments(job: Job, part: str) -> Iterator[str]:
    """What is to be said of a part of a resolved job, and no key can say."""
    number = follows_labels(job)
    if part == "model" and number is not None:
        yield f"# {number.key} is left out: {number.default:g} standard deviations of the labels so far"
    warning = against_few_steps(job)
    if part == "optimizer" and warning is not None:
        yield f"# in `headrace run`, which learns each file once, {warning}"


def _table(heading: str, table: Mapping[str, Any], comments: Iterable[str] = ()) -> Iterator[str]:
    yield heading
    for key, value in table.items():
        yield f"{key} = {_value(value)}"
    yield from comments
    yield ""


def _value(value: Any) -> str:
    """A value as TOML, which is JSON for strings, numbers, booleans and lists of them."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    return json.dumps(value)
