"""Eight processes and one limit, on each engine: at most as many bodies as it says, whoever dies when.

The variable `RACES` says how often each is tried; `make soak` asks for 100.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from aegis_otel.state.postgres import PostgresState
from tests.support.postgres import Server, wait_for
from tests.support.records import python, statuses
from tests.support.state import Store, mark_one, take, tally

RACES = int(os.environ.get("RACES", "1"))
LIMIT = 100

# Each body is a line in the file of its process, written once it is permitted and before it is settled.
PROGRAM = """
import sys
from aegis_otel.errors import StateError
from aegis_otel.state.opening import open_state
from tests.support.state import take
address, name, series, tries, bodies = sys.argv[1:]
state = open_state(address)
state.read([])
print("ready", flush=True)
sys.stdin.readline()
with open(bodies, "a", buffering=1) as file:
    for n in range(int(tries)):
        decision = f"{series}-{name}-{n}"
        try:
            if take(state, decision, series, 100):
                file.write(decision + "\\n")
                state.settle(decision, "success")
        except StateError as error:
            print(error, file=sys.stderr)
state.close()
"""


def begin(address: str, folder: Path, series: str, tries: int) -> list[subprocess.Popen[str]]:
    """Eight processes that are all connected when the first one begins."""
    children = [python(PROGRAM, address, n, series, tries, folder / f"{series}-{n}") for n in range(8)]
    start(children)
    return children


def start(children: list[subprocess.Popen[str]]) -> None:
    """Wait until all of them are ready, and let them begin."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


def bodies(folder: Path, series: str) -> list[str]:
    return [line for path in folder.glob(f"{series}-*") for line in path.read_text().splitlines()]


def test_eight_processes_get_what_the_limit_says(store: Store, tmp_path: Path) -> None:
    """200 calls of a limit of 100: exactly 100 bodies."""
    for trial in range(RACES):
        children = begin(store.address, tmp_path, f"series{trial}", 25)
        assert [child.communicate()[1] for child in children] == [""] * 8
        found = bodies(tmp_path, f"series{trial}")
        assert len(found) == len(set(found)) == LIMIT
        counted = tally(store.state, f"series{trial}")
        assert (counted.calls, counted.succeeded) == (LIMIT, LIMIT)


AGENTS = """
import asyncio, sys
from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
import aegis_otel
from aegis_otel import Policy
address, name, audit, bodies, rule_name = sys.argv[1:]
file = open(bodies, "a", buffering=1)
@function_tool
async def charge() -> str:
    file.write(name + "\\n")
    return "charged"
limit = {"calls_over": {"limit": 100, "within": "1h"}}
rule = {"name": rule_name, "match": {"type": "charge"}, "conditions": limit, "approval": "block"}
policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule]})
aegis_otel.instrument(policy, audit_dir=audit, state=address)
turns = [[function_call("charge", {}, call_id=f"{turn}-{n}") for n in range(5)] for turn in range(5)]
model = ScriptedModel([*turns, [assistant_message("done")]])
print("ready", flush=True)
sys.stdin.readline()
settings = RunConfig(model=model, tracing_disabled=True)
asyncio.run(Runner.run(Agent("Clerk", tools=[charge]), "go", run_config=settings))
"""


@pytest.mark.skipif(
    not os.environ.get("AEGIS_REQUIRE_STACK"),
    reason="takes both cores for half a minute: a part of make test-stack and make soak",
)
@pytest.mark.parametrize("killed", [0, 5] if RACES > 1 else [0])
def test_agents_of_eight_processes_get_what_the_limit_says(store: Store, tmp_path: Path, killed: int) -> None:
    """The SDK's parallel calls, 200 in all: exactly 100 bodies, and never more where programs are killed."""
    chance = random.Random(7)
    for trial in range(1 + RACES // 20):
        audit, rule = tmp_path / f"audit{trial}", f"rule{trial}"
        children = [python(AGENTS, store.address, n, audit, tmp_path / f"{rule}-{n}", rule) for n in range(8)]
        start(children)
        for child in chance.sample(children, killed):
            time.sleep(chance.uniform(0, 0.2))
            child.kill()
        said = [child.communicate()[1] for child in children]
        assert "".join(said[n] for n, child in enumerate(children) if child.returncode == 0) == ""
        ran, ends = len(bodies(tmp_path, rule)), Counter(statuses(audit).values())
        if killed:
            assert ends["success"] <= ran <= LIMIT
            assert ran - ends["success"] <= 5 * killed, "each of the dead ran five calls at most"
        else:
            assert ran == LIMIT
            assert ends == {"success": LIMIT, "blocked": LIMIT}


FORKING = """
import asyncio, os, sys
from pathlib import Path
os.environ["AEGIS_STATE"] = sys.argv[1]
from aegis_otel import Action, Policy
from aegis_otel.governance.call import Origin
from tests.support.kit import make_bench
limit = {"calls_over": {"limit": 7, "within": "1h"}}
rule = {"name": "limit", "match": {"type": "charge"}, "conditions": limit, "approval": "block"}
policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule]})
bench = make_bench(Path(sys.argv[2]), policy=policy)
governor = bench.runtime.governor
async def nothing():
    return None
async def charge():
    call = await governor.authorize(Action("charge"), Origin("charge"))
    if call.refusal is None:
        await governor.run(call, nothing)
    print(call.outcome, flush=True)
def twice():
    for _ in range(2):
        asyncio.run(charge())
twice()
for _ in range(3):
    child = os.fork()
    if not child:
        twice()
        os._exit(0)
    os.waitpid(child, 0)
twice()
"""


def test_a_program_that_forks_between_two_calls(store: Store, tmp_path: Path) -> None:
    """Parent and children are governed as before, under one limit."""
    out, err = python(FORKING, store.address, tmp_path / "audit").communicate()
    assert err == ""
    assert out.split() == ["allowed"] * 7 + ["blocked"] * 3


def test_processes_that_are_killed_at_any_moment(store: Store, tmp_path: Path) -> None:
    """Never more than 100; each body has its mark, and what the dead had reserved stays open."""
    chance = random.Random(7)
    for trial in range(RACES):
        series = f"series{trial}"
        children = begin(store.address, tmp_path, series, 400)
        for child in chance.sample(children, 6):
            time.sleep(chance.uniform(0, 0.03))
            child.kill()
        for child in children:
            child.communicate()
        found = bodies(tmp_path, series)
        counted = tally(store.state, series)
        assert len(found) == len(set(found)) <= LIMIT
        assert len(found) <= counted.calls == LIMIT
        assert counted.succeeded <= len(found)
        assert counted.open <= 6, "each of the dead had one call at most"


def test_a_server_that_is_stopped_under_load(own_server: Server, tmp_path: Path) -> None:
    """What needs it is refused until it is back, and the limit holds; nobody hangs."""
    children = begin(own_server.address(), tmp_path, "series", 20_000)
    until = time.monotonic() + 60
    while len(bodies(tmp_path, "series")) < 20:
        assert time.monotonic() < until
    for mode in ("immediate", "fast"):
        own_server.stop(mode)
        own_server.start()
        wait_for(own_server)
    time.sleep(0.5)
    for child in children:
        child.terminate()
    said = "".join(child.communicate()[1] for child in children)
    state = PostgresState(own_server.address())
    found = bodies(tmp_path, "series")
    counted = tally(state, "series").calls
    assert 20 <= len(found) <= counted <= LIMIT
    assert "connect" in said
    assert "series" not in said
    mark_one(state, "d", "another")
    assert take(state, "d", "one more", 1)
    state.close()
