"""Define the options that the commands of `aegis audit` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aegis_otel.audit.query.export import FORMATS
from aegis_otel.audit.query.filters import MODES, RISK_LEVELS, STATUSES, Condition, compile_filters
from aegis_otel.config import AUDIT_DIR, AUDIT_ID
from aegis_otel.config.storage_schemes import examples
from aegis_otel.redaction.terminal import escape

Command = TypeVar("Command", bound=Callable[..., Any])

STDOUT = "-"
_LARGEST = 2**63 - 1


class Within(click.ParamType[Any]):
    """Convert as a range does, but keep its distant ends out of the help."""

    def __init__(self, within: click.ParamType[Any]) -> None:
        self._within = within
        self.name = within.name.removesuffix(" range")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._within.convert(value, param, ctx)


def _checked_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """Refuse what is not an id, under the name of the option and not that of the setting."""
    try:
        return None if value is None else AUDIT_ID.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"`{escape(value or '')}`: {error}") from None


path_option = click.option(
    "--path",
    "--db",
    metavar="DIR",
    help=f"The audit directory, or {examples()}.  [default: {AUDIT_DIR.env}, else {AUDIT_DIR.default}]",
)
audit_id_option = click.option(
    "--audit",
    "audit_id",
    metavar="ID",
    callback=_checked_id,
    help=f"The id that the audit must have; fail for any other.  [default: {AUDIT_ID.env}]",
)
limit_option = click.option(
    "--limit", metavar="N", type=Within(click.IntRange(1, _LARGEST)), help="Only the newest N entries."
)


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Return the option `--format`; a table is for a terminal, and no file has it."""
    by_suffix = "the file's suffix, else jsonl"
    default = f"table; for a file: {by_suffix}" if "table" in formats else by_suffix
    return click.option("--format", "form", type=click.Choice(formats), help=f"[default: {default}]")


def output_option(*names: str, help: str) -> Callable[[Command], Command]:
    """Return the option `--output`, by other names too."""
    return click.option("-o", "--output", *names, metavar="FILE", help=help)


def checked_output(file: str | None, form: str | None) -> str:
    """Return the format: the one given, else the one that the file's suffix names, else JSON lines.

    Without a file it is a table.

    Raises:
        UsageError: the format does not go with the file, or the suffix is not a format.
    """
    if file is None:
        if form == "parquet":
            raise click.UsageError("--format parquet is a file: say where with --output FILE")
        return form or "table"
    if form == "table":
        raise click.UsageError("--output does not go with --format table")
    if not file:
        raise click.UsageError(f"give the file a name, or `{STDOUT}` for standard output")
    suffix = Path(file).suffix.lower().removeprefix(".")
    if form is None and suffix and suffix not in FORMATS:
        *names, last = FORMATS
        raise click.UsageError(
            f"`{escape(Path(file).suffix)}` is no format: give --format {', '.join(names)} or {last}"
        )
    form = form or suffix or "jsonl"
    if file == STDOUT and FORMATS[form] is None:
        raise click.UsageError(f"{form} needs a file: it cannot go to standard output")
    return form


_FILTERS = (
    click.option(
        "--risk",
        "--risk-level",
        "risk_level",
        type=click.Choice([level.lower() for level in RISK_LEVELS], case_sensitive=False),
        help="Only calls of this risk level.",
    ),
    click.option(
        "--status",
        "result_status",
        metavar="RESULT",
        type=click.Choice(STATUSES, case_sensitive=False),
        help=f"Only calls with this result: {', '.join(STATUSES)}.",
    ),
    click.option("--session", "session_id", metavar="ID", help="Only calls of this session."),
    click.option("--rule", "matched_rule", metavar="NAME", help="Only calls that this rule decided."),
    click.option("--agent", "agent_name", metavar="NAME", help="Only calls by this agent."),
    click.option("--tool", "tool_name", metavar="NAME", help="Only calls of this tool."),
    click.option("--user", "user_id", metavar="ID", help="Only calls for this user."),
    click.option("--tenant", "tenant_id", metavar="ID", help="Only calls for this tenant."),
    click.option("--conversation", "conversation_id", metavar="ID", help="Only calls of this conversation."),
    click.option("--approver", metavar="NAME", help="Only calls that this person answered about."),
    click.option(
        "--mode",
        type=click.Choice(MODES, case_sensitive=False),
        help="Only calls decided in this mode.",
    ),
    click.option("--type", "--action-type", "action_type", metavar="TYPE", help="Only actions of this type."),
    click.option(
        "--since",
        metavar="TIME",
        help="Only calls since then: ISO 8601 (UTC without an offset), or how long ago: 30m, 2h, 7d.",
    ),
    click.option("--until", metavar="TIME", help="Only calls before this time, written like --since."),
)


def filter_options(command: Command) -> Command:
    """Add the options that select rows, named as the filters of `audit.query.filters`."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def condition_of(filters: dict[str, Any]) -> Condition:
    """Return the condition on rows that the filter options stand for.

    Raises:
        ConfigError: a value is one that no row can have.
    """
    return compile_filters(filters.pop("session_id"), filters)  # type: ignore[arg-type]
