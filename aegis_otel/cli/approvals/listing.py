"""`aegis approvals list`: the questions that wait, and the grants that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.approvals.opening import open_desk, path_option
from aegis_otel.cli.approvals.question_text import output_screen, question_report, yes_words
from aegis_otel.cli.approvals.wording import (
    KEY_IS_UNKNOWN,
    UNKNOWN,
    duration_words,
    givers,
    iso,
    moment,
    user_words,
)
from aegis_otel.cli.rendering import Column, TableLayout, echo, print_items
from aegis_otel.governance.approvals.inbox import Answer, Grant, QuestionState, QuestionStatus
from aegis_otel.governance.approvals.inbox_proofs import proven_status
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from aegis_otel.runtime.approval.screen import wrapped

_ALL = "all"


@click.command("list", short_help="Show the questions that wait, and the grants that hold.")
@path_option
@click.option(
    "--status",
    type=click.Choice([*(each.value for each in QuestionStatus), _ALL]),
    default=QuestionStatus.WAITING.value,
    show_default=True,
    help="Only questions that stand so.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="At most so many.",
)
@text_or_json_option
def list(path: str | None, status: str, limit: int, form: str) -> None:
    """Show the questions that wait, the oldest first, and the grants that hold.

    With another --status, the newest come first.
    """
    desk = open_desk(path)
    statuses = tuple(QuestionStatus) if status == _ALL else (QuestionStatus(status),)
    states = _newest_or_oldest(desk, statuses, limit)
    counts = desk.inbox.counts()
    total = sum(counts.by_status.get(each, 0) for each in statuses)
    if form == "json":
        report = {
            "questions": [
                question_report(each, desk.answers(each), desk.refused(each.question.decision_id))
                for each in states
            ],
            "total": total,
            "grants": [_grant_report(each, desk.answers(each.state)) for each in _grants(desk)],
        }
        click.echo(json.dumps(report, indent=2))
        return
    if states:
        print_items(_layouts(desk, status), states)
    else:
        echo("No question waits." if status == QuestionStatus.WAITING else "No such questions.")
    if total > len(states) > 0:
        echo(f"{len(states)} of {total} questions: more with --limit.")
    if any(map(desk.has_unknown_key, states)):
        echo(f"There is an answer that cannot be checked here, as {KEY_IS_UNKNOWN}.")
    screen = output_screen()
    for number, grant in enumerate(_grants(desk)):
        if number == 0:
            echo("Grants:" if states else "\nGrants:")
        echo("\n".join(map(str.rstrip, wrapped("  ", _grant_line(desk, grant), screen))))


def _grants(desk: AnswerDesk) -> Iterator[Grant]:
    """Yield the grants that hold; only some questions are in memory at once."""
    last: str | None = None
    while found := desk.inbox.all_grants(after=last):
        yield from (each for each in found if each.revoked_by is None)
        last = found[-1].grant_id


def _newest_or_oldest(
    desk: AnswerDesk, statuses: Sequence[QuestionStatus], limit: int
) -> Sequence[QuestionState]:
    newest_first = QuestionStatus.WAITING not in statuses or len(statuses) > 1
    found: tuple[QuestionState, ...] = ()
    last: str | None = None
    while len(found) < limit:
        part = desk.inbox.listing(statuses, min(limit - len(found), 500), last, newest_first=newest_first)
        if not part:
            break
        found += part
        last = part[-1].question.decision_id
    return found


def _layouts(desk: AnswerDesk, status: str) -> Sequence[TableLayout[QuestionState]]:
    """Return the tables of questions, the widest first; those for less room have more below each other."""

    def yes(state: QuestionState) -> str:
        return yes_words(state, desk.answers(state))

    def stands(state: QuestionState) -> str:
        if state.can_be_answered:
            return f"{state.status.value}, {_left(state)}"
        return proven_status(state, desk.answers(state)) or UNKNOWN

    id_, asked = Column("ID", _short_id, True), Column("Asked (UTC)", _asked, True)
    risk = Column("Risk", _risk, True)
    action, user = Column("Action -> Target", _action), Column("For", _user)
    stacked = Column("Action -> Target\n(For)", _action, below=_whom)
    end = Column("Ends in", _left, True) if status == QuestionStatus.WAITING else Column("Status", stands)
    return [
        TableLayout([id_, asked, risk, action, user, Column("Yes", yes, True), end]),
        TableLayout([id_, asked, risk, stacked, Column("Yes", yes, True), end], may_break=True),
        TableLayout(
            [
                Column("ID\nAsked (UTC)", _short_id, True, lambda state: [_asked(state)]),
                stacked,
                Column("Risk\nYes", _risk, True, lambda state: [yes(state)]),
                end,
            ],
            may_break=True,
        ),
    ]


def _short_id(state: QuestionState) -> str:
    return state.question.decision_id[-8:]


def _asked(state: QuestionState) -> str:
    return moment(state.question.asked_ns)[5:16]


def _risk(state: QuestionState) -> str | None:
    return state.question.question.risk_level


def _action(state: QuestionState) -> str:
    asked = state.question.question
    target = "" if asked.action_target in (None, "default") else f" -> {asked.action_target}"
    return f"{asked.action_type or '-'}{target}"


def _user(state: QuestionState) -> str | None:
    return user_words(state.question.question)


def _whom(state: QuestionState) -> Sequence[str]:
    asked = state.question.question
    return [f"({asked.user_id or '-'})", *([f"(tenant {asked.tenant_id})"] if asked.tenant_id else [])]


def _left(state: QuestionState) -> str:
    if state.left_s is None:
        return "-"
    return duration_words(state.left_s) if state.can_be_answered else "over"


def _grant_line(desk: AnswerDesk, grant: Grant) -> str:
    """Return what `list` prints of a grant; not escaped yet."""
    asked = grant.state.question.question
    what = f"{_action(grant.state)} for {user_words(asked) or 'no named user'}, by rule {asked.matched_rule}"
    where = f"conversation {grant.conversation_id}" if grant.is_bound else "all conversations"
    left = duration_words((grant.until_ns - grant.state.read_ns) / 1e9)
    by = givers(desk.answers(grant.state), has_unknown_key=desk.has_unknown_key(grant.state))
    return f"{grant.grant_id}  {what}, in {where}, given by {by}, for {left} more"


def _grant_report(grant: Grant, answers: Sequence[Answer]) -> dict[str, Any]:
    asked = grant.state.question.question
    return {
        "grant_id": grant.grant_id,
        "action_type": asked.action_type,
        "action_target": asked.action_target,
        "user_id": asked.user_id,
        "tenant_id": asked.tenant_id,
        "matched_rule": asked.matched_rule,
        "conversation_id": grant.conversation_id,
        "until": iso(grant.until_ns),
        "by": [each.approver for each in answers if each.approved],
    }
