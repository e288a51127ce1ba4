"""The command `aegis` (also `aegis-otel`, beside a program that owns the first name).

Exit codes: 0 done, also where no row matched; 1 something was found, something named is not there, or the
command failed; 2 wrong usage; 3 an invalid policy; 141 nobody reads the output any more, as after `| head`.
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
from aegis_otel.semconv import __version__

_SIGPIPE = 128 + 13
text_or_json_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


class Group(click.Group):
    """Say which command was probably meant, whatever the version of click."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_unknown = name[:1].isalnum() and self.get_command(ctx, name) is None
        if is_unknown and not ctx.resilient_parsing:
            from aegis_otel.policy.messages import closest, quoted

            meant = closest(name, self.list_commands(ctx))
            hint = f" (did you mean `{meant}`?)" if meant else ""
            raise click.UsageError(f"no command {quoted(name)}{hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Load a command only when it is used.

    Args:
        modules: The module that defines each command, by the command's name.
    """

    def __init__(self, *args: Any, modules: dict[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._modules:
            return None
        command = getattr(import_module(self._modules[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


class _Main(LazyGroup):
    """Print an expected error as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AegisError as error:
            for line in str(error).splitlines():
                click.echo(f"Error: {escape(line)}", err=True)
            ctx.exit(3 if isinstance(error, PolicyError) else 2 if isinstance(error, ConfigError) else 1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                _end_without_reader(ctx)
            with contextlib.suppress(OSError):  # or Python would try again at its end
                sys.stdout.close()
            where = f"`{error.filename}`: " if isinstance(error.filename, str | os.PathLike) else ""
            click.echo(f"Error: {escape(where + (error.strerror or str(error)).lower())}", err=True)
            ctx.exit(1)
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # DuckDB's error after Ctrl-C
                raise click.Abort from None
            raise
        except Exception as error:
            duckdb = sys.modules.get("_duckdb")  # no command loads it for this
            if duckdb is None or not isinstance(error, duckdb.Error):
                raise
            first, *_ = str(error).splitlines() or [type(error).__name__]
            what = escape(first.partition("Error: ")[2] or first)
            click.echo(
                f"Error: cannot read the audit: {what}; `aegis audit verify` says what is wrong", err=True
            )
            ctx.exit(1)


def _end_without_reader(ctx: click.Context) -> NoReturn:
    """End silently, like a program that SIGPIPE ends: `aegis audit | head` is not a failure."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # or Python would try again at its end
        os.dup2(nowhere, sys.stdout.fileno())
    ctx.exit(_SIGPIPE)


@click.group(
    cls=_Main,
    modules={
        name: f"{__name__}.{name}" for name in ("approvals", "audit", "demo", "doctor", "policy", "report")
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="aegis-otel")
@click.option("--no-color", is_flag=True, help="Write no colours.  [also: NO_COLOR]")
@click.pass_context
def main(ctx: click.Context, no_color: bool) -> None:
    """Policy and audit for the tool calls of AI agents."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
