"""One look of the SDK at one call of a function tool: whether it needs an approval, and has one.

The SDK asks for the status of the approval, then whether one is needed, then for the status again; the gate
comes last, in the same context. Everybody else who asks for the status is given the SDK's own answer.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from agents import FunctionTool

from aegis_otel.adapters.openai_agents.gates.runs import Run
from aegis_otel.governance.call import Origin
from aegis_otel.governance.interruptions import Ruling


class Judge(Protocol):
    """Says what becomes of the calls that the SDK looks at."""

    async def judge(self, look: Look, wanted: bool) -> Ruling:
        """Return what becomes of a call; `wanted` says that the tool asks for approval by itself."""
        ...

    def suspend(self, look: Look) -> bool:
        """Put a call to a human. False where that cannot be recorded: its gate refuses it."""
        ...

    def yields(self, look: Look) -> bool:
        """Return whether a question is the tool's own alone, so that any yes of the SDK answers it."""
        ...

    def rejected(self, look: Look) -> None:
        """Record that the SDK rejects the call by an answer that came meanwhile."""

    def withdraw(self, look: Look) -> None:
        """Record that the SDK has settled otherwise a call that was put to a human."""


@dataclass(slots=True, eq=False)
class Look:
    """The state of one call in the SDK's approval: what was asked, and what was said."""

    judge: Judge
    tool: FunctionTool
    call_id: str
    arguments: str
    agent: str | None
    """The name of the agent object that runs."""
    context: Any
    """The run's."""
    tool_call: Any
    run: Run
    conversation: str | None
    audited: bool
    """True where the SDK puts the policy's questions about the tool, and the audit has the answers."""
    waited: bool = False
    """True where the run was paused for the call before."""
    open: bool = True
    """True while the SDK works on the call; later the gate may still ask what came of it."""
    before: bool | None = None
    """The SDK's answer when it first asked: True (approved), False (rejected), or None."""
    ruling: Ruling | None = None
    put: bool = False
    """True once the call was put to a human in this look."""
    settled: bool = False
    """True once what the SDK decided by itself is on record."""

    @property
    def origin(self) -> Origin:
        """Return where the call comes from."""
        name, size = self.tool.name, len(self.arguments)
        return Origin(name, self.call_id, self.conversation, size, self.run.id)

    @property
    def paused(self) -> bool:
        """Return whether the call is being put to a human."""
        return self.ruling is not None and self.ruling.verdict is None

    @property
    def resumed(self) -> bool:
        """Return whether the call goes on from a question that is in the audit, as the SDK sees it."""
        return self.audited and self.before is True

    @property
    def answered(self) -> bool:
        """Return whether the call goes on by an answer that is in the audit."""
        return self.ruling is not None and self.ruling.by_answer

    def is_of(self, name: str, call_id: str, context: object) -> bool:
        """Return whether the SDK works on this very call and asks about it."""
        return self.open and call_id == self.call_id and name == self.tool.name and context is self.context

    def answer(self, status: bool | None) -> bool | None:
        """Return what the SDK is told where it has `status`."""
        ruling = self.ruling
        if ruling is None:
            self.before = status
            return None  # so that it asks whether an approval is needed, which can be awaited
        if ruling.verdict is False:
            return False
        if status is not self.before:
            if status is False:
                self._reject()
                return False
            if status is True and ruling.verdict is None and self.judge.yields(self):
                return True
        if ruling.verdict is None:
            return None if self._suspended() else True
        return True if self.before is False else status

    def over(self, *, paused: bool) -> None:
        """End the look: the call is paused, or it goes on, or it was refused."""
        self.open = False
        if self.put and not paused and not self.settled:
            self.settled = True
            self.judge.withdraw(self)

    def _suspended(self) -> bool:
        if self.put:
            return True
        self.put = self.judge.suspend(self)
        return self.put

    def _reject(self) -> None:
        if not self.settled:
            self.settled = True
            self.judge.rejected(self)


current: ContextVar[Look | None] = ContextVar("aegis_otel_look", default=None)
"""The look that the SDK had last in this context."""


def last_look(call_id: str, arguments: str | None = None) -> Look | None:
    """Return the look at this call, if the SDK has just had one."""
    look = current.get()
    if look is None or look.call_id != call_id or arguments not in (None, look.arguments):
        return None
    return look
