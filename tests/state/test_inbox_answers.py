"""Who can write to the store cannot approve: schedules of answers, plants and clocks, against a naive model.

The variable `SCHEDULES` says how many there are for each engine; `make soak` asks for 10,000.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.entitlement import GivenAnswer, judge
from aegis_otel.governance.approvals.inbox import (
    Answer,
    GrantTerms,
    QuestionState,
    QuestionStatus,
    SignedAnswer,
)
from aegis_otel.governance.approvals.inbox_codec import encode_question, question_digest
from aegis_otel.governance.approvals.inbox_proofs import granting_answers, proven_answers
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_signature import (
    AnswerKeys,
    AnswerSigner,
    load_answer_keys,
    load_answer_signer,
)
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from aegis_otel.state.postgres import PostgresState
from tests.support.inbox import Clock, an_answer, run_sql, shared_question, unsigned
from tests.support.postgres import Server
from tests.support.records import python
from tests.support.state import Store, mark_one

SCHEDULES = int(os.environ.get("SCHEDULES", "150"))
PEOPLE = {"ann": (), "bob": (), "cid": ("finance",), "dan": ("intern",)}
"""Who can sign in, and their roles. The agents act for ann."""
ENTITLED = {"bob", "cid"}
USERS, ROLES = ("ann", "b*"), ("finance",)
replace = msgspec.structs.replace


@dataclass
class Keys:
    signer: AnswerSigner
    keys: AnswerKeys
    stranger: AnswerSigner


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    with pytest.MonkeyPatch.context() as patch:
        pairs = []
        for name in ("own", "stranger"):
            patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp(name)))
            patch.chdir(tmp_path_factory.mktemp("work"))
            audit = tmp_path_factory.mktemp("audit")
            pairs.append((load_answer_signer(audit), load_answer_keys(audit)))
        return Keys(*pairs[0], pairs[1][0])


def plant(clock: Clock, state: QuestionState, signed: SignedAnswer, approver: str) -> None:
    """Write an answer straight into the store, as somebody with the database's password can."""
    statement = (
        "INSERT INTO aegis.answer (decision_id, person, place, body, signature, signed_by) "
        "VALUES (:id, :person, 0, :body, :signature, :key) ON CONFLICT DO NOTHING"
    )
    values = {"body": signed.body, "signature": signed.signature, "key": signed.key}
    run_sql(clock.state, statement, id=state.question.decision_id, person=approver, **values)


def would_run(inbox: StateInbox, state: QuestionState, keys: Keys) -> bool:
    """Return whether an agent that waits goes on: it goes by what is signed, and takes the yes."""
    found = inbox.look([state.question.decision_id]).get(state.question.decision_id)
    if found is None or found.digest != state.digest:
        return False
    answers, _ = proven_answers(found, keys.keys)
    given = [GivenAnswer(each.approved, each.approver, each.roles) for each in answers]
    judged = judge(state.question.approvers, given, "ann")
    return judged.outcome == "yes" and inbox.use(state.question.decision_id, state.digest, "agent")


@dataclass
class Schedule:
    """One question, what people and others do about it, and what a reader of docs/policy.md expects."""

    clock: Clock
    keys: Keys
    chance: random.Random
    accepted: list[tuple[str, bool]] = field(default_factory=list)
    copies: list[SignedAnswer] = field(default_factory=list)
    runs: int = 0
    is_used: bool = False
    is_tampered: bool = False

    def __post_init__(self) -> None:
        self.inbox = StateInbox(self.clock)  # type: ignore[arg-type]  # it has all that is needed
        self.count = self.chance.choice([1, 2])
        self.state = self.inbox.put(
            shared_question(
                approvers=Approvers(USERS, ROLES, self.count),
                expires_s=60.0,
                decision_id=f"s-{next(_numbers)}",
            )
        )

    @property
    def now(self) -> int:
        with self.clock.transaction(writes=False) as transaction:
            return transaction.now_ns()

    def answer(self) -> None:
        """A person answers on the page, which refuses who may not."""
        name = self.chance.choice(list(PEOPLE))
        approved = self.chance.random() < 0.8
        answer = an_answer(self.state, name, approved=approved, roles=PEOPLE[name], answered_ns=self.now)
        in_time = self.now < (self.state.question.expires_ns or 0)
        mine = [GivenAnswer(approved, name, PEOPLE[name])]
        if not judge(replace(self.state.question.approvers, count=1), mine, "ann").counted:
            assert name not in ENTITLED
            self.inbox.refuse(self.state.question.decision_id, name, "may not answer")
            return
        signed = self.keys.signer.sign(answer)
        try:
            self.inbox.answer(signed, answer)
        except AnswerRefused:
            return
        assert in_time
        before = [said for each, said in self.accepted if each == name]
        assert before in ([], [True])
        assert not (before and approved)
        self.accepted.append((name, approved))

    def answer_another(self) -> None:
        """A person answers another question, which somebody copies to this one."""
        other = self.inbox.put(shared_question(approvers=Approvers(USERS, ROLES)))
        self.copies.append(self.keys.signer.sign(an_answer(other, "bob")))

    def plant(self) -> None:
        """Somebody writes an answer into the store: of their own, copied, or changed."""
        name = self.chance.choice(["bob", "cid", "eve"])
        own = an_answer(self.state, name, roles=("finance",))
        forged = [self.keys.stranger.sign(own), unsigned(own)]
        forged += [replace(each, key=self.keys.signer.key_id) for each in forged]
        signed = self.chance.choice([*forged, *self.copies])
        plant(self.clock, self.state, signed, name)
        self.is_tampered = True

    def set_status(self) -> None:
        word = self.chance.choice(["approved", "waiting"])
        statement = "UPDATE aegis.question SET status = :word WHERE decision_id = :id AND status <> 'used'"
        run_sql(self.clock.state, statement, word=word, id=self.state.question.decision_id)
        self.is_tampered = True

    def wait(self) -> None:
        self.clock.pass_time(self.chance.choice([5, 25, 61, -30]))

    def expire(self) -> None:
        if self.state.question.decision_id in self.inbox.expire():
            self.is_tampered = True  # it is over

    def ask_again(self) -> None:
        try:
            kept = self.inbox.put(self.state.question)
        except StateError:  # a call that has gone on is asked about under another id
            assert self.is_used or self.is_tampered
            return
        if kept.digest != self.state.digest:
            self.state, self.accepted = kept, []
            self.is_tampered = self.is_used = False

    def run(self) -> None:
        """The agent looks for an answer; what it does is what the model says."""
        yes = {name for name, approved in self.accepted if approved and name in ENTITLED}
        is_yes = len(yes) >= self.count and all(approved for _, approved in self.accepted)
        if would_run(self.inbox, self.state, self.keys):
            assert is_yes, self.accepted
            assert not self.is_used
            self.is_used = True
            self.runs += 1
        elif is_yes:
            assert self.is_tampered or self.is_used


_numbers = iter(range(1_000_000))
STEPS: list[Callable[[Schedule], None]] = [
    *(Schedule.answer, Schedule.answer, Schedule.answer, Schedule.answer_another),
    *(Schedule.plant, Schedule.plant, Schedule.set_status, Schedule.wait, Schedule.expire),
    *(Schedule.run, Schedule.run, Schedule.ask_again),
]


def test_no_wrong_yes(store: Store, keys: Keys) -> None:
    """The requester, somebody who may not, twice, too late, forged and copied answers, in any order."""
    runs = 0
    for seed in range(SCHEDULES):
        chance = random.Random(seed)
        schedule = Schedule(Clock(store.state), keys, chance)
        for step in chance.choices(STEPS, k=12):
            step(schedule)
        schedule.run()
        runs += schedule.runs
    assert runs > SCHEDULES / 20  # most of them are no yes, and some are


def test_a_row_that_is_written_into_the_store_is_no_answer(store: Store, keys: Keys) -> None:
    """Whatever it says, and whatever the question's status says beside it."""
    clock = Clock(store.state)
    inbox = StateInbox(clock)  # type: ignore[arg-type]
    state = inbox.put(shared_question(approvers=Approvers(("bob",))))
    answer = an_answer(state, grant=GrantTerms())
    for signed in (unsigned(answer), keys.stranger.sign(answer)):
        run_sql(clock.state, "DELETE FROM aegis.answer")
        plant(clock, state, replace(signed, key=keys.signer.key_id), "bob")
        run_sql(clock.state, "UPDATE aegis.question SET status = 'approved'")
        found = inbox.look([state.question.decision_id])[state.question.decision_id]
        assert found.status is QuestionStatus.APPROVED
        assert len(found.answers) == 1
        assert proven_answers(found, keys.keys)[0] == ()
        assert not would_run(inbox, state, keys)
    until = state.question.asked_ns + 10**12
    statement = "INSERT INTO aegis.approval_grant VALUES (:id, :key, NULL, :until, NULL)"
    values = {"key": state.question.grant_key, "until": until}
    run_sql(clock.state, statement, id=state.question.decision_id, **values)
    (grant,) = inbox.grants(state.question.grant_key, "")
    assert granting_answers(grant, state.question, keys.keys) == ()


def test_a_tool_that_reaches_the_file_cannot_approve(tmp_path: Path, keys: Keys) -> None:
    """It writes with a library of its own, while the agent waits."""
    address = f"sqlite:///{tmp_path}/state.sqlite3"
    inbox = StateInbox(open_state(address))
    state = inbox.put(shared_question(approvers=Approvers(("bob",))))
    forged = keys.stranger.sign(an_answer(state))
    with sqlite3.connect(tmp_path / "state.sqlite3") as tool:
        values = (state.question.decision_id, "bob", 1, forged.body, forged.signature, keys.signer.key_id)
        tool.execute("INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?)", values)
        tool.execute("UPDATE question SET status = 'approved'")
    tool.close()
    assert not would_run(inbox, state, keys)
    # Somebody else's call in place of the one that people are shown.
    lie = replace(state.question, call_digest="another call")
    with sqlite3.connect(tmp_path / "state.sqlite3") as tool:
        body = encode_question(lie)
        tool.execute("UPDATE question SET body = ?, digest = ?", (body, question_digest(body)))
    tool.close()
    good = keys.signer.sign(an_answer(inbox.listing(tuple(QuestionStatus))[0]))
    plant(Clock(open_state(address)), state, good, "cid")
    assert not would_run(inbox, state, keys)


def test_the_agents_role_cannot_approve(server: Server, keys: Keys) -> None:
    """With the rights of docs/state.md, it cannot even write an answer."""
    owner = PostgresState(server.address())
    owner.inspect()
    document = (Path(__file__).parents[2] / "docs" / "state.md").read_text()
    grants = [line for line in document.splitlines() if line.startswith(("GRANT", "CREATE ROLE"))]
    server.run("DROP ROLE IF EXISTS agent, approvals;" + "".join(grants))
    agent = Clock(PostgresState(server.address("agent")))
    inbox = StateInbox(agent)  # type: ignore[arg-type]
    state = inbox.put(shared_question())
    answer = keys.signer.sign(an_answer(state))
    with pytest.raises(StateError, match="denies this to the role"):
        plant(agent, state, answer, "bob")
    run_sql(agent.state, "UPDATE aegis.question SET status = 'approved'")
    assert not would_run(inbox, state, keys)
    plant(Clock(owner), state, answer, "bob")
    assert would_run(inbox, state, keys)
    agent.state.close()
    owner.close()


def test_eight_processes_use_each_yes_once(store: Store) -> None:
    """At the same moment, on each engine."""
    inbox = StateInbox(store.state)
    asked = [inbox.put(shared_question()) for _ in range(25)]
    for state in asked:
        answer = an_answer(state)
        inbox.answer(unsigned(answer), answer)
    code = """
import sys
from aegis_otel.state.opening import open_inbox
inbox = open_inbox(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for each in sys.argv[2:]:
    if inbox.use(*each.split(), "one"):
        print(each.split()[0])
"""
    keys = [f"{state.question.decision_id} {state.digest}" for state in asked]
    children = [python(code, store.address, *keys) for _ in range(8)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    found = [child.communicate() for child in children]
    assert [err for _, err in found] == [""] * 8
    used = [line for out, _ in found for line in out.split()]
    assert sorted(used) == [state.question.decision_id for state in asked]


def test_a_process_that_is_killed_leaves_no_lock(store: Store) -> None:
    """In the middle of a change: nothing of it is kept, and others go on."""
    inbox = StateInbox(store.state)
    state = inbox.put(shared_question())
    code = """
import os, signal, sys
from aegis_otel.state.opening import open_state
with open_state(sys.argv[1]).transaction() as transaction:
    transaction.run("UPDATE aegis.inbox_change SET number = number + 1", {})
    transaction.run("UPDATE aegis.question SET status = 'used'", {})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    child = python(code, store.address)
    child.communicate()
    assert child.returncode == -9
    assert inbox.use(state.question.decision_id, state.digest, "host")


def answers(state: QuestionState, keys: Keys) -> tuple[Answer, ...]:
    return proven_answers(state, keys.keys)[0]


def test_answers_survive_only_as_they_were_given(store: Store, keys: Keys) -> None:
    """Whatever column is changed beside the body, the answer stays what was signed, or is none."""
    clock = Clock(store.state)
    inbox = StateInbox(clock)  # type: ignore[arg-type]
    state = inbox.put(shared_question(approvers=Approvers(count=2)))
    answer = an_answer(state, "bob")
    inbox.answer(keys.signer.sign(answer), answer)
    changes: list[tuple[str, Any, int]] = [
        ("person", "cid", 1),
        ("place", 99, 1),
        ("signed_by", "0" * 16, 0),
        ("signature", b"0" * 64, 0),
        ("body", keys.signer.sign(replace(answer, approver="cid")).body, 0),
    ]
    for column, value, left in changes:
        run_sql(clock.state, f"UPDATE aegis.answer SET {column} = :value", value=value)
        found = inbox.look([state.question.decision_id])[state.question.decision_id]
        assert [each.approver for each in answers(found, keys)] == ["bob"] * left


def test_a_lock_that_is_never_let_go(server: Server) -> None:
    """Whoever wants to write is told within seconds; who reads, and the limits, do not wait."""
    state = open_state(server.address())
    inbox = StateInbox(state)
    asked = inbox.put(shared_question())
    answer = an_answer(asked)
    with psycopg.connect(server.address()) as holder:
        holder.execute("UPDATE aegis.inbox_change SET number = number")
        began = time.monotonic()
        for write in (
            lambda: inbox.put(shared_question()),
            lambda: inbox.answer(unsigned(answer), answer),
            lambda: inbox.use(asked.question.decision_id, asked.digest, "host"),
        ):
            with pytest.raises(StateError, match="was busy for 2 seconds"):
                write()
        assert 5 < time.monotonic() - began < 12
        began = time.monotonic()
        assert inbox.listing()[0].digest == asked.digest
        mark_one(state, "d", "a")
        assert time.monotonic() - began < 2
    assert inbox.answer(unsigned(answer), answer) is QuestionStatus.APPROVED
    state.close()


def test_a_process_that_stops_in_the_middle_holds_nobody_up_for_long(server: Server) -> None:
    """The server ends its session, and nothing of its change is kept."""
    state = open_state(server.address())
    inbox = StateInbox(state)
    asked = inbox.put(shared_question())
    code = """
import sys
from aegis_otel.state.opening import open_state
with open_state(sys.argv[1]).transaction() as transaction:
    transaction.run("UPDATE aegis.inbox_change SET number = number + 1", {})
    transaction.run("UPDATE aegis.question SET status = 'used'", {})
    print("stopped", flush=True)
    sys.stdin.readline()
"""
    child = python(code, server.address())
    assert child.stdout is not None
    assert child.stdout.readline() == "stopped\n"
    began = time.monotonic()
    while True:
        try:
            assert inbox.use(asked.question.decision_id, asked.digest, "host")
            break
        except StateError:
            assert time.monotonic() - began < 20
    _, said = child.communicate("\n")
    assert "lost the connection" in said
    state.close()
