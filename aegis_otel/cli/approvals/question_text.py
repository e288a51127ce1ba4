"""What `list`, `show`, `approve` and `aegis audit show` print of a question and its answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import Any, NamedTuple

from aegis_otel.cli.approvals.wording import (
    UNKNOWN,
    approvers_words,
    duration_words,
    grant_words,
    iso,
    moment,
    role_names,
    status_words,
)
from aegis_otel.cli.rendering import UNBOUNDED, terminal_width
from aegis_otel.governance.approvals.inbox import Answer, QuestionState, QuestionStatus, RefusedAnswer
from aegis_otel.governance.approvals.inbox_proofs import judgement, proven_status
from aegis_otel.runtime.approval.screen import (
    NARROWEST,
    USUAL_COLUMNS,
    Screen,
    argument_lines,
    arguments_of,
    wrapped,
)

# --- for people ---


def question_lines(
    state: QuestionState,
    answers: Sequence[Answer],
    refused: Sequence[RefusedAnswer],
    screen: Screen,
    *,
    has_unknown_key: bool = False,
) -> Iterator[str]:
    """Yield all of a question, escaped, in lines that are not wider than a screen.

    Each begins with characters of ours, as at the terminal of an agent: see `runtime.approval.screen`.

    Args:
        state: The question.
        answers: Those that are proven.
        refused: Those that count for nothing.
        screen: Its size.
        has_unknown_key: As for `status_words`.
    """
    asked = state.question.question
    stands = status_words(state, answers, has_unknown_key=has_unknown_key)
    yield from wrapped("", f"{asked.decision_id}  {asked.risk_level or '-'}  {stands}", screen)
    yield ""
    for name, value in labelled_facts(state, answers, refused):
        if name == "arguments" and (arguments := arguments_of(asked.action_params, some=True)):
            yield from argument_lines(_prefix(name), arguments, screen)
        elif value:
            yield from wrapped(_prefix(name), value, screen)


def _prefix(name: str) -> str:
    return f"  {name:<14}"


def labelled_facts(
    state: QuestionState, answers: Sequence[Answer], refused: Sequence[RefusedAnswer]
) -> Iterator[tuple[str, str | None]]:
    """Yield the labels and the texts of what the commands print of a question; not escaped yet."""
    for fact in question_facts(state):
        if fact.label:
            yield fact.label, fact.text
        if fact.label == "may answer":
            yield from answer_lines(state, answers, refused)


class QuestionFact(NamedTuple):
    """Something that a question says, and how the commands and the page call it."""

    label: str
    """What the commands call it; empty where they do not print it on a line of its own."""
    section: str
    """The section of the question's page that lists it; empty where none does."""
    title: str
    """What that section calls it."""
    text: str | None
    """Not escaped; None where the question does not say it."""


def question_facts(state: QuestionState) -> Iterator[QuestionFact]:
    """Yield what a question says, in the order of the commands and of the page."""
    shared, asked = state.question, state.question.question
    target = None if asked.action_target == "default" else asked.action_target
    left, until = state.left_s, None
    if shared.expires_ns is not None and left is not None:
        more = f", in {duration_words(left)}" if state.can_be_answered else ""
        until = f"{moment(shared.expires_ns)}{more}"
    yield from starmap(
        QuestionFact,
        (
            ("action", "", "", f"{asked.action_type} -> {target}" if target else asked.action_type),
            ("", "what", "Action", asked.action_type),
            ("", "what", "Target", target),
            ("", "what", "Tool", asked.tool_name),
            ("description", "what", "Description", asked.action_description),
            ("arguments", "", "", asked.action_params),
            ("agent", "who", "Agent", asked.agent_name),
            ("user", "who", "For the user", asked.user_id),
            ("tenant", "who", "Tenant", asked.tenant_id),
            ("roles", "who", "Their roles", role_names(asked.user_roles)),
            ("tool", "", "", asked.tool_name),
            ("rule", "who", "Rule", asked.matched_rule),
            ("reason", "who", "Reason", asked.reason),
            ("asked", "", "", moment(shared.asked_ns)),
            ("until", "", "", until),
            ("may answer", "who", "Who may answer", approvers_words(shared.approvers)),
            ("used by", "", "", state.used_by),
            ("", "ids", "Decision", asked.decision_id),
            ("conversation", "ids", "Conversation", asked.conversation_id),
            ("run", "ids", "Run", shared.run_id),
            ("call", "ids", "Call", shared.tool_call_id),
            ("policy", "ids", "Policy", asked.policy_digest),
            ("trusted keys", "ids", "Trusted keys", ", ".join(shared.trusted_keys) or None),
        ),
    )


def answer_lines(
    state: QuestionState, answers: Sequence[Answer], refused: Sequence[RefusedAnswer]
) -> list[tuple[str, str]]:
    """Return who has answered a question, what is missing, and which answers count for nothing; not escaped.

    Each is a name and a text.
    """
    found = []
    for each in answers:
        roles = f" ({', '.join(each.roles)})" if each.roles else ""
        grant = f", {grant_words(each.grant)}" if each.grant else ""
        why = f": {each.reason}" if each.reason else ""
        said = f"{each.approver}{roles}, {moment(each.answered_ns)}{grant}{why}"
        found.append(("yes" if each.approved else "no", said))
    missing = judgement(state, answers).missing
    if state.status is QuestionStatus.WAITING and state.question.approvers is not None and missing > 1:
        found.append(("needs", f"{missing} more to say yes"))
    lost = [("refused", f"{each.approver}, {moment(each.at_ns)}: {each.why}") for each in refused]
    return found + lost


def yes_words(state: QuestionState, answers: Sequence[Answer]) -> str:
    """Return how many persons have said yes, of how many who have to: `1 of 2`."""
    needed = judgement(state, ()).missing
    missing = judgement(state, [each for each in answers if each.approved]).missing
    return f"{needed - missing} of {needed}"


def output_screen() -> Screen:
    """Return the size of standard output; that of a usual terminal for a pipe, which often leads to one."""
    room = terminal_width()
    columns = USUAL_COLUMNS if room >= UNBOUNDED else max(room, NARROWEST)
    return Screen(columns, 0, sys.stdout.encoding or "utf-8")


# --- for programs ---


def question_report(
    state: QuestionState, answers: Sequence[Answer], refused: Sequence[RefusedAnswer]
) -> dict[str, Any]:
    """Return a question for programs; `digest` is what an answer is bound to."""
    import msgspec

    shared = state.question
    judged = judgement(state, answers)
    return {
        **msgspec.to_builtins(shared.question),
        "status": proven_status(state, answers) or UNKNOWN,
        "digest": state.digest,
        "kind": shared.kind,
        "asked_at": iso(shared.asked_ns),
        "expires_at": None if shared.expires_ns is None else iso(shared.expires_ns),
        "approvers": None if shared.approvers is None else shared.approvers.as_written,
        "answers": [msgspec.to_builtins(each) for each in answers],
        "yes_missing": judged.missing,
        "refused_answers": [
            {"approver": each.approver, "why": each.why, "at": iso(each.at_ns)} for each in refused
        ],
        "run_id": shared.run_id,
        "tool_call_id": shared.tool_call_id,
        "trusted_keys": list(shared.trusted_keys),
        "used_by": state.used_by,
    }
