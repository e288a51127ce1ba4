"""`aegis approvals revoke` and `expire`: end grants, and questions whose time is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_otel.audit.location import JOURNAL, locate
from aegis_otel.cli.approvals.opening import open_commands_inbox, path_option
from aegis_otel.cli.rendering import echo, plural
from aegis_otel.governance.approvals.inbox import Answer, Inbox, SignedAnswer
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.local_user import local_user_name

if TYPE_CHECKING:
    from aegis_otel.runtime.approval.row_closing import ClosedRows

_MOST_LOOKED_AT = 500
"""Grants that are looked at for one whose id somebody has not given whole."""


@click.command(short_help="End grants before their time.")
@path_option
@click.argument("grants", metavar="ID...", nargs=-1, required=True)
def revoke(path: str | None, grants: tuple[str, ...]) -> None:
    """End grants before their time: calls that they were for are asked about again.

    ID is the id of a grant, as `aegis approvals list` prints it. If one does not hold, the exit code is 1,
    and if one is only a part of an id, 2.
    """
    inbox, name = open_commands_inbox(path), local_user_name()
    code = 0
    for grant in grants:
        if inbox.revoke(grant, name):
            echo(f"{escape(grant)} ended")
        elif _is_part_of_id(inbox, grant):
            click.echo(
                f"`{escape(grant)}` is no whole id: give all of it, as `aegis approvals list` prints it",
                err=True,
            )
            code = 2
        else:
            click.echo(f"no grant with the id `{escape(grant)}` holds", err=True)
            code = max(code, 1)
    if code:
        raise click.exceptions.Exit(code)


def _is_part_of_id(inbox: Inbox, wanted: str) -> bool:
    ids = (each.grant_id for each in inbox.all_grants(_MOST_LOOKED_AT) if each.revoked_by is None)
    return any(each.startswith(wanted) or each.endswith(wanted) for each in ids)


@click.command(short_help="End the questions whose time is over.")
@path_option
def expire(path: str | None) -> None:
    """End the questions whose time is over, also where the process that asked is gone.

    Then close the rows of the audit that wait for an answer which can come no more: those of questions that
    ended, or whose time was over, a minute ago or before. Until then it is left to the process that asked.

    Processes that use the inbox do this themselves. Use it, from a timer, where none may run for long.
    """
    inbox = open_commands_inbox(path)
    ended = inbox.expire()
    for decision_id in ended:
        echo(f"{escape(decision_id)} expired")
    closed, left = _close_rows(locate(path), inbox)
    for decision_id in closed:
        echo(f"{escape(decision_id)} closed: its row does not wait any more")
    if ended or closed:
        echo(f"{plural(len(ended), 'question')} ended, {plural(len(closed), 'row')} of the audit closed")
    elif not left:
        echo("No question's time is over.")
    if left:
        echo(
            f"{plural(len(left), 'row')} of the audit will be closed a minute after the end of the question, "
            "by this command or by the next process that starts with this audit"
        )


def _close_rows(directory: Path, inbox: Inbox) -> ClosedRows:
    from aegis_otel.runtime.approval.answer_signature import load_answer_keys
    from aegis_otel.runtime.approval.row_closing import ClosedRows, close_ended_rows
    from aegis_otel.runtime.audit import AuditLogger

    if not (directory / JOURNAL).is_dir():
        return ClosedRows()

    def check(signed: SignedAnswer) -> Answer:  # without answers no key is needed
        return load_answer_keys(directory, tools_work_here=False)(signed)

    audit = AuditLogger(directory)
    try:
        return close_ended_rows(audit, inbox, check)
    finally:
        audit.close()
