"""This checkout against an earlier commit: the same work in two processes that take turns, as ratios.

The earlier commit is checked out beside this one for the time of the run. Each case is a batch in one
process, then in the other, many times over, so that a ratio holds while the machine's speed wanders. CPU
time is that of the thread with the event loop.
`python benchmarks/commits.py [commit] [rounds] [case ...]`
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "29792a5"
BATCH = 200
TOOLS = 50

AUTO = {"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}
GUARD = {
    "name": "too_many",
    "match": {"type": "search*"},
    "conditions": {"param_gt": {"limit": 1000}},
    "risk_level": "high",
    "approval": "block",
}
PLAIN = {"version": "1", "rules": [AUTO]}
CONDITION = {"version": "1", "rules": [GUARD, AUTO]}
ARGUMENTS = '{"query": "governance", "limit": 5}'

Work = Callable[[], Awaitable[object]]


# --- in each of the two processes: only what both commits have ---


def governed(policy: dict[str, Any], *, signals: bool) -> Iterator[Work]:
    """Yield a governed call outside of the Runner."""
    from agents import function_tool
    from agents.tool_context import ToolContext

    from aegis_otel import Policy, Runtime
    from aegis_otel.adapters.openai_agents import governed_tool
    from aegis_otel.runtime.audit import AuditLogger

    @function_tool
    async def search(query: str, limit: int = 5) -> str:  # noqa: ARG001
        """Search."""
        return query

    with tempfile.TemporaryDirectory() as folder:
        recorder = {"recorder": recorder_of_all_signals()} if signals else {}
        runtime = Runtime(policy=Policy.from_dict(policy), audit_logger=AuditLogger(folder), **recorder)
        tool = governed_tool(runtime=runtime, action_type="search")(search)
        context = ToolContext(None, tool_name="search", tool_call_id="call_1", tool_arguments=ARGUMENTS)

        async def work() -> None:
            for _ in range(BATCH):
                await tool.on_invoke_tool(context, ARGUMENTS)

        yield work


def run(policy: dict[str, Any], **settings: Any) -> Iterator[Work]:
    """Yield a run with 50 parallel calls of an instrumented program."""
    from agents import Agent, RunConfig, Runner, function_tool, set_trace_processors
    from agents.testing import ScriptedModel, assistant_message, function_call

    import aegis_otel
    from aegis_otel import Policy

    set_trace_processors([])

    @function_tool
    async def search(query: str, limit: int = 5) -> str:  # noqa: ARG001
        """Search."""
        return query

    calls: Any = [function_call("search", json.loads(ARGUMENTS), call_id=f"call_{n}") for n in range(TOOLS)]
    agent = Agent(name="Assistant", tools=[search])
    with tempfile.TemporaryDirectory() as folder:
        aegis_otel.instrument(Policy.from_dict(policy), audit_dir=folder, **settings)

        async def work() -> None:
            model = ScriptedModel([calls, [assistant_message("done")]])
            await Runner.run(agent, "go", run_config=RunConfig(model=model, tracing_disabled=True))

        yield work


def redaction(text: str) -> Iterator[Work]:
    """Yield the redaction of one large text."""
    from aegis_otel.redaction.redactor import redact_text

    async def work() -> None:
        redact_text(text)

    yield work


def recorder_of_all_signals() -> Any:
    """Return a recorder on real providers whose exporters drop everything, by the commit's own benchmark."""
    sys.path.insert(0, str(Path.cwd() / "benchmarks"))
    import signals

    return signals.recorder


def _prose(size: int) -> str:
    sentence = "The order of 12 March was shipped to Main Street 5, and the invoice is paid in full. "
    return (sentence * (size // len(sentence) + 1))[:size]


def _log(size: int) -> str:
    line = (
        '2026-11-28T10:00:00Z INFO user=42 path=/api/v1/items?page=2 status=200 {"took_ms": 12, "ok": true}\n'
    )
    return (line * (size // len(line) + 1))[:size]


def _leaky(size: int) -> str:
    line = "DB_PASSWORD=hunter2hunter2 and then some words to read before the next line comes to its end\n"
    return (line * (size // len(line) + 1))[:size]


_WORDS = (
    "order",
    "market",
    "list",
    "status",
    "delivery",
    "value",
    "paid",
    "customer",
    "agent",
    "tool",
    "report",
)
_ALNUM = string.ascii_letters + string.digits


def _text(piece: Callable[[random.Random], str], size: int = 300_000) -> Iterator[str]:
    """Yield texts of one kind, each of other letters: no search may live on what it learned from the last."""
    for seed in itertools.count():
        rng = random.Random(seed)
        pieces: list[str] = []
        length = 0
        while length < size:
            pieces.append(piece(rng))
            length += len(pieces[-1])
        yield "".join(pieces)[:size]


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(_ALNUM, k=count))


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))


def _code(rng: random.Random) -> str:
    a, b, c = rng.sample(_WORDS, 3)
    return (
        f"def {a}_{b}(self, {c}: str) -> int:\n    if not {c}:\n        raise ValueError(f'no {{{c}!r}}')\n"
    )


@cache
def _sources() -> list[Path]:
    return sorted(Path(os.__file__).parent.glob("*.py"))


def _source(rng: random.Random) -> str:
    """Return code that people wrote, from Python's own library: no line is as the last."""
    return rng.choice(_sources()).read_text("utf-8", "replace")


KINDS: dict[str, Callable[[random.Random], str]] = {
    "JSON": lambda rng: json.dumps({"id": rng.randrange(10**6), "name": _words(rng, 3), "ok": True}) + "\n",
    "base64": lambda rng: b64encode(rng.randbytes(57)).decode() + "\n",
    "code": _code,
    "Python's source": _source,
    "Python's source, in JSON": lambda rng: json.dumps({"content": _source(rng)}) + "\n",
    "SQL": lambda rng: f"INSERT INTO t (id, name) VALUES ({rng.randrange(10**6)}, '{_words(rng, 3)}');\n",
    "name=value": lambda rng: f"{rng.choice(_WORDS)}={rng.randrange(1000)}&",
    "password=value": lambda rng: f"password={_letters(rng, 8)} ",
    "tokens of one kind": lambda rng: f"ghp_{_letters(rng, 36)} ",
    "tokens of three kinds": lambda rng: f"{rng.choice(('sk-proj-', 'npm_', 'glpat-'))}{_letters(rng, 36)} ",
}


def redaction_of(kind: str) -> Iterator[Work]:
    """Yield the redaction of texts of a kind, another one for each batch."""
    from aegis_otel.redaction.redactor import redact_text

    texts = list(itertools.islice(_text(KINDS[kind]), 8))
    turn = itertools.cycle(texts)

    async def work() -> None:
        redact_text(next(turn))

    yield work


CASES: dict[str, Callable[[], Iterator[Work]]] = {
    "governed call, no OTel SDK": lambda: governed(PLAIN, signals=False),
    "governed call, all signals": lambda: governed(PLAIN, signals=True),
    "governed call, a condition": lambda: governed(CONDITION, signals=False),
    "run of 50 calls, instrument()": lambda: run(PLAIN),
    "run of 50 calls, a condition": lambda: run(CONDITION),
    'run of 50 calls, approvals="sdk"': lambda: run(PLAIN, approvals="sdk"),
    "redact 300 kB of prose": lambda: redaction(_prose(300_000)),
    "redact 300 kB of log lines": lambda: redaction(_log(300_000)),
    "redact 300 kB with secrets": lambda: redaction(_leaky(300_000)),
    **{f"redact 300 kB of {kind}": partial(redaction_of, kind) for kind in KINDS},
}


def serve(case: str) -> None:
    """Run a batch of the case for each line on stdin, and print its CPU and wall time in seconds."""

    async def main() -> None:
        for work in CASES[case]():
            await work()
            gc.collect()
            gc.disable()
            print("ready", flush=True)
            for _ in sys.stdin:
                cpu, wall = time.thread_time(), time.perf_counter()
                await work()
                print(time.thread_time() - cpu, time.perf_counter() - wall, flush=True)
                gc.collect()

    asyncio.run(main())


# --- in the process that compares ---


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out the commit beside this checkout, for as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "earlier"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(place), commit], cwd=ROOT, check=True)
        try:
            yield place
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(place)], cwd=ROOT, check=True)


def start(tree: Path, case: str) -> subprocess.Popen[str]:
    """Start the process that runs the case with the code of `tree`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", case]
    environment = os.environ | {"PYTHONPATH": str(tree), "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    process = subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    answer(process)
    return process


def answer(process: subprocess.Popen[str], question: str = "") -> tuple[float, ...]:
    assert process.stdin is not None
    assert process.stdout is not None
    if question:
        process.stdin.write(question)
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a side of the comparison ended: {process.args!r}")
    return () if line.startswith("ready") else tuple(map(float, line.split()))


def compare(case: str, earlier: Path, rounds: int) -> str:
    """Return one line: the ratios of CPU and wall time, this checkout over the earlier commit."""
    sides = [start(ROOT, case), start(earlier, case)]
    try:
        taken = [[answer(side, "go\n") for side in sides] for _ in range(rounds)]
    finally:
        for side in sides:
            side.communicate()
    cpu, wall = (statistics.median(now[n] / then[n] for now, then in taken) for n in (0, 1))
    least = min(now[0] for now, _ in taken) / min(then[0] for _, then in taken)
    each = statistics.median(now[0] for now, _ in taken) * 1e3
    return f"{case:36}{cpu:8.2f}{least:10.2f}{wall:8.2f}{each:12.2f}"


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--serve"]:
        serve(arguments[1])
        return
    commit = arguments[0] if arguments else COMMIT
    rounds = int(arguments[1]) if len(arguments) > 1 else 30
    wanted = arguments[2:] or list(CASES)
    print(f"{'this checkout / ' + commit:36}{'CPU':>8}{'of minima':>10}{'wall':>8}{'ms a batch':>12}")
    with worktree(commit) as earlier:
        for case in CASES:
            if any(word in case for word in wanted):
                print(compare(case, earlier, rounds), flush=True)


if __name__ == "__main__":
    main()
