"""The options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from service.core.errors import ConfigurationError
from service.core.layout import Layout, shown

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("headrace.toml")
DEFAULT_ROOT = Path("headrace-root")


def config_option(function: F) -> F:
    """-c CONFIG"""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        help="The configuration (TOML).",
    )(function)


def root_override(function: F) -> F:
    """--root DIR, over what the configuration says"""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        help="The root folder, instead of the configuration's service.root.",
    )(function)


def root_option(function: F) -> F:
    """--root DIR, of a root that exists"""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_ROOT,
        show_default=True,
        help="The root folder.",
    )(function)


def newest_model(root: Path, job: str) -> Path:
    """The link to the job's newest model; raises ConfigurationError where there is none."""
    layout = Layout(root.absolute())
    current = layout.current(job)
    if current.exists():
        return current
    if not layout.journal.exists():
        raise ConfigurationError(
            f"--root: must be a root that a daemon has run in, got {shown(layout.root)}"
        )
    raise ConfigurationError(
        f"--job: the job must have a model, got {shown(job)!r} without {shown(current)}"
    )


def files_argument(function: F) -> F:
    """FILE..."""
    return click.argument(
        "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
    )(function)


def job_option(function: F) -> F:
    """--job NAME"""
    return click.option("--job", required=True, help="The job's name.")(function)
