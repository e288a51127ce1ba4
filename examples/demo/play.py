"""Play the script: agents of the SDK, governed by `instrument()`; each run starts at its time."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agents import Runner, set_trace_processors, set_tracing_disabled
from agents.run import RunConfig
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.adapters.openai_agents.instrument import instrument
from aegis_otel.audit.lake.sealing import seal

from . import policies
from .approver import ScriptedApprover, current_run
from .script import Run, runs
from .tools import TARGETS, make_agents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis_otel.adapters.openai_agents.instrument import Instrumentation

_AT_ONCE = 64
"""The most runs side by side, which bounds memory on a machine that is slower than the rate."""
_PATIENCE = 1.5, 4.0
"""The shortest and the longest approval timeout, in seconds."""
_RELOAD_INTERVAL = 0.2
"""Seconds between checks of the policy file."""
_SETTLED = 10.0
"""Seconds to wait for a changed policy."""


class Load(NamedTuple):
    """The settings of a demo."""

    audit: Path
    policy: Path
    """The policy file, which the demo writes and changes halfway."""
    seed: int
    seconds: float
    rate: float

    @property
    def calls(self) -> int:
        return max(1, round(self.seconds * self.rate))


class Played(NamedTuple):
    """The result of a demo."""

    calls: int
    stopped: bool
    """Whether it ended early."""
    sent: bool
    """Whether all signals were sent."""


def trace_to_opentelemetry_alone() -> None:
    """Stop the SDK from exporting its traces to OpenAI, as it does where an API key is set."""
    set_trace_processors([])
    set_tracing_disabled(False)


async def play(load: Load, on_progress: Callable[[int], None], say: Callable[[str], None]) -> Played:
    """Play the load; a cancellation ends it early, and cleanly.

    Args:
        load: What to play.
        on_progress: Called with the number of calls that have ended.
        say: Called with a sentence about each other event.
    """
    load.policy.write_text(policies.relaxed(), encoding="utf-8")
    least, most = _PATIENCE
    patience = min(most, max(least, load.seconds / 15))
    governed = instrument(
        load.policy,
        mode="enforce",
        approvals="handler",
        approval_handler=ScriptedApprover(patience),
        approval_timeout=patience,
        audit_dir=load.audit,
        durability="process",
        on_audit_failure="block",
        reload_interval=_RELOAD_INTERVAL,
        targets=TARGETS,
    )
    stage = _Stage(load, governed, on_progress, say)
    try:
        await stage.play()
    except asyncio.CancelledError:
        stage.stopped = True
        await stage.clear()
    finally:
        governed.uninstrument()
        governed.runtime.audit.close()
    for each in seal(load.audit, wait=True).seals:
        governed.runtime.recorder.audit_sealed(each)
    sent = governed.flush()
    return Played(stage.done, stage.stopped, sent)


class _Stage:
    def __init__(
        self,
        load: Load,
        governed: Instrumentation,
        on_progress: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.done = 0
        self.stopped = False
        self._load = load
        self._governed = governed
        self._on_progress = on_progress
        self._say = say
        self._agents = make_agents()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        began, changed = loop.time(), False
        for run in runs(self._load.seed, self._load.seconds, self._load.rate):
            if not changed and run.at >= self._load.seconds / 2:
                changed = True
                pause = loop.time()
                await self._drained()
                await self._change_policy()
                await self._lose_a_process()
                began += loop.time() - pause
            await asyncio.sleep(max(0.0, began + run.at - loop.time()))
            await self._room.acquire()
            task = asyncio.create_task(self._run(run))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        await self._drained()

    async def clear(self) -> None:
        """End every run that is under way."""
        for task in self._tasks:
            task.cancel()
        await self._drained()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _drained(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, run: Run) -> None:
        current_run.set(run)
        agent = self._agents[run.agent]
        calls = [
            [
                function_call(step.tool, step.arguments, call_id=f"call_{run.number}_{turn}_{index}")
                for index, step in enumerate(steps)
            ]
            for turn, steps in enumerate(run.turns)
        ]
        model = ScriptedModel([*calls, [assistant_message("Done what I may do.")]], emit_traces=True)
        config = RunConfig(
            model=model,
            workflow_name=f"{run.agent} desk",
            group_id=f"demo-{self._load.seed}-{run.number}",
            trace_include_sensitive_data=False,
        )
        await Runner.run(agent, run.question, context=run, run_config=config)
        self.done += run.calls
        self._on_progress(self.done)

    async def _change_policy(self) -> None:
        """Save a policy with a typing error, which is refused, and then the corrected one."""
        runtime, file = self._governed.runtime, self._load.policy
        before = runtime.policy.digest
        with _expected_warning():
            file.write_text(policies.mistyped(), encoding="utf-8")
            await asyncio.sleep(4 * _RELOAD_INTERVAL)
        self._say("a policy with a typing error was saved: it was refused, the one in force stays")
        file.write_text(policies.tightened(), encoding="utf-8")
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED):
                while runtime.policy.digest == before:
                    await asyncio.sleep(_RELOAD_INTERVAL / 2)
        if runtime.policy.digest != before:
            self._say("it was corrected, and is in force: exports are blocked, fewer refunds are small")

    async def _lose_a_process(self) -> None:
        """Let a process die during a call, and while a human is asked."""
        program = Path(__file__).with_name("crash.py")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", program, self._load.audit, self._load.policy),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        await process.wait()
        self._say("a process died: one call has an unknown outcome, and nobody is left to hear one answer")


@contextmanager
def _expected_warning() -> Iterator[None]:
    """Hide the library's warning about the typing error, which is made on purpose."""
    logger = logging.getLogger("aegis_otel")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
