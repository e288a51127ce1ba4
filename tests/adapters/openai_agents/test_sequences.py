"""No mail after a secret, whatever way the calls go: handed off, nested, in parallel, resumed, restarted.

Histories are generated, and the SDK makes their calls. The oracle scans the audit and knows nothing of how
the program counts. The variable `HISTORIES` says how many there are; `make soak` asks for 500.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Policy, Runtime, instrument
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.telemetry.in_memory import Signals

HISTORIES = int(os.environ.get("HISTORIES", "5"))
POLICY = Policy.from_text(
    """
version: "1"
defaults: {approval: auto}
rules:
  - name: no_mail_after_secrets
    match: {type: send_email}
    conditions: {after: {type: "read_secret*", within: conversation}}
    approval: block
  - {name: confirmed, match: {type: confirm}, approval: approve}
"""
)
PLAIN = ("look", "read_secret_key", "read_secret_note", "send_email")
WEIGHTS = (6, 1, 1, 6)
Turn = tuple[str, ...]
"""The run of a call, the number of its turn, and the same again for each agent that is nested in it."""


@function_tool
def look() -> str:
    return "nothing"


@function_tool
def read_secret_key() -> str:
    return "hunter2"


@function_tool(failure_error_function=None)
def read_secret_note() -> str:
    return "it was read before what followed failed"


@function_tool
async def send_email() -> str:
    return "sent"


@function_tool
def confirm() -> str:
    return "confirmed"


TOOLS = [look, read_secret_key, read_secret_note, send_email, confirm]


class History:
    """One program's calls, made of a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.runs = 0

    def calls(self, turn: Turn, *more: str) -> list[Any]:
        """Return the calls of a turn, which the SDK makes in parallel."""
        names = self.chance.choices(PLAIN, WEIGHTS, k=self.chance.randint(1, 3)) + list(more)
        self.chance.shuffle(names)
        return [
            function_call(name, {"input": "x"} if name == "ask" else {}, call_id=f"{'.'.join(turn)}-{n}")
            for n, name in enumerate(names)
        ]

    def agent(self, turns: list[list[Any]]) -> Agent[Any]:
        model = ScriptedModel([*turns, [assistant_message("Done.")]])
        return Agent(name="Clerk", model=model, tools=TOOLS)

    async def run(self) -> None:
        """Make one run: of several turns, handed off, with an agent inside, or paused and resumed."""
        self.runs += 1
        name = f"r{self.runs}"
        config = RunConfig(group_id=self.chance.choice(("c1", "c2")))
        first, second = self.calls((name, "0")), self.calls((name, "1"))
        way = self.chance.choice(("turns", "handed", "nested", "resumed"))
        if way == "handed":
            back = self.agent([second])
            back.name = "Back"
            turn = [*first, function_call("transfer_to_back", {}, call_id=f"{name}.0-handoff")]
            front = Agent(name="Front", model=ScriptedModel([turn]), tools=TOOLS, handoffs=[back])
            await Runner.run(front, "go", run_config=config)
        elif way == "nested":
            inner = self.agent([self.calls((name, "0", "0")), self.calls((name, "0", "1"))])
            inner.name = "Inner"
            outer = self.agent([self.calls((name, "0"), "ask"), second])
            outer.tools = [*TOOLS, inner.as_tool("ask", "Asks.")]
            await Runner.run(outer, "go", run_config=config)
        elif way == "resumed":
            turn = self.calls((name, "0"), "confirm")
            paused = await Runner.run(self.agent([turn]), "go", run_config=config)
            saved = paused.to_state().to_string()
            for _ in range(self.chance.randint(0, 2)):
                await self.run()
            again = self.agent([second])
            state = await RunState.from_string(again, saved)
            for item in state.get_interruptions():
                (state.approve if self.chance.random() < 0.7 else state.reject)(item)
            await Runner.run(again, state, run_config=config)
        else:
            await Runner.run(self.agent([first, second]), "go", run_config=config)


def turn_of(row: dict[str, Any]) -> Turn:
    return tuple(row["tool_call_id"].partition("-")[0].split("."))


def side_by_side(one: Turn, other: Turn) -> bool:
    """Whether nothing says which came first: they are of one turn, or one is nested in the other."""
    least = min(len(one), len(other))
    return one[:least] == other[:least]


def wrong_mails(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mails that went out after a secret, or that were blocked without one."""
    wrong = []
    reads: list[tuple[str, Turn]] = []
    rows = sorted(rows, key=lambda row: row["timestamp"])
    for row in rows:
        here, turn = row["conversation_id"], turn_of(row)
        if row["action_type"] == "send_email":
            before = any(where == here and not side_by_side(turn, when) for where, when in reads)
            beside = any(
                other["conversation_id"] == here
                and other["action_type"].startswith("read_secret")
                and side_by_side(turn, turn_of(other))
                for other in rows
            )
            is_blocked = row["outcome"] == "blocked"
            if (before and not is_blocked) or (is_blocked and not before and not beside):
                wrong.append(row)
        elif row["action_type"].startswith("read_secret"):
            assert row["outcome"] == "allowed"
            reads.append((here, turn))
    return wrong


@pytest.mark.timeout(1800)
async def test_no_mail_goes_out_after_a_secret(tmp_path: Path) -> None:
    mails = blocked = 0
    for seed in range(HISTORIES):
        history, folder = History(seed), tmp_path / str(seed)
        for _ in range(2):  # a program, and the next one
            signals = Signals()
            runtime = Runtime(policy=POLICY, audit_logger=AuditLogger(folder), recorder=signals.recorder())
            there = instrument(runtime=runtime, approvals="sdk")
            try:
                for _ in range(3):
                    await history.run()
            finally:
                there.shutdown()
                signals.close()
        rows = AuditLogger(folder).get_log(limit=10_000)
        assert wrong_mails(rows) == [], f"history {seed}"
        mails += sum(row["action_type"] == "send_email" for row in rows)
        blocked += sum(row["outcome"] == "blocked" for row in rows)
    assert 0 < blocked < mails
