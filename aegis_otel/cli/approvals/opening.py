"""Open the inbox that the command line or the environment names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from aegis_otel.audit.location import locate
from aegis_otel.config import AUDIT_DIR, STATE
from aegis_otel.config.storage_schemes import examples
from aegis_otel.governance.approvals.inbox import Inbox
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.runtime.approval.answer_desk import AnswerDesk
    from aegis_otel.runtime.approval.answer_signature import AnswerSigner

path_option = click.option(
    "--path",
    metavar="DIR",
    help=f"The audit directory, or {examples()}: the inbox is beside it, unless {STATE.env} says where.  "
    f"[default: {AUDIT_DIR.env}, else {AUDIT_DIR.default}]",
)


def open_desk(path: str | None, *, makes_inbox: bool = False) -> AnswerDesk:
    """Return what questions are read from, and answered by. Where there is no inbox, end the command.

    The key that signs answers is read with the first one.

    Args:
        path: The audit directory, as given.
        makes_inbox: Make an inbox where there is none.

    Raises:
        ConfigError: a setting or a key cannot work.
        AuditError: the directory or a key cannot be read.
    """
    from aegis_otel.runtime.approval.answer_desk import desk_of

    directory = locate(path)
    return desk_of(_open_inbox(directory, makes_inbox=makes_inbox), directory)


def load_signer(path: str | None) -> AnswerSigner:
    """Return what signs answers; errors are those of `open_desk`."""
    from aegis_otel.runtime.approval.answer_signature import load_answer_signer

    # People use these commands in their home directory; what matters is where agents work.
    return load_answer_signer(locate(path), tools_work_here=False)


def open_commands_inbox(path: str | None) -> Inbox:
    """Return the inbox alone, without a key; errors are those of `open_desk`."""
    return _open_inbox(locate(path), makes_inbox=False)


def _open_inbox(directory: Path, *, makes_inbox: bool) -> Inbox:
    from aegis_otel.runtime.inbox_signals import open_reported_inbox
    from aegis_otel.state.opening import FILE, has_state

    if not makes_inbox and not has_state(directory):
        click.echo(
            f"no inbox at `{escape(str(directory / FILE))}`: it is made with the first question; name "
            f"another audit with --path or {AUDIT_DIR.env}, or a state with {STATE.env}",
            err=True,
        )
        raise click.exceptions.Exit(1)
    return open_reported_inbox(directory)


def inbox_words(path: str | None) -> str:
    """Return where the inbox is, in words, without a user and a password."""
    address = STATE.value()
    if not address:
        from aegis_otel.state.opening import FILE

        return str(locate(path) / FILE)
    kind, _, rest = address.partition("://")
    if kind == "sqlite":
        return rest.removeprefix("/")
    parts = urlsplit(address)
    return f"PostgreSQL, `{parts.hostname or 'this machine'}{parts.path}`"
