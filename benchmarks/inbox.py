"""How long the inbox of approvals takes with 10,000 questions that wait, on SQLite and on PostgreSQL.

The aims of the page are 300 ms for its first part on the server's side, of which `listing` and `counts` are
here, and 50 ms for an answer; a process that waits looks once a second or so. PostgreSQL is a server of the
installed package on this machine. `python benchmarks/inbox.py [questions]`
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aegis_otel.governance.approvals.inbox import QuestionState
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from tests.support.inbox import an_answer, shared_question, unsigned
from tests.support.postgres import running

ROUNDS = 200


def took(work: Callable[[], object], rounds: int = ROUNDS) -> str:
    """Return the median and the 99th percentile of some rounds, in milliseconds."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - begin))
    taken.sort()
    return f"{statistics.median(taken):8.2f} ms, p99 {taken[int(len(taken) * 0.99)]:8.2f} ms"


def measure(name: str, address: str, questions: int) -> None:
    state = open_state(address)
    inbox = StateInbox(state)
    begin = time.perf_counter()
    asked = [inbox.put(shared_question(params="x" * 500, expires_s=86_400.0)) for _ in range(questions)]
    each = 1e3 * (time.perf_counter() - begin) / questions
    ids = [one.question.decision_id for one in asked]
    change = inbox.counts().change
    left = iter(asked)

    def answer() -> None:
        one: QuestionState = next(left)
        given = an_answer(one)
        inbox.answer(unsigned(given), given)

    def use() -> None:
        one = next(again)
        assert inbox.use(one.question.decision_id, one.digest, "host")

    print(f"{name}, {questions:,} questions that wait")
    print(f"  put                           {each:8.2f} ms")
    print(f"  listing, the first 50         {took(inbox.listing)}")
    print(f"  listing, 50 in the middle     {took(lambda: inbox.listing(after=ids[len(ids) // 2]))}")
    print(f"  counts                        {took(inbox.counts)}")
    print(f"  look for 100, nothing new     {took(lambda: inbox.look(ids[-100:], change))}")
    print(f"  look for all, nothing new     {took(lambda: inbox.look(ids, change), 20)}")
    print(f"  find                          {took(lambda: inbox.find(asked[7].question.call_digest))}")
    print(f"  answer                        {took(answer)}")
    again = iter(asked[:ROUNDS])
    print(f"  use                           {took(use)}")
    print(f"  changes, 100                  {took(lambda: inbox.changes(change))}")
    state.close()


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{folder}/state.sqlite3", many)
    with running() as server:
        measure("PostgreSQL", server.address(), many)
