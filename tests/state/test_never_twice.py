"""A payment whose process is killed right after it, and its agent that tries again: never a second payment.

The variable `ORDERS` says how many orders are paid in each way; `make soak` asks for 100.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.records import python
from tests.support.state import Store

ORDERS = int(os.environ.get("ORDERS", "2"))

# Everything is imported once, and each agent is a process of its own: a fork of this one. `os.kill` is how
# an out-of-memory killer ends a process, and the timer does the same at a moment that nobody chose.
PROGRAM = """
import asyncio, os, random, signal, sys
from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel
from aegis_otel import Policy
from aegis_otel.runtime.approval import CallbackApprovalHandler

address, folder, orders, when = sys.argv[1:]
chance = random.Random(11)
set_tracing_disabled(True)
policy = Policy.from_dict({
    "defaults": {"approval": "auto"},
    "rules": [{
        "name": "once",
        "match": {"type": "pay"},
        "conditions": {"repeats": {"by": ["order_id"], "within": "7d"}},
        "approval": "approve",
    }],
})

def note(name, text):
    with open(f"{folder}/{name}", "a") as file:
        file.write(text + "\\n")

async def pay_with_an_agent(order, is_killed):
    @function_tool
    def pay(order_id: str) -> str:
        note("paid", order_id)
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return "paid"

    def ask(decision):
        note("asked", decision.action.params["order_id"])
        return False

    aegis_otel.instrument(
        policy, audit_dir=f"{folder}/audit", state=address, approval_handler=CallbackApprovalHandler(ask)
    )
    turns = [[function_call("pay", {"order_id": order}, call_id="c1")], [assistant_message("Done.")]]
    await Runner.run(Agent(name="Clerk", model=ScriptedModel(turns), tools=[pay]), "Pay it.")

for number in range(int(orders)):
    for attempt in (1, 2):
        pid = os.fork()
        if pid == 0:
            if when == "any moment" and attempt == 1:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.01, 0.2))
            asyncio.run(pay_with_an_agent(f"A{number}", is_killed=when == "paid" and attempt == 1))
            os._exit(0)
        chance.random()
        status = os.waitpid(pid, 0)[1]
        if attempt == 2 and status != 0:
            sys.exit(f"the second attempt at order A{number} ended with {status}")
"""


def counted(path: Path) -> Counter[str]:
    return Counter(path.read_text().splitlines() if path.exists() else [])


@pytest.mark.parametrize("when", ["paid", "any moment"])
def test_nothing_is_paid_twice(store: Store, tmp_path: Path, when: str) -> None:
    """What was paid is known to the audit only; that it may have been paid, to the state."""
    child = python(PROGRAM, store.address, tmp_path, ORDERS, when)
    assert child.communicate(timeout=60 + 4 * ORDERS)[1] == ""
    assert child.returncode == 0
    paid, asked = counted(tmp_path / "paid"), counted(tmp_path / "asked")
    orders = {f"A{number}" for number in range(ORDERS)}
    assert set(paid.values()) == {1}, "paid twice"
    assert set(asked.values()) <= {1}
    assert set(paid) | set(asked) == orders, "neither paid nor asked about"
    if when == "paid":
        assert set(paid) == set(asked) == orders, "each of them is ambiguous"
