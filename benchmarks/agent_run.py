"""What an agent's run takes with its tool calls governed, against the run alone and against instrumentations.

One Runner run with 50 parallel tool calls on a written model, in one process, the modes in turns, so that
their ratios hold while the machine's speed wanders. Ours has policy, audit and all signals on; the
instrumentations make spans and nothing else; the raw calls are what the OpenTelemetry SDK takes for signals
like ours, made in the body of a tool that nothing governs. The CPU time is that of the thread with the event
loop: on a machine with other work it says more than the wall clock. `python benchmarks/agent_run.py [rounds]`
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import signals  # the raw OpenTelemetry calls, and providers whose exporters drop
from agents import Agent, RunConfig, Runner, function_tool, set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor as OpenInference
from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor as GenAI

import aegis_otel
from aegis_otel import Policy, Runtime
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.telemetry.recorder import Recorder

TOOLS = 50
POLICY = {
    "version": "1",
    "rules": [{"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}],
}
ALONE, OURS, THEIRS = "tracing disabled", "aegis-otel, audit and all signals", "openinference"


@function_tool
async def search(query: str) -> str:
    """Search."""
    return query


@function_tool(name_override="search")
async def signalling(query: str) -> str:
    """Search."""
    signals.raw()
    return query


AGENT = Agent(name="Assistant", tools=[search])
SIGNALLING = Agent(name="Assistant", tools=[signalling])


class Took(NamedTuple):
    """Milliseconds of one run."""

    wall: float
    cpu: float


class Mode(NamedTuple):
    tracing: bool
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    agent: Agent[Any] = AGENT


async def run(mode: Mode) -> Took:
    calls = [function_call("search", {"query": f"q{i}"}, call_id=f"call_{i}") for i in range(TOOLS)]
    model = ScriptedModel([calls, [assistant_message("done")]])
    config = RunConfig(model=model, tracing_disabled=not mode.tracing)
    wall, cpu = time.perf_counter(), time.thread_time()
    await Runner.run(mode.agent, "go", run_config=config)
    return Took((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3)


def governed(folder: Path, recorder: Recorder) -> Callable[[], AbstractContextManager[object]]:
    runtime = Runtime(policy=Policy.from_dict(POLICY), audit_logger=AuditLogger(folder), recorder=recorder)

    @contextmanager
    def around() -> Iterator[None]:
        installed = aegis_otel.instrument(runtime=runtime)
        try:
            yield
        finally:
            installed.uninstrument()

    return around


def instrumented(make: Callable[[], Any]) -> Callable[[], AbstractContextManager[object]]:
    @contextmanager
    def around() -> Iterator[None]:
        instrumentor = make()
        instrumentor.instrument(tracer_provider=signals.tracer_provider)
        try:
            yield
        finally:
            instrumentor.uninstrument()
            set_trace_processors([])

    return around


def measure(modes: dict[str, Mode], rounds: int) -> dict[str, list[Took]]:
    took: dict[str, list[Took]] = {name: [] for name in modes}
    gc.disable()
    for _ in range(rounds):
        for name in random.sample(list(modes), len(modes)):
            with modes[name].around():
                asyncio.run(run(modes[name]))
                took[name].append(asyncio.run(run(modes[name])))
        gc.collect()
    return took


def show(clock: str, took: dict[str, list[float]]) -> None:
    alone = took[ALONE]
    ratios = {
        name: statistics.median(mine / plain for mine, plain in zip(times, alone, strict=True))
        for name, times in took.items()
    }
    print(f"\n{clock + ', ms a run':40}{'min':>8}{'median':>9}{'ratio':>8}{'us added a tool':>18}")
    for name, times in took.items():
        added = (ratios[name] - 1) * min(alone) / TOOLS * 1e3
        print(f"{name:40}{min(times):8.1f}{statistics.median(times):9.1f}{ratios[name]:8.2f}{added:18.0f}")
    share = (ratios[OURS] - 1) / (ratios[THEIRS] - 1)
    print(f"ours adds {share:.2f} of what {THEIRS} adds (at most 0.5)")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    set_trace_processors([])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modes = {
            ALONE: Mode(tracing=False),
            "tracing on, nobody listens": Mode(tracing=True),
            "raw OTel calls, tracing disabled": Mode(tracing=False, agent=SIGNALLING),
            OURS: Mode(tracing=True, around=governed(folder / "all", signals.recorder)),
            "aegis-otel, tracing disabled": Mode(
                tracing=False, around=governed(folder / "disabled", signals.recorder)
            ),
            "aegis-otel, audit, no OTel SDK": Mode(
                tracing=False, around=governed(folder / "audit", signals.silent)
            ),
            THEIRS: Mode(tracing=True, around=instrumented(OpenInference)),
            "opentelemetry genai": Mode(tracing=True, around=instrumented(GenAI)),
        }
        took = measure(modes, rounds)
    print(f"{TOOLS} tool calls in one run, {rounds} rounds; ratio to `{ALONE}`: the median of the rounds")
    print("(ours: at most 1.15); what is added is that much more than its fastest run")
    for clock in Took._fields:
        show(clock, {name: [getattr(each, clock) for each in times] for name, times in took.items()})


if __name__ == "__main__":
    main()
