"""The command `aegis` (also `aegis-otel`, beside a program that owns the first name).

Exit codes: 0 done, also where no row matched; 1 something was found, what was named is not there, or it could
not be done; 2 wrong usage; 3 an invalid policy; 141 nobody reads the output any more, as after `| head`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from aegis_otel.errors import AegisError, ConfigError, PolicyError
from aegis_otel.redaction.terminal import escape
from aegis_otel.version import __version__

_SIGPIPE = 128 + 13
_COMMANDS = ("audit", "demo", "doctor", "policy", "report")
"""Each is the command of that name in the module of that name, here."""


class _Commands(click.Group):
    """Loads a command when it is asked for, and shows an error of ours as a line, not as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SystemExit as stop:  # what the terminal library makes of it
            if isinstance(stop.__context__, BrokenPipeError):
                _nobody_reads_on(ctx)
            raise
        except AegisError as error:
            for line in str(error).splitlines():
                click.echo(f"Error: {escape(line)}", err=True)
            ctx.exit(3 if isinstance(error, PolicyError) else 2 if isinstance(error, ConfigError) else 1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                _nobody_reads_on(ctx)
            with contextlib.suppress(OSError):  # or Python would try again at its end
                sys.stdout.close()
            where = f"`{error.filename}`: " if isinstance(error.filename, str | os.PathLike) else ""
            click.echo(f"Error: {escape(where + (error.strerror or str(error)).lower())}", err=True)
            ctx.exit(1)
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
                raise click.Abort from None
            raise
        except Exception as error:
            if not isinstance(error, _duckdb_error()):
                raise
            first, *_ = str(error).splitlines() or [type(error).__name__]
            what = escape(first.partition("Error: ")[2] or first)
            click.echo(
                f"Error: cannot read the audit: {what}; `aegis audit verify` says what is wrong", err=True
            )
            ctx.exit(1)


def _nobody_reads_on(ctx: click.Context) -> NoReturn:
    """End as a program does that SIGPIPE ends, in silence: `aegis audit | head` is no failure."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # or Python would try again at its end
        os.dup2(nowhere, sys.stdout.fileno())
    ctx.exit(_SIGPIPE)


def _duckdb_error() -> tuple[type[Exception], ...]:
    """What DuckDB raises; nothing where it was not loaded, which no command does for this."""
    duckdb = sys.modules.get("duckdb")
    return () if duckdb is None else (duckdb.Error,)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aegis-otel")
@click.option("--no-color", is_flag=True, help="Write no colours.")
@click.pass_context
def main(ctx: click.Context, no_color: bool) -> None:
    """Policy and audit for the tool calls of AI agents."""
    if no_color:
        ctx.color = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
