"""Define what the commands of `aegis audit` share: their options, and how they open an audit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from aegis_otel.audit.location import (
    JOURNAL,
    KEY,
    LAKE,
    MIRROR,
    SEALS,
    address,
    exists,
    failure,
    locate,
    prepare,
)
from aegis_otel.audit.query.export import FORMATS
from aegis_otel.audit.query.filters import RISK_LEVELS, STATUSES, Condition, compile_filters
from aegis_otel.config import AUDIT_DIR, AUDIT_ID
from aegis_otel.errors import AuditError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.audit.findings import Proof


Command = TypeVar("Command", bound=Callable[..., Any])

STDOUT = "-"
_TIME = "ISO 8601, UTC unless it has an offset, or how long ago: 30m, 2h, 7d"
_LARGEST = 2**63 - 1


class Within(click.ParamType[Any]):
    """Convert as a range does, and leave its ends out of the help, because they are far away."""

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
    help=f"The audit directory, or s3://bucket/prefix.  [default: {AUDIT_DIR.env}, else {AUDIT_DIR.default}]",
)
audit_id_option = click.option(
    "--audit",
    "audit_id",
    metavar="ID",
    callback=_checked_id,
    help=f"The id that the audit must have; another audit is a finding.  [default: {AUDIT_ID.env}]",
)
limit_option = click.option(
    "--limit", type=Within(click.IntRange(1, _LARGEST)), help="At most so many, the newest."
)


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Return the option `--format`; a table is for a terminal, and no file has it."""
    default = (
        "table; for a file its suffix, else jsonl" if "table" in formats else "the file's suffix, else jsonl"
    )
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
        help="Only this risk.",
    ),
    click.option(
        "--status",
        "result_status",
        type=click.Choice(STATUSES, case_sensitive=False),
        help="Only this result.",
    ),
    click.option("--session", "session_id", metavar="ID", help="Only this session."),
    click.option("--rule", "matched_rule", metavar="NAME", help="Decided by this rule."),
    click.option("--agent", "agent_name", metavar="NAME", help="Asked for by this agent."),
    click.option("--tool", "tool_name", metavar="NAME", help="Calls of this tool."),
    click.option("--type", "--action-type", "action_type", metavar="TYPE", help="Actions of this type."),
    click.option("--since", metavar="TIME", help=f"Of this time or later ({_TIME})."),
    click.option("--until", metavar="TIME", help="Before this time."),
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


def find_audit(path: str | None) -> Path:
    """Return the audit's directory. Where there is none, say so and end the command.

    Raises:
        AuditError: something else is there, or only a part of an audit.
    """
    directory = locate(path)
    if (url := address(path)) is not None:
        prepare(directory, url)
    try:
        has_journal = (directory / JOURNAL).exists()
    except OSError as error:
        raise failure("read the audit at", directory, error, "run this as the user that writes it") from error
    if not has_journal and any(os.path.lexists(directory / each) for each in (KEY, LAKE, SEALS)):
        raise AuditError(
            f"`{directory}` is a part of an audit only: it has no `{JOURNAL}`; restore it, or check what is "
            "sealed by `aegis audit verify` with --witness or --public-key"
        )
    there = exists(directory)
    if not there or not os.listdir(directory):
        why = "the directory is empty" if there else "there is no such directory"
        click.echo(
            f"no audit at `{escape(str(directory))}` ({why}): it is made with the first record; "
            f"name another with --path or {AUDIT_DIR.env}",
            err=True,
        )
        raise click.exceptions.Exit(1)
    return directory


def expected_audit(given: str | None, path: str | None) -> str:
    """Return the id that the audit must have; empty where any will do.

    The environment's id is that of the environment's audit, and not of another `path`.

    Raises:
        ConfigError: it is not an id.
    """
    return AUDIT_ID.value(given) if given is not None or path is None else ""


def address_given() -> str | None:
    """Return the address on object storage that the command line, or else the environment, names.

    Nothing in the audit directory can name one.
    """
    context = click.get_current_context(silent=True)
    named = (context.params.get(name) for name in ("path", "directory")) if context else ()
    return address(next(filter(None, named), None))


class Fetched(NamedTuple):
    """The result of fetching what others have sealed."""

    problems: list[str]
    """What is not at the place as it was sealed, or as it was fetched before, a sentence each."""
    unreached: str = ""
    """Why the place could not be reached; empty where it was."""


def fetch_others(directory: Path) -> Fetched:
    """Fetch what others have sealed at the same place on object storage, and say what cannot be fetched."""
    if (url := address_given()) is None:
        return Fetched([])
    from aegis_otel.audit.maintenance.remote_copy import fetch

    try:
        fetched = Fetched(fetch(directory, url))
    except AuditError as error:
        fetched = Fetched([], str(error))
        report_problems([f"{error}; of other machines, what was fetched before is shown"])
    report_problems(fetched.problems)
    return fetched


def verify_fetched(directory: Path, fetched: Fetched, **scope: Any) -> Proof:
    """Verify an audit, and what was fetched beside it where it is named by an address.

    Args:
        directory: The audit's directory.
        fetched: The result of fetching. A file fetched earlier can be intact and still differ from what is
            at the place now: that is a finding, too.
        scope: As for `audit.verify.verify.verify`.
    """
    from aegis_otel.audit.findings import Finding
    from aegis_otel.audit.verify.verify import verify

    proof = verify(directory, mirrors=address_given() is not None, **scope)
    proof.findings += [Finding(MIRROR, problem) for problem in fetched.problems]
    if fetched.unreached:
        proof.unproven.append(f"that others have sealed this and nothing else: {fetched.unreached}")
    return proof


def open_audit(directory: Path) -> duckdb.DuckDBPyConnection:
    """Open the audit for SQL, with what others have sealed by now, and say what cannot be read.

    Raises:
        AuditError: it cannot be read, or was written by a newer version.
    """
    fetch_others(directory)
    return open_fetched(directory)


def open_fetched(directory: Path) -> duckdb.DuckDBPyConnection:
    """Open the audit as `open_audit` does, with what `fetch_others` has fetched."""
    from aegis_otel.audit.query.connection import left_out, open_view

    audit = open_view(directory, mirrors=address_given() is not None)
    report_problems(left_out(audit, directory))
    return audit


def report_problems(sentences: Iterable[str]) -> None:
    """Print sentences on standard error."""
    for sentence in sentences:
        click.echo(escape(sentence), err=True)
