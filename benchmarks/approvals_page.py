"""How long the page of approvals takes on the server's side where 10,000 questions wait, on SQLite.

The page reads all questions when it starts; then requests go to it over HTTP, one after the other, as those
of one person. The aims: a list within 300 ms, an answer within 50 ms. Each answer is to another question. The
last figure is of an agent in a process of its own, 50 of whose calls wait: from the answer of a person until
the call goes on, which is to take less than a second.
`python benchmarks/approvals_page.py [questions]`
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aegis_otel import Action, Policy, Result, ResultStatus, Runtime
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.governance.approvals.inbox import Inbox
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval import InboxApprovalHandler
from tests.support.approvals_page import Visitor, make_desk, serving
from tests.support.inbox import shared_question

ANSWERS = 200
CALLS = 50
APPROVERS = (None, Approvers(roles=("finance",)), Approvers(users=("*@example.com",), count=2))


def timed(visitor: Visitor, path: str, times: int) -> list[float]:
    """Load a page so many times; return what each took, in milliseconds."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        assert visitor.get(path).status == 200
        taken.append(1e3 * (time.perf_counter() - begin))
    return taken


class Timed(BaseExecutor):
    """Says when a call goes on."""

    async def execute(self, action: Action) -> Result:
        print(action.params["number"], time.time(), flush=True)
        return Result(action=action, status=ResultStatus.SUCCESS, data=None)


async def agent() -> None:
    """Make calls that wait for a person, all at once."""
    defaults = {"risk_level": "high", "approval": "approve"}
    policy = Policy.from_dict({"version": "1", "defaults": defaults})
    runtime = Runtime(policy=policy, executor=Timed(), approval_handler=InboxApprovalHandler())
    calls = [Action("pay", params={"number": number}) for number in range(CALLS)]
    await asyncio.gather(*map(runtime.run_one, calls))


def until_the_agent_goes_on(visitor: Visitor, inbox: Inbox, audit: Path) -> list[float]:
    """Return what each call of an agent took to go on after its answer was sent, in milliseconds."""
    environment = {**os.environ, "AEGIS_AUDIT_DIR": str(audit)}
    command = [sys.executable, __file__, "agent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        while len(states := inbox.listing(limit=CALLS)) < CALLS or any(
            each.question.kind != "inbox" for each in states
        ):
            time.sleep(0.1)
        sent = {}
        for state in states:
            path = f"/questions/{state.question.decision_id}"
            fields = visitor.fields(path, f"{path}/answer")
            number = json.loads(state.question.question.action_params)["number"]
            sent[number] = time.time()
            assert visitor.post(f"{path}/answer", {**fields, "answer": "yes"}).status == 303
            time.sleep(0.05)
        assert child.stdout is not None
        went_on = dict(line.split() for line in child.stdout)
    return [1e3 * (float(went_on[str(number)]) - begin) for number, begin in sent.items()]


def report(what: str, taken: list[float], aim: float) -> None:
    taken = sorted(taken)
    p50, p95, worst = taken[len(taken) // 2], taken[int(len(taken) * 0.95)], taken[-1]
    print(f"{what:<32} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   worst {worst:7.1f} ms   aim {aim:.0f} ms")


def main(questions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"  # for the keys
        path = Path(folder) / "audit"
        inbox = make_desk(path).inbox
        begin = time.perf_counter()
        ids = []
        for number in range(questions):
            asked = shared_question(
                params=f"order {number}, " + "x" * 500, expires_s=86_400.0, approvers=APPROVERS[number % 3]
            )
            ids.append(inbox.put(asked).question.decision_id)
        print(f"{questions:,} questions asked in {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        with serving(make_desk(path)) as port:
            print(f"the page is there after {time.perf_counter() - begin:.1f} s")
            ann = Visitor(port, "ann@example.com", "finance, support")
            report("the first list of the process", timed(ann, "/", 1), 300)
            report("the list of what is for one", timed(ann, "/", 50), 300)
            report("the last part of all", timed(ann, f"/?show=all&page={questions // 50}", 50), 300)
            report("one question", timed(ann, f"/questions/{ids[1]}", 50), 300)
            taken = []
            for decision_id in ids[: 3 * ANSWERS : 3]:
                action = f"/questions/{decision_id}/answer"
                fields = ann.fields(f"/questions/{decision_id}", action)
                begin = time.perf_counter()
                assert ann.post(action, {**fields, "answer": "yes"}).status == 303
                taken.append(1e3 * (time.perf_counter() - begin))
            report("an answer", taken, 50)
            taken = until_the_agent_goes_on(ann, inbox, path)
            report("until the agent goes on", taken, 1_000)


if __name__ == "__main__":
    if sys.argv[1:] == ["agent"]:
        asyncio.run(agent())
        sys.exit()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
