"""Find a question by its id, or by the beginning or the end of it."""

from __future__ import annotations

import click

from aegis_otel.governance.approvals.inbox import Inbox, QuestionState, QuestionStatus
from aegis_otel.redaction.terminal import escape

_AT_ONCE = 200
"""Questions that are read in one step."""
_AMBIGUOUS = 4
"""Ids that are named where a part of an id is in several."""
_LEAST_WHOLE = 32
"""Characters from which on an id is taken for a whole one: ours have 36."""


def find_question(inbox: Inbox, wanted: str, *, is_shown: bool = True) -> QuestionState:
    """Return the question with an id, or with an id that begins or ends so; else end the command.

    Whoever can write to the inbox chooses ids. So a short one, such as `list` prints, is not taken for a
    whole one where it is a part of another one.

    Args:
        inbox: Where the questions are.
        wanted: The id.
        is_shown: Whether a person sees the question before it is answered; else the whole id is needed.
    """
    exact = inbox.look([wanted])
    if exact and len(wanted) >= _LEAST_WHOLE:
        return exact[wanted]
    statuses = (QuestionStatus.WAITING,) if is_shown and not exact else tuple(QuestionStatus)
    others = [each for each in _with_part(inbox, wanted, statuses) if each.question.decision_id not in exact]
    found = [*exact.values(), *others]
    if is_shown and not found:
        found = _with_part(inbox, wanted, tuple(QuestionStatus))
    if found and not exact and not is_shown:
        click.echo(
            f"`{escape(wanted)}` is no whole id: without a terminal, or with --yes, give all of it, as "
            "`aegis approvals show` prints it",
            err=True,
        )
        raise click.exceptions.Exit(2)
    if len(found) == 1:
        return found[0]
    if not found:
        said = "has the id" if len(wanted) >= _LEAST_WHOLE else "has an id that begins or ends with"
        click.echo(f"no question {said} `{escape(wanted)}`", err=True)
    else:
        click.echo(f"more than one question has an id with `{escape(wanted)}`, among them:", err=True)
        for state in found[:_AMBIGUOUS]:
            click.echo(f"  {escape(state.question.decision_id)}", err=True)
    raise click.exceptions.Exit(1)


def _with_part(inbox: Inbox, part: str, statuses: tuple[QuestionStatus, ...]) -> list[QuestionState]:
    """Return the first questions whose ids begin or end with a part."""
    found: list[QuestionState] = []
    last: str | None = None
    while (states := inbox.listing(statuses, _AT_ONCE, last)) and len(found) < _AMBIGUOUS:
        last = states[-1].question.decision_id
        found += [
            each for each in states if each.question.decision_id.startswith(part)
            or each.question.decision_id.endswith(part)
        ]  # fmt: skip
    return found
