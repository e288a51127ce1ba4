"""`aegis approvals approve` and `deny`: answer a question as the user of this machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.approvals.opening import open_desk, path_option
from aegis_otel.cli.approvals.question_lookup import find_question
from aegis_otel.cli.approvals.question_text import labelled_facts, question_lines
from aegis_otel.cli.approvals.wording import grant_words, moment, scope_words, to_you
from aegis_otel.cli.rendering import echo
from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import (
    LONGEST_GRANT_S,
    Answer,
    GrantTerms,
    QuestionState,
    QuestionStatus,
    RefusedAnswer,
)
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_desk import Person
from aegis_otel.runtime.approval.local_user import local_user_name
from aegis_otel.runtime.approval.screen import MOST_LINES, NARROWEST, Screen, forget_what_was_typed, screen_of

_CONVERSATION = "conversation"
_LONGEST = f"{LONGEST_GRANT_S / 3600:.0f}h"

_reason_option = click.option("--reason", metavar="TEXT", help="Why; it goes into the audit.")
_yes_option = click.option("-y", "--yes", is_flag=True, help="Do not show the question and ask first.")


class _Grant(click.ParamType[GrantTerms]):
    """Parses `--also`: `conversation`, or a duration such as `1h`."""

    name = "grant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> GrantTerms:
        from aegis_otel.policy.loading.durations import is_duration, seconds

        if value == _CONVERSATION:
            return GrantTerms()
        if is_duration(value, int(LONGEST_GRANT_S)):
            return GrantTerms(seconds(value), "time")
        return self.fail(
            f"`{escape(value)}` is neither `conversation` nor a time, such as `1h`, of at most `{_LONGEST}`",
            param,
            ctx,
        )


@click.command(short_help="Let a call run.")
@path_option
@_reason_option
@click.option(
    "--also",
    type=_Grant(),
    metavar="WHAT",
    help="Say yes to such calls of any agent as well: the same rule, tool, target and user, in this "
    f"`conversation`, or in all of the user for a time such as `1h`, at most {_LONGEST}.",
)
@_yes_option
@text_or_json_option
@click.argument("id")
def approve(
    *, path: str | None, reason: str | None, also: GrantTerms | None, yes: bool, form: str, id: str
) -> None:
    """Let a call run. At a terminal, the question is shown first, unless it takes more than 200 lines.

    ID is the decision id of the question. Where the question is shown, the beginning or the end of it is
    enough. You answer as the user that the operating system knows. If the answer does not count, the exit
    code is 1.
    """
    _answer(path, id, approved=True, reason=reason, grant=also, at_once=yes, form=form)


@click.command(short_help="Refuse a call.")
@path_option
@_reason_option
@_yes_option
@text_or_json_option
@click.argument("id")
def deny(path: str | None, reason: str | None, yes: bool, form: str, id: str) -> None:
    """Refuse a call. At a terminal, the question is shown first.

    ID and who answers are as for `approve`.
    """
    _answer(path, id, approved=False, reason=reason, grant=None, at_once=yes, form=form)


def _answer(
    path: str | None,
    wanted: str,
    *,
    approved: bool,
    reason: str | None,
    grant: GrantTerms | None,
    at_once: bool,
    form: str,
) -> None:
    desk, person = open_desk(path), Person(local_user_name(), (), "local")
    is_shown = not at_once and sys.stdin.isatty()
    state = find_question(desk.inbox, wanted, is_shown=is_shown)
    decision_id = state.question.decision_id
    if is_shown and state.can_be_answered and desk.why_key_is_untrusted(state) is None:
        refused = desk.refused(state.question.decision_id)
        screen = _show(state, desk.answers(state), refused, approved=approved)
        if grant is not None:
            click.echo(f"\nA yes would be one {grant_words(grant)}.", err=True)
        _confirm(f"\n{'Approve' if approved else 'Deny'} it as {escape(person.name)}?", screen)
    try:
        status = desk.give(decision_id, state.digest, person, approved=approved, reason=reason, grant=grant)
    except AnswerRefused as error:
        raise AnswerRefused(f"your answer does not count: {to_you(str(error), person)}") from error
    said = "approved" if approved else "denied"
    more = ""
    if status is QuestionStatus.WAITING:
        more = "; more persons have to say yes"
    elif grant is not None:
        until = moment(time.time_ns() + int(grant.seconds * 1e9))
        more = f", {scope_words(grant)} until {until}; to end that: aegis approvals revoke {decision_id}"
    text = escape(f"{decision_id} {said} by {person.name}{more}")
    report = {"decision_id": decision_id, "status": status.value, "approver": person.name}
    try:
        echo(json.dumps(report) if form == "json" else text)
    except OSError as error:  # the answer is given all the same
        with suppress(OSError):  # or Python would try again at its end
            sys.stdout.close()
        why = (error.strerror or str(error)).lower()
        click.echo(f"{text}, which cannot be written to standard output: {why}", err=True)


def _show(
    state: QuestionState, answers: Sequence[Answer], refused: Sequence[RefusedAnswer], *, approved: bool
) -> Screen:
    """Show a question on standard error, as standard output may be a file; return the size of the screen.

    Raises:
        click.ClickException: it cannot be shown whole, and is to be approved.
    """
    screen = screen_of(sys.stdin, sys.stderr)
    if not sys.stderr.isatty():
        raise click.ClickException("the question is shown on standard error, which is no terminal")
    if screen.columns < NARROWEST:
        raise click.ClickException(f"{screen.columns} columns are too few to show the question")
    size = sum(len(value or "") for _, value in labelled_facts(state, answers, refused))
    is_long = size > MOST_LINES * screen.columns  # without reading each character of what may be megabytes
    lines: list[str] = []
    if not (is_long and approved):
        lines = list(islice(question_lines(state, answers, refused, screen), MOST_LINES + 1))
    if len(lines) > MOST_LINES:
        is_long, lines = True, [*lines[:MOST_LINES], "(and more that is not shown)"]
    if is_long and approved:
        raise click.ClickException(
            f"it takes more than the {MOST_LINES} lines that are shown at a terminal: read and approve it on "
            "the page (`aegis approvals serve`), or deny it"
        )
    if len(lines) + 4 > screen.rows > 0:
        lines.append(f"({len(lines)} lines, and {screen.rows} on this screen: scroll up to read all of it)")
    click.echo("\n".join(lines), err=True)
    return screen


def _confirm(question: str, screen: Screen) -> None:
    """End the command unless the person types a yes, in a window that has stayed as wide as `screen`."""
    forget_what_was_typed(sys.stdin)
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise click.Abort
    if screen_of(sys.stdin, sys.stderr).columns < screen.columns:  # it has broken our lines anew
        raise click.ClickException("the window is narrower now than the question: nothing was done")
