"""Plays the script: agents of the SDK, governed by `instrument()`, each run at its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agents import Runner, set_trace_processors, set_tracing_disabled
from agents.run import RunConfig
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel.adapters.openai_agents.instrument import instrument
from aegis_otel.audit.journal import child_process
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.demo import policies
from aegis_otel.demo.approver import ScriptedApprover, current_run
from aegis_otel.demo.script import Run, runs
from aegis_otel.demo.tools import TARGETS, make_agents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis_otel.adapters.openai_agents.instrument import Instrumentation

_AT_ONCE = 64
"""Runs side by side: what bounds memory where the machine is slower than the rate."""
_PATIENCE = 1.5, 4.0
"""Seconds that the human of the demo has, at least and at most."""
_LOOKS = 0.2
"""Seconds between looks at the policy file."""
_SETTLED = 10.0
"""Seconds that a changed policy is waited for."""


class Load(NamedTuple):
    """What is to be played."""

    audit: Path
    policy: Path
    """The file that is written, and changed in the middle."""
    seed: int
    seconds: float
    rate: float

    @property
    def calls(self) -> int:
        return max(1, round(self.seconds * self.rate))


class Played(NamedTuple):
    """What came of it."""

    calls: int
    stopped: bool
    """Whether it was ended before its time."""
    sent: bool
    """Whether all signals went out."""


def trace_to_opentelemetry_alone() -> None:
    """Have the SDK send its traces nowhere else: where a key is set, its own exporter would, to OpenAI."""
    set_trace_processors([])
    set_tracing_disabled(False)


async def play(load: Load, tell: Callable[[int], None], say: Callable[[str], None]) -> Played:
    """Play the load; a cancellation ends it early, and cleanly.

    Args:
        load: What to play.
        tell: Told how many calls have ended.
        say: Told in a sentence what else happened.
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
        reload_interval=_LOOKS,
        targets=TARGETS,
    )
    stage = _Stage(load, governed, tell, say)
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
        self, load: Load, governed: Instrumentation, tell: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        self.done = 0
        self.stopped = False
        self._load = load
        self._governed = governed
        self._tell = tell
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
        self._tell(self.done)

    async def _change_policy(self) -> None:
        """A change that is refused, for a typing error, and then the same without it."""
        runtime, file = self._governed.runtime, self._load.policy
        before = runtime.policy.digest
        with _expected_warning():
            file.write_text(policies.mistyped(), encoding="utf-8")
            await asyncio.sleep(4 * _LOOKS)
        self._say("a policy with a typing error was saved: it was refused, the one in force stays")
        file.write_text(policies.tightened(), encoding="utf-8")
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED):
                while runtime.policy.digest == before:
                    await asyncio.sleep(_LOOKS / 2)
        if runtime.policy.digest != before:
            self._say("it was corrected, and is in force: exports are blocked, fewer refunds are small")

    async def _lose_a_process(self) -> None:
        """A process is gone in the middle of a call, and while a human is asked."""
        arguments = (str(self._load.audit), str(self._load.policy))
        process = await asyncio.create_subprocess_exec(
            *child_process.command("aegis_otel.demo.crash", arguments)
        )
        await process.wait()
        self._say("a process died: one call has an unknown outcome, and nobody is left to hear one answer")


@contextmanager
def _expected_warning() -> Iterator[None]:
    """What the library logs of the mistake that is made here on purpose would look like one of the demo's."""
    logger = logging.getLogger("aegis_otel")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
