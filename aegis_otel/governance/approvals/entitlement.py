"""Judge answers: whose answer counts by what a rule says of its approvers, and what they come to together."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeGuard

from aegis_otel.model import Approvers
from aegis_otel.policy.patterns import matches_any
from aegis_otel.redaction.name_forms import normalized
from aegis_otel.redaction.terminal import INVISIBLE

NO_AUTHOR = "nobody knows who gave it"
IS_REQUESTER = "it is by the user that the agent acts for"
UNKNOWN_REQUESTER = "it is not known which user the agent acts for, so nobody is known to be somebody else"
NOT_ENTITLED = "they are none of the rule's approvers"
GIVEN_TWICE = "they have answered already"
_UNSEEN = ("Cc", "Cf", "Cn")
_INCOMPARABLE = "\0"
"""Stands for a name that is too long, or has too many accents, to be compared; no other has it."""


class GivenAnswer(NamedTuple):
    """The answer of one person, as a channel has it."""

    approved: bool
    approver: str | None = None
    """Who answered, as the channel has proved it; None where it does not know."""
    roles: tuple[str, ...] = ()
    """The roles that they have, as the channel has proved it."""


class IgnoredAnswer(NamedTuple):
    """An answer that counts for nothing."""

    answer: GivenAnswer
    why: str
    """A clause, such as `they have answered already`."""


class Judgement(NamedTuple):
    """What answers come to."""

    outcome: Literal["yes", "no", "open"]
    """`open`: more persons have to say yes."""
    counted: tuple[GivenAnswer, ...] = ()
    ignored: tuple[IgnoredAnswer, ...] = ()
    missing: int = 0
    """How many more persons have to say yes at least."""


def judge(approvers: Approvers | None, answers: Iterable[GivenAnswer], requester: str | None) -> Judgement:
    """Return what `answers` come to, in the order in which they were given.

    One no of somebody who may answer is a no, whatever the others say, also where they have said yes before.
    A yes counts once for each person.

    Args:
        approvers: Who may answer; None where the rule does not say it: then any answer counts.
        answers: All of them.
        requester: The user that the agent acts for; None where it is not known. Then no yes counts, unless
            this user may answer as well.
    """
    given = tuple(answers)
    if approvers is None:
        no = next((each for each in given if not each.approved), None)
        if no is not None:
            return Judgement("no", (no,))
        return Judgement("yes", given) if given else Judgement("open", missing=1)
    judged = [_judge(each, given, requester) for each in approvers.all_of_them]
    if len(judged) == 1:
        return judged[0]
    return _together(judged, given)


def why_unanswerable(approvers: Approvers | None, requester: str | None) -> str | None:
    """Return why no answer at all can be a yes; None where one can."""
    if approvers is not None and not _is_known(requester):
        for each in approvers.all_of_them:
            if not each.allows_requester:
                return UNKNOWN_REQUESTER
    return None


def same_person(name: str) -> str:
    """Return the form of a name in which two spellings of one person are equal.

    More names are equal here than in `users`, so that nobody counts twice, and the requester never: those
    that differ in case, in invisible characters, or in how a letter is written; and all those that are too
    long to be compared.
    """
    # A joiner keeps a letter and its accent apart, so what nobody sees is taken out first.
    form = normalized(visible_name(name), "NFKC", "NFKC")
    return _INCOMPARABLE if form is None else form.strip()


def visible_name(name: str) -> str:
    """Return a name without the characters that nobody sees."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(
        each for each in name if ord(each) not in INVISIBLE and unicodedata.category(each) not in _UNSEEN
    )


def _judge(approvers: Approvers, answers: Sequence[GivenAnswer], requester: str | None) -> Judgement:
    """Return what answers come to by what one rule says."""
    yes: dict[str, GivenAnswer] = {}
    no: list[GivenAnswer] = []
    ignored: list[IgnoredAnswer] = []
    for answer in answers:
        why = _why_ignored(approvers, answer, requester)
        name = same_person(answer.approver or "")
        if why is None and not answer.approved:
            no.append(answer)
        elif why is None and name not in yes:
            yes[name] = answer
        else:
            ignored.append(IgnoredAnswer(answer, why or GIVEN_TWICE))
    if no:
        return Judgement("no", tuple(no), tuple(ignored))
    missing = max(0, approvers.count - len(yes))
    return Judgement("open" if missing else "yes", tuple(yes.values()), tuple(ignored), missing)


def _why_ignored(approvers: Approvers, answer: GivenAnswer, requester: str | None) -> str | None:
    """Return why an answer counts for nothing; None where it counts."""
    name = same_person(answer.approver or "")
    if not answer.approver or not name or (name == _INCOMPARABLE and answer.approved):
        return NO_AUTHOR
    if not approvers.allows_requester:
        if answer.approved and not _is_known(requester):
            return UNKNOWN_REQUESTER
        if _is_known(requester) and same_person(requester) == name:
            return IS_REQUESTER
    return None if _may_answer(approvers, answer.approver, answer.roles) else NOT_ENTITLED


def _is_known(requester: str | None) -> TypeGuard[str]:
    """Return whether the user that the agent acts for can be told apart from others."""
    return requester is not None and same_person(requester) != _INCOMPARABLE


def _may_answer(approvers: Approvers, approver: str, roles: Iterable[str]) -> bool:
    if not approvers.users and not approvers.roles:
        return True
    return matches_any(approvers.users, (approver,)) or matches_any(approvers.roles, roles)


def _together(judged: Sequence[Judgement], answers: Sequence[GivenAnswer]) -> Judgement:
    """Return what answers come to by several rules, each of which needs its own yes."""
    counted = [each for each in answers if any(each is its for one in judged for its in one.counted)]
    ignored = [each for each in judged[0].ignored if all(each.answer is not its for its in counted)]
    outcome: Literal["yes", "no", "open"] = "yes"
    if any(one.outcome == "no" for one in judged):
        outcome, counted = "no", [each for each in counted if not each.approved]
    elif any(one.outcome == "open" for one in judged):
        outcome = "open"
    return Judgement(outcome, tuple(counted), tuple(ignored), max(one.missing for one in judged))
