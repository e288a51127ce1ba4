"""A process that forks one child for each command, so that it can be killed at any moment, and often.

Commands are JSON lines: the audit, the state, and what to do. The id of the child is printed when it begins,
and how it ended when it did.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

POLICY = {
    "version": "1",
    "defaults": {"approval": "auto", "risk_level": "low"},
    "rules": [{"name": "pay_asks", "match": {"type": "pay"}, "approval": "approve", "risk_level": "high"}],
}


class Zygote:
    """Has children, one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.paused_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, kill_after: float | None = None, **command: Any) -> bool:
        """Run a command in a child, killed after so many seconds; return whether it came to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        ended = threading.Event()

        def kill() -> None:
            if not ended.wait(kill_after):
                os.kill(child, 9)  # it is not reaped before it is reported

        killer = threading.Thread(target=kill)
        if kill_after is not None:
            killer.start()
        line = self._process.stdout.readline()
        ended.set()
        if kill_after is not None:
            killer.join()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert line in ("0\n", "-9\n"), f"the child ended with {line}"
        return line == "0\n"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def main() -> None:
    import agents.testing  # noqa: F401 - the children have it then

    import aegis_otel.adapters.openai_agents
    import aegis_otel.runtime.approval.answer_signature
    import aegis_otel.state.inbox  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _do(**json.loads(line))
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                os._exit(1)
        print(child, flush=True)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # still there for who kills it
        status = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert status is not None
        print(-status.si_status if status.si_code == os.CLD_KILLED else status.si_status, flush=True)
        sys.stdin.readline()
        os.waitpid(child, 0)


def _do(do: str, audit: str, state: str, **about: Any) -> None:
    if do == "answer":
        _answer(audit, state, **about)
    else:
        asyncio.run(_run(do, audit, state, **about))


def _answer(audit: str, state: str, decision_id: str, approved: bool) -> None:
    from aegis_otel.runtime.approval.answer_signature import load_answer_signer
    from aegis_otel.state.inbox import StateInbox
    from aegis_otel.state.opening import open_state
    from tests.support.inbox import an_answer

    inbox = StateInbox(open_state(state))
    asked = inbox.look([decision_id])[decision_id]
    answer = an_answer(asked, "bob@ops", approved=approved, answered_ns=time.time_ns())
    inbox.answer(load_answer_signer(Path(audit)).sign(answer), answer)


async def _run(do: str, audit: str, state: str, *, saved: str, ran: str, x: int, call_id: str) -> None:
    from agents import Agent, Runner, RunState, function_tool
    from agents.testing import ScriptedModel, assistant_message, function_call

    import aegis_otel
    from aegis_otel import Policy

    aegis_otel.instrument(
        Policy.from_dict(POLICY), approvals="sdk", audit_dir=audit, state=state, on_ungoverned="allow"
    )

    @function_tool
    def pay(amount: int, note: str) -> str:
        with open(ran, "a", encoding="utf-8") as file:
            file.write(json.dumps({"amount": amount, "note": note}) + "\n")
        return "paid"

    turns = (
        [[function_call("pay", {"amount": x, "note": "n" * 20}, call_id=call_id)]] if do == "pause" else []
    )
    agent = Agent(name="Clerk", model=ScriptedModel([*turns, [assistant_message("done")]]), tools=[pay])
    if do == "pause":
        result = await Runner.run(agent, "go")
    else:
        result = await Runner.run(agent, await RunState.from_string(agent, Path(saved).read_text("utf-8")))
    if result.interruptions:
        draft = Path(f"{saved}.{os.getpid()}")
        draft.write_text(result.to_state().to_string(), encoding="utf-8")
        if do == "pause":
            draft.rename(saved)


if __name__ == "__main__":
    main()
