"""Governed processes with audits of their own that share an inbox, and the desk where people answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.errors import StateError
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus, SharedQuestion
from aegis_otel.governance.approvals.inbox_codec import encode_question, question_digest
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from aegis_otel.runtime.approval.row_closing import ClosedRows, close_ended_rows
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from aegis_otel.state.sqlite import SqliteState
from tests.support.inbox import an_answer, run_sql
from tests.support.kit import Bench

ANN, BOB = "ann@ops", "bob@ops"
Machines = Callable[..., Any]


def policy(**rule: Any) -> dict[str, Any]:
    asks = {"name": "r", "match": {"type": "act"}, "approval": "approve", "risk_level": "high"}
    return {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}, "rules": [asks | rule]}


class Machine:
    """A governed process with an audit of its own, and an agent of the program that all machines run."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ran: list[int] = []

        @function_tool
        def act(x: int, note: str = "none") -> str:
            self.ran.append(x)
            return f"acted {x}"

        self.tool = act

    def agent(self, *turns: Any) -> Agent[Any]:
        return Agent(
            name="Clerk", model=ScriptedModel([*turns, [assistant_message("done")]]), tools=[self.tool]
        )

    async def pause(self, x: int = 1, call_id: str = "c1", group: str | None = None) -> str:
        """Run until a human is asked; return the saved state."""
        call = [function_call("act", {"x": x}, call_id=call_id)]
        result = await Runner.run(self.agent(call), "go", run_config=RunConfig(group_id=group))
        assert result.interruptions, "nobody was asked"
        return result.to_state().to_string()

    async def resume(
        self, saved: str, answer: Callable[[Any], None] = lambda state: None, group: str | None = None
    ) -> Any:
        agent = self.agent()
        state = await RunState.from_string(agent, saved)
        answer(state)
        return await Runner.run(agent, state, run_config=RunConfig(group_id=group))

    def rows(self) -> list[dict[str, Any]]:
        return self.bench.rows()

    def row(self) -> dict[str, Any]:
        return self.bench.row()


class Desk:
    def __init__(self, tmp_path: Path) -> None:
        self._place = f"sqlite:///{tmp_path}/state.sqlite3"
        self.open()
        self.signer = load_answer_signer(tmp_path / "desk")

    def open(self) -> None:
        """Open the inbox, once more with the clock of today."""
        self.state = open_state(self._place)
        self.inbox = StateInbox(self.state)

    def pass_time(self, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
        """Let so many days go by, for machines that begin then, and in the inbox."""

        def later() -> int:
            return time.time_ns() + round(days * 86_400 * 10**9)

        monkeypatch.setattr(RealSystem, "now_ns", staticmethod(later))
        monkeypatch.setitem(SqliteState.__init__.__kwdefaults__, "now_ns", later)
        self.open()
        self.inbox.expire()

    def waiting(self) -> QuestionState:
        (state,) = self.inbox.listing()
        return state

    def say(self, who: str = ANN, **about: Any) -> QuestionState:
        state = self.waiting()
        answer = an_answer(state, who, **about)
        self.inbox.answer(self.signer.sign(answer), answer)
        return state

    def close_rows(self, machine: Machine, grace_s: float = 0.0) -> tuple[str, ...]:
        """Close what waits in the audit of a process that has ended, and is over here."""
        return self.end_rows(machine, grace_s).closed

    def end_rows(self, machine: Machine, grace_s: float) -> ClosedRows:
        """Do `close_rows`, and return what is left as well."""
        shared = machine.bench.runtime.governor.shared_questions
        assert shared is not None
        audit = AuditLogger(machine.bench.audit)
        try:
            return close_ended_rows(audit, self.inbox, shared.check, grace_s)
        finally:
            audit.close()

    def status(self, state: QuestionState) -> QuestionStatus:
        return self.inbox.look([state.question.decision_id])[state.question.decision_id].status


def rewrite(desk: Desk, decision_id: str, question: SharedQuestion) -> None:
    """Put another question in the place of one, as somebody does who can write to the store."""
    statement = (
        "UPDATE aegis.question SET body = :body, digest = :digest, decision_id = :new WHERE decision_id = :id"
    )
    body = encode_question(question)
    about = {"body": body, "digest": question_digest(body), "new": question.decision_id}
    run_sql(desk.state, statement, id=decision_id, **about)


def away(*_: object, **__: object) -> Any:
    raise StateError("away")
