"""The command line: one module a command, and one place where errors become exit statuses.

0  done        1  it failed        2  the command line or the configuration is wrong
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
from contextlib import suppress

import click

from service import __version__
from service.core.errors import ConfigurationError, HeadraceError, Scarcity
from service.core.layout import shown

COMMANDS = (
    "run",
    "train",
    "predict",
    "status",
    "show",
    "check",
    "verify",
    "retract",
    "retry",
    "reset",
    "reseal",
    "demo",
)


class _Lazy(click.Group):
    """Imports a command's module when the command is asked for: `status` needs no numpy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"service.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"command: must be one of {', '.join(COMMANDS)}, got {args[0]!r}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headrace")
def cli() -> None:
    """Learns from the sample files that you drop into a directory: exactly once, bit for bit."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits."""
    # Workers compute, in an environment of their own. Here numpy would start threads for nothing, one a core, and where none
    # can be had its library raises SIGINT.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _fill_closed_streams()
    faulthandler.enable(2)  # where native code fails, every thread's place is told
    try:
        status = cli.main(args=arguments, prog_name="headrace", standalone_mode=False)
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()  # a full disk shows here, not in the interpreter's last breath
    except click.exceptions.NoArgsIsHelpError as error:
        _leave(2, error.format_message(), plain=True)
    except click.exceptions.Abort:
        _leave(1, "interrupted")
    except click.ClickException as error:
        text = error.format_message()
        _leave(2, text[:1].lower() + text[1:])
    except ConfigurationError as error:
        _leave(2, str(error))
    except Scarcity as error:
        _leave(1, f"{error}; {error.remedy}")
    except HeadraceError as error:
        _leave(1, str(error))
    except BrokenPipeError:
        sys.stderr.close()
        _forget_output()
        sys.exit(1)
    except OSError as error:
        _forget_output()
        where = f"{shown(error.filename)}: " if error.filename else ""
        _leave(1, where + (error.strerror or str(error)).lower())
    sys.exit(status if isinstance(status, int) else 0)


def _fill_closed_streams() -> None:
    """A number that was closed would be the next file's, and whoever writes to stderr would write there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def _forget_output() -> None:
    """What could not be written isn't tried again at exit, which would change the exit status."""
    with suppress(OSError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _leave(status: int, text: str, *, plain: bool = False) -> None:
    """One line of error, whatever the text has."""
    print(text if plain else "headrace: " + " ".join(text.split()), file=sys.stderr)
    sys.exit(status)
