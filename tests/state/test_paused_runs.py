"""Runs that are paused, answered and resumed by three processes with three audits, each of them killed often.

The variable `PAUSED_RUNS` says how many there are for each engine, half of them in each of two tests that
run side by side; `make soak` asks for 20.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.audit.verify.verify import verify
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.runtime.approval.answer_signature import load_answer_keys, load_answer_signer
from aegis_otel.runtime.approval.row_closing import close_ended_rows
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.state.inbox import StateInbox
from tests.support.inbox import an_answer
from tests.support.paused_run import Zygote
from tests.support.state import Store

PAUSED_RUNS = int(os.environ.get("PAUSED_RUNS", "4"))
_LONGEST_S = 0.6
"""A process that is killed is killed within so many seconds: a run takes about as long."""


class Trials:
    def __init__(self, store: Store, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.inbox = StateInbox(store.state)
        self.folder = folder
        self.zygotes = {name: Zygote() for name in "abc"}
        self.address = store.address
        self.shown: dict[int, str] = {}

    def run(self, name: str, *, killed: float = 0.5, **command: Any) -> bool:
        kill_after = self.chance.uniform(0, _LONGEST_S) if self.chance.random() < killed else None
        about = {"audit": str(self.folder / name), "state": self.address, **command}
        return self.zygotes[name].run(kill_after, **about)

    def waiting(self, amount: int) -> list[QuestionState]:
        return [each for each in self.inbox.listing(limit=10_000) if self.amount(each) == amount]

    @staticmethod
    def amount(state: QuestionState) -> int:
        return int(json.loads(state.question.question.action_params)["amount"])

    def trial(self, number: int) -> str:
        """Pause, answer and resume one run; return the decision id that was approved."""
        saved, ran = self.folder / f"saved-{number}", self.folder / f"ran-{number}"
        about = {"saved": str(saved), "ran": str(ran), "x": number, "call_id": "call_1"}
        attempts = 0
        while not saved.exists():
            attempts += 1
            self.run("a", do="pause", killed=0.5 if attempts < 4 else 0.0, **about)
        question = self.waiting(number)[-1]  # those before it are of runs that were never saved
        decision_id = question.question.decision_id
        while self.inbox.look([decision_id])[decision_id].status is QuestionStatus.WAITING:
            self.run("b", do="answer", decision_id=decision_id, approved=True, killed=0.3)
        for killed in (0.7, 0.7, 0.0):
            self.run(self.chance.choice("aac"), do="resume", killed=killed, **about)
        return decision_id

    def deny_the_rest(self) -> None:
        """Say no to what nobody waits for: runs that were never saved, and those asked about anew."""
        signer = load_answer_signer(self.folder / "b")
        for state in self.inbox.listing(limit=10_000):
            answer = an_answer(state, "bob@ops", approved=False)
            self.inbox.answer(signer.sign(answer), answer)

    def close(self) -> None:
        for zygote in self.zygotes.values():
            zygote.close()


@pytest.fixture(params=[7, 8])
def trials(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trials]:
    made = Trials(store, tmp_path, seed=request.param)
    yield made
    made.close()


def test_pause_answer_and_resume_by_processes_that_are_killed(trials: Trials) -> None:
    """Every yes is used at most once, what runs is what was shown, and no row waits at the end."""
    approved = {number: trials.trial(number) for number in range((PAUSED_RUNS + 1) // 2)}
    trials.deny_the_rest()
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in "ac":
        folder = trials.folder / name
        if not folder.exists():
            continue
        audit = AuditLogger(folder)
        close_ended_rows(audit, trials.inbox, load_answer_keys(folder), grace_s=0)
        for row in audit.get_log():
            assert row["result_status"] != "pending", row
            rows.setdefault(row["decision_id"], []).append(row)
        audit.close()
        assert verify(folder).findings == []
    states = trials.inbox.look(list(approved.values()))
    ran = 0
    for number, decision_id in approved.items():
        bodies = (trials.folder / f"ran-{number}").read_text().splitlines() if has_run(trials, number) else []
        assert len(bodies) <= 1, "a yes was used twice"
        assert states[decision_id].status is QuestionStatus.USED
        assert rows[decision_id], "the row of the question is lost"
        for body in bodies:
            ran += 1
            assert json.loads(body) == json.loads(states[decision_id].question.question.action_params)
            mine = [row for row in rows[decision_id] if row["outcome"] == "approved"]
            assert mine, "what ran is in no audit under the id that was approved"
            assert {row["approver"] for row in mine} == {"bob@ops"}
    assert ran or len(approved) < 5  # of so few runs, each may have been killed before its tool ran


def has_run(trials: Trials, number: int) -> bool:
    return (trials.folder / f"ran-{number}").exists()
