"""What the commands of `aegis audit` have in common: which audit, which rows, and how it is opened."""

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
from aegis_otel.audit.query.filters import RISK_LEVELS, STATUSES, Condition, compile_filters
from aegis_otel.config import AUDIT_DIR, AUDIT_ID
from aegis_otel.errors import AuditError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.audit.findings import Proof


Command = TypeVar("Command", bound=Callable[..., Any])

_TIME = "ISO 8601, UTC unless it has an offset, or how long ago: 30m, 2h, 7d"
_LARGEST = 2**63 - 1
_PARTS = (KEY, LAKE, SEALS)


class Within(click.ParamType[Any]):
    """A range whose ends are so far away that help need not show them."""

    def __init__(self, within: click.ParamType[Any]) -> None:
        self._within = within
        self.name = within.name.removesuffix(" range")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._within.convert(value, param, ctx)


path_option = click.option(
    "--path",
    "--db",
    metavar="DIR",
    help=f"The audit directory, or s3://bucket/prefix.  [default: {AUDIT_DIR.env}, else {AUDIT_DIR.default}]",
)


def _checked_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """Refuse what is no id, under the name of the option and not that of the setting."""
    try:
        return None if value is None else AUDIT_ID.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"`{escape(value or '')}`: {error}") from None


audit_id_option = click.option(
    "--audit",
    "audit_id",
    metavar="ID",
    callback=_checked_id,
    help=f"The id that the audit is known by: another one in its place is found.  [default: {AUDIT_ID.env}]",
)
limit_option = click.option(
    "--limit", type=Within(click.IntRange(1, _LARGEST)), help="At most so many, the newest."
)

_FILTERS = (
    click.option(
        "--risk",
        "--risk-level",
        type=click.Choice([r.lower() for r in RISK_LEVELS], case_sensitive=False),
        help="Only this risk.",
    ),
    click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only this result."),
    click.option("--session", metavar="ID", help="Only this session."),
    click.option("--rule", metavar="NAME", help="Decided by this rule."),
    click.option("--agent", metavar="NAME", help="Asked for by this agent."),
    click.option("--tool", metavar="NAME", help="Calls of this tool."),
    click.option("--type", "--action-type", "kind", metavar="TYPE", help="Actions of this type."),
    click.option("--since", metavar="TIME", help=f"Of this time or later ({_TIME})."),
    click.option("--until", metavar="TIME", help="Before this time."),
)


def filter_options(command: Command) -> Command:
    """The options that say which rows; their values make a condition by `matching`."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def matching(
    *,
    risk: str | None,
    status: str | None,
    session: str | None,
    rule: str | None,
    agent: str | None,
    tool: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
) -> Condition:
    """The rows that the filter options mean.

    Raises:
        ConfigError: for a value that no row can have.
    """
    return compile_filters(
        session,
        {
            "risk_level": risk,
            "result_status": status,
            "matched_rule": rule,
            "agent_name": agent,
            "tool_name": tool,
            "action_type": kind,
            "since": since,
            "until": until,
        },
    )


def find_audit(ctx: click.Context, path: str | None) -> Path:
    """The audit's directory; where there is none, that is said and the command ends.

    Raises:
        AuditError: when something else stands there, or a part of an audit only.
    """
    directory = locate(path)
    if (url := address(path)) is not None:
        prepare(directory, url)
    try:
        has_journal = (directory / JOURNAL).exists()
    except OSError as error:
        raise failure("read the audit at", directory, error, "run this as the user that writes it") from error
    if not has_journal and any(os.path.lexists(directory / each) for each in _PARTS):
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
        ctx.exit(1)
    return directory


def expected_audit(given: str | None, path: str | None) -> str:
    """The id that the audit is to have; empty where any will do.

    The environment's is of the audit that the environment names, and not of another `path`.

    Raises:
        ConfigError: it is no id.
    """
    return AUDIT_ID.value(given) if given is not None or path is None else ""


def address_given() -> str | None:
    """The address on object storage that the command's argument, or else the environment, names.

    Nothing in the audit directory can name one.
    """
    context = click.get_current_context(silent=True)
    named = (context.params.get(name) for name in ("path", "directory")) if context else ()
    return address(next(filter(None, named), None))


class Fetched(NamedTuple):
    """What came of fetching what others have sealed."""

    problems: list[str]
    """What is not at the place as it was sealed, or as it was fetched before, a sentence each."""
    unreached: str = ""
    """Why the place could not be reached; empty where it was."""


def fetch_others(directory: Path) -> Fetched:
    """Fetch what others have sealed at the same place on object storage; what cannot be is said."""
    from aegis_otel.audit.maintenance.remote_copy import fetch

    try:
        fetched = Fetched(fetch(directory, address_given()))
    except AuditError as error:
        fetched = Fetched([], str(error))
        click.echo(escape(f"{error}; of other machines, what was fetched before is shown"), err=True)
    for problem in fetched.problems:
        click.echo(escape(problem), err=True)
    return fetched


def verify_fetched(directory: Path, fetched: Fetched, **scope: Any) -> Proof:
    """Verify an audit, and what was fetched beside it where it is named by an address.

    Args:
        fetched: What came of the fetching. What was fetched earlier can be whole and still not be what is at
            the place now: that is a finding, too.
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
    """The audit as SQL, with what others have sealed by now; what cannot be read is said beside the data.

    Raises:
        AuditError: when it cannot be read, or was written by a newer version.
    """
    fetch_others(directory)
    return open_fetched(directory)


def open_fetched(directory: Path) -> duckdb.DuckDBPyConnection:
    """As `open_audit`, with what `fetch_others` has fetched."""
    from aegis_otel.audit.query.connection import left_out, open_view

    audit = open_view(directory, mirrors=address_given() is not None)
    say_left_out(left_out(audit, directory))
    return audit


def say_left_out(sentences: Iterable[str]) -> None:
    """Say on standard error what is not among the data."""
    for sentence in sentences:
        click.echo(escape(sentence), err=True)
