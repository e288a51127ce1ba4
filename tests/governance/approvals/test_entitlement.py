"""Whose answer counts, and what answers come to, held against a naive model of docs/policy.md."""

from __future__ import annotations

import random
import time
from fnmatch import fnmatchcase

import msgspec
import pytest

from aegis_otel.governance.approvals.entitlement import (
    GIVEN_TWICE,
    IS_REQUESTER,
    NO_AUTHOR,
    NOT_ENTITLED,
    UNKNOWN_REQUESTER,
    GivenAnswer,
    judge,
    same_person,
    why_unanswerable,
)
from aegis_otel.model import Approvers

ANN, BOB, CARL = "ann@example.com", "bob@example.com", "carl@example.com"
TWO = Approvers(users=("*@example.com",), count=2)


def yes(name: str | None, *roles: str) -> GivenAnswer:
    return GivenAnswer(True, name, roles)


def no(name: str | None, *roles: str) -> GivenAnswer:
    return GivenAnswer(False, name, roles)


def outcome(approvers: Approvers | None, *answers: GivenAnswer, requester: str | None = CARL) -> str:
    return judge(approvers, answers, requester).outcome


def why(approvers: Approvers, *answers: GivenAnswer, requester: str | None = CARL) -> list[str]:
    return [each.why for each in judge(approvers, answers, requester).ignored]


def test_anybody_answers_where_the_rule_does_not_say_who() -> None:
    assert outcome(None) == "open"
    assert outcome(None, yes(None)) == "yes"
    assert outcome(None, yes(CARL)) == "yes"
    assert outcome(None, no(None)) == "no"
    assert outcome(None, yes(ANN), no(BOB)) == "no"


@pytest.mark.parametrize(
    ("approvers", "answer"),
    [
        (Approvers(users=(ANN,)), yes(ANN)),
        (Approvers(users=("bob@*", "ann@*")), yes(ANN)),
        (Approvers(roles=("finance",)), yes(ANN, "finance")),
        (Approvers(roles=("fin*",)), yes(ANN, "clerk", "finance")),
        (Approvers(users=(BOB,), roles=("finance",)), yes(ANN, "finance")),
        (Approvers(), yes(ANN)),
        (Approvers(users=(CARL,), allows_requester=True), yes(CARL)),
    ],
)
def test_either_a_name_or_a_role_is_enough(approvers: Approvers, answer: GivenAnswer) -> None:
    assert outcome(approvers, answer) == "yes"


@pytest.mark.parametrize(
    ("approvers", "name", "roles", "reason"),
    [
        (Approvers(users=(ANN,)), BOB, (), NOT_ENTITLED),
        (Approvers(users=(ANN,)), ANN.upper(), (), NOT_ENTITLED),
        (Approvers(users=(ANN,)), BOB, (ANN,), NOT_ENTITLED),
        (Approvers(roles=("finance",)), "finance", (), NOT_ENTITLED),
        (Approvers(roles=("finance",)), BOB, ("Finance", "clerk"), NOT_ENTITLED),
        (Approvers(roles=("*",)), BOB, (), NOT_ENTITLED),
        (Approvers(), None, (), NO_AUTHOR),
        (Approvers(), "", ("finance",), NO_AUTHOR),
        (Approvers(users=("*",)), " ", (), NO_AUTHOR),
        (Approvers(users=("*",)), CARL, (), IS_REQUESTER),
        (Approvers(users=("*",)), "Carl@Example.com", (), IS_REQUESTER),
        (Approvers(users=("*",)), "carl\u200b@example.com ", (), IS_REQUESTER),
        (Approvers(users=("*",)), "\uff43arl@example.com", (), IS_REQUESTER),
    ],
)
def test_an_answer_that_does_not_count(
    approvers: Approvers, name: str | None, roles: tuple[str, ...], reason: str
) -> None:
    for answer in (yes(name, *roles), no(name, *roles)):
        assert outcome(approvers, answer) == "open"
        assert why(approvers, answer) == [reason]


def test_one_no_is_a_no_also_after_a_yes() -> None:
    assert outcome(TWO, yes(ANN), no(BOB)) == "no"
    assert outcome(TWO, yes(ANN), no(ANN)) == "no"
    assert outcome(TWO, yes(ANN), yes(BOB), no("dan@example.com")) == "no"
    assert judge(TWO, [yes(ANN), no(BOB)], CARL).counted == (no(BOB),)


def test_different_persons_make_a_count() -> None:
    found = judge(TWO, [yes(ANN), yes(ANN), yes("ANN@example.com"), yes(CARL)], CARL)
    assert (found.outcome, found.missing, found.counted) == ("open", 1, (yes(ANN),))
    assert [each.why for each in found.ignored] == [GIVEN_TWICE, GIVEN_TWICE, IS_REQUESTER]
    found = judge(TWO, [yes(ANN), yes(CARL), yes(BOB)], CARL)
    assert (found.outcome, found.missing, found.counted) == ("yes", 0, (yes(ANN), yes(BOB)))


@pytest.mark.parametrize(
    "unseen", list("\ufe0f\u034f\u3164\u115f\u2800\u00ad\u200b\u180b\U000e0100\0\n"), ids=ascii
)
def test_characters_that_nobody_sees_make_no_other_person(unseen: str) -> None:
    for name in (f"ann{unseen}@example.com", f"{unseen}{ANN}", f"{ANN}{unseen}"):
        roles = Approvers(roles=("finance",), count=2)
        assert outcome(roles, yes(ANN, "finance"), yes(name, "finance")) == "open"
        assert why(Approvers(), yes(name), requester=ANN) == [IS_REQUESTER]
    assert why(Approvers(), yes(unseen)) == [NO_AUTHOR]
    assert same_person(f"Zoe{unseen}\u0308") == same_person("zo\u00eb")


def test_nobody_is_known_to_be_somebody_else_where_the_requester_is_not_known() -> None:
    assert outcome(TWO, yes(ANN), yes(BOB), requester=None) == "open"
    assert why(TWO, yes(ANN), requester=None) == [UNKNOWN_REQUESTER]
    assert outcome(TWO, no(ANN), requester=None) == "no"
    anybody = Approvers(allows_requester=True)
    assert outcome(anybody, yes(ANN), requester=None) == "yes"
    assert why_unanswerable(TWO, None) == UNKNOWN_REQUESTER
    for approvers, requester in ((TWO, CARL), (anybody, None), (None, None)):
        assert why_unanswerable(approvers, requester) is None


def test_each_of_several_rules_needs_its_own_yes() -> None:
    finance = Approvers(roles=("finance",), count=2)
    both = Approvers(users=(ANN, CARL), allows_requester=True, others=(finance,))
    assert outcome(both, yes(ANN)) == "open"
    assert outcome(both, yes(BOB, "finance"), yes("dan", "finance")) == "open"
    assert outcome(both, yes(ANN, "finance"), yes(BOB, "finance")) == "yes"
    found = judge(both, [yes(CARL), yes("dan"), yes(BOB, "finance"), yes("eve", "finance")], CARL)
    assert found.outcome == "yes"
    assert [each.approver for each in found.counted] == [CARL, BOB, "eve"]
    assert [each.answer.approver for each in found.ignored] == ["dan"]
    assert outcome(both, yes(ANN), no(BOB, "finance")) == "no"
    assert why_unanswerable(both, None) == UNKNOWN_REQUESTER


# --- the model ---


def one_person(name: str) -> str:
    return name.lower().strip()


def naive(approvers: Approvers, answers: list[GivenAnswer], requester: str | None) -> str:
    """Say what answers come to, as docs/policy.md says it, sentence by sentence."""
    ends = []
    for rule in (approvers, *approvers.others):
        said_yes, said_no = set(), False
        for answer in answers:
            if answer.approver is None:
                continue
            is_named = any(fnmatchcase(answer.approver, glob) for glob in rule.users)
            has_role = any(fnmatchcase(role, glob) for role in answer.roles for glob in rule.roles)
            may = is_named or has_role or not (rule.users or rule.roles)
            is_requester = requester is not None and one_person(answer.approver) == one_person(requester)
            if is_requester and not rule.allows_requester:
                may = False
            if may and not answer.approved:
                said_no = True
            if may and answer.approved and (rule.allows_requester or requester is not None):
                said_yes.add(one_person(answer.approver))
        ends.append("no" if said_no else "yes" if len(said_yes) >= rule.count else "open")
    return "no" if "no" in ends else "open" if "open" in ends else "yes"


def test_ten_thousand_schedules_have_no_wrong_yes() -> None:
    """Two approvers of which one may not approve, one is the requester, one answers twice, in any order."""
    chance = random.Random(13)
    people = {
        "ann@ops": ("finance",),
        "Ann@ops": ("finance",),
        "bob@ops": ("clerk",),
        "carl@ops": ("finance", "clerk"),
        "mallory@evil": (),
        "dan@board": ("board",),
    }
    names = [*people, None]
    globs = [(), ("*@ops",), ("ann@ops", "dan@*"), ("carl@ops",), ("Ann*",)]
    roles = [(), ("finance",), ("c*", "board"), ("nobody",)]
    ends: dict[str, int] = {}
    for _ in range(10_000):
        rules = [
            Approvers(chance.choice(globs), chance.choice(roles), chance.randint(1, 3), chance.random() < 0.3)
            for _ in range(2 if chance.random() < 0.2 else 1)
        ]
        approvers = msgspec.structs.replace(rules[0], others=tuple(rules[1:]))
        answers = []
        for _ in range(chance.randint(0, 7)):
            name = chance.choice(names)
            own = people.get(name or "", ())
            given = tuple(each for each in own if chance.random() < 0.8)
            answers.append(GivenAnswer(chance.random() < 0.85, name, given))
        requester = chance.choice(["carl@ops", "ANN@OPS", "bob@ops", "somebody@else", None])
        found = judge(approvers, answers, requester)
        assert found.outcome == naive(approvers, answers, requester), (approvers, answers, requester)
        assert len(found.counted) + len(found.ignored) <= len(answers)
        ends[found.outcome] = ends.get(found.outcome, 0) + 1
    assert min(ends.values()) > 500, ends


MARKS = "\u0315\u0300"
"""Combining marks whose order is not the canonical one."""
LONG = (f"ann{MARKS * 32_000}", "\ufdfa" * 300_000, f"ann{MARKS * 16}")
"""Names that are too long, or have too many marks, to be compared."""


@pytest.mark.parametrize("name", LONG, ids=["marks", "expanding", "a few too many"])
def test_whose_name_cannot_be_compared_is_nobody_else(name: str) -> None:
    """A yes of theirs counts for nothing, and where they are the requester nobody's does; a no is a no."""
    start = time.process_time()
    anybody = Approvers(users=("*",))
    assert why(anybody, yes(name)) == [NO_AUTHOR]
    assert outcome(anybody, yes(name)) == "open"
    assert outcome(anybody, no(name)) == "no"
    assert why(anybody, yes(ANN), requester=name) == [UNKNOWN_REQUESTER]
    assert outcome(anybody, no(ANN), requester=name) == "no"
    assert why_unanswerable(anybody, name) == UNKNOWN_REQUESTER
    assert outcome(Approvers(allows_requester=True), yes(ANN), requester=name) == "yes"
    assert {same_person(each) for each in LONG}.isdisjoint({"", same_person(ANN), same_person("\0")})
    assert time.process_time() - start < 5


def test_names_of_ordinary_marks_are_compared() -> None:
    assert same_person(f"Zoe\u0308{MARKS * 14}") == same_person(f"zo\u00eb{MARKS * 14}")
    assert same_person("nguye\u0302\u0303n@example.com") == same_person("Nguy\u1ec5n@example.com")
