"""Settings: the whole configuration as one frozen value, read once at the top and passed down.

Rules: `parse` is the only way in. It takes text, for core/ opens no files (`service.cli.configuration.load` does). Whatever is
wrong is a `ConfigurationError` of one line. The defaults stand here, and again in config/default.toml with their units and
reasons; a test holds that the two agree.

    text ─▶ parse ─▶ Settings ─▶ terms.digest(settings, job): what a file is admitted with
                        └─▶ resolution.resolve(job), resolution.spec(job, ...): what its Learner is built from
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from service.core.complaints import Says, broken, complaint, printable
from service.core.errors import ConfigurationError
from service.core.job_settings import Job
from service.core.sections import Count, Seconds, Section, Share, Switch, Texts


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value and "\0" not in value else value


class Service(Section):
    """`[service]`: where it runs, and on how much of the machine."""

    root: Annotated[Path, BeforeValidator(_path), Says("a path")] = Path("headrace-root")
    workers: Annotated[int, Field(ge=0, le=1024), Says("a whole number from 0 to 1024")] = 0
    deadline_seconds: Seconds = 300.0
    chunk_bytes: Annotated[
        int, Field(ge=256, le=2**30), Says("a whole number of bytes from 256 to 1073741824")
    ] = 4 * 2**20


class Intake(Section):
    """`[intake]`: which files are taken, when, and what becomes of them."""

    settle_seconds: Annotated[float, Field(ge=0), Says("a number of seconds from 0")] = 2.0
    rescan_seconds: Seconds = 5.0
    include: Texts = ("*",)
    ignore: Texts = (
        ".*",
        "*~",
        "*.tmp",
        "*.part",
        "*.partial",
        "*.filepart",
        "*.crdownload",
        "*.swp",
        "*._COPYING_",
    )
    identity: Literal["content", "name"] = "content"
    after: Literal["archive", "delete"] = "archive"
    max_file_bytes: Count = 64 * 2**30


class Rows(Section):
    """`[rows]`: what a bad row does to its file."""

    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_bad_rows: Share = 0.01


class Commit(Section):
    """`[commit]`: how often a long file's progress is made durable, and how many models stay."""

    interval_seconds: Seconds = 10.0
    keep: Count = 3


class Logs(Section):
    """`[logs]`: how dense the records are, and how much of them stays."""

    every_rows: Count = 1000
    steps: Switch = False
    rotate_bytes: Count = 2**30
    keep: Count = 10


class Settings(Section):
    """The whole configuration."""

    service: Service = Service()
    intake: Intake = Intake()
    rows: Rows = Rows()
    commit: Commit = Commit()
    logs: Logs = Logs()
    jobs: tuple[Job, ...]

    @model_validator(mode="after")
    def _check_jobs(self) -> Self:
        if not self.jobs:
            raise broken("must be at least one [[jobs]]", "jobs", value=self.jobs)
        names = [job.name for job in self.jobs]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise broken(
                    "must be another name than any other job's", "jobs", i, "name", value=name
                )
        return self

    def job(self, name: str) -> Job:
        """The job of that name; `ConfigurationError` where there is none."""
        for job in self.jobs:
            if job.name == name:
                return job
        names = ", ".join(job.name for job in self.jobs)
        raise ConfigurationError(f"job: must be one of {names}, got {printable(name)}")

    def at(self, root: Path | None) -> Self:
        """The same settings with another root, where one is given."""
        if root is None:
            return self
        return self.model_copy(update={"service": self.service.model_copy(update={"root": root})})


def parse(text: str, where: str) -> Settings:
    """The settings that a TOML text says; `where` names it in errors."""
    given = None
    try:
        given = frozen(tomllib.loads(text))
        return Settings.model_validate(given)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        raise ConfigurationError(
            f"{where}: must be TOML, {reason[:1].lower()}{reason[1:]}"
        ) from None
    except RecursionError:
        raise ConfigurationError(f"{where}: must be nested less deeply") from None
    except ValidationError as error:
        raise ConfigurationError(complaint(error, where, given)) from None


def frozen(value: Any) -> Any:
    """The same with tuples for lists: the exact type of what never changes."""
    if isinstance(value, dict):
        return {key: frozen(part) for key, part in value.items()}
    return tuple(frozen(part) for part in value) if isinstance(value, list) else value
