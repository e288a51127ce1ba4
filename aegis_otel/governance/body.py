"""Run the body of a permitted call, and record how it ended, also where it outlives the run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aegis_otel.audit.record import NOT_BEGUN, NOT_STARTED, RecordStatus
from aegis_otel.governance.call import Call, Cancelled, Ending, Failure
from aegis_otel.governance.error_text import describe, error_type, safe_text
from aegis_otel.governance.hooks import fire
from aegis_otel.governance.recording import utc
from aegis_otel.model import Result, ResultStatus

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


T = TypeVar("T")
_NOT_RESUMED = "Cancelled before it went on"
_WENT_ON = "Cancelled while running, and went on in its thread to the end"

_FINAL = {status: ResultStatus(status.value) for status in RecordStatus if status.value in set(ResultStatus)}
"""The status of a result by that of the record of a call that is over."""


class BodyFailed(Exception):
    """A body that ended without raising and yet did not succeed, such as an executor's FAILED result."""


def cancelled_before_it_ran(call: Call) -> str:
    """Return the row's `result_error` of a call that was cancelled, and whose body was not run since then."""
    return _NOT_RESUMED if call.had_begun else NOT_BEGUN


def _said(text: str) -> str:
    """Return what a body says of its failure: not that it never ran, as only this package can know that."""
    return f"`{text}`" if text.startswith(NOT_STARTED) else text


class Bodies:
    """Runs the bodies of the calls that a governor permits."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor

    async def run(
        self,
        call: Call,
        body: Callable[[], Awaitable[T]],
        *,
        paused: Callable[[T], bool] | None = None,
        failed: Callable[[object], Failure | None] | None = None,
        ending: Ending | None = None,
    ) -> T:
        """Run the body of a permitted call and record how it ended. Its exceptions pass unchanged.

        Args:
            call: From `authorize`.
            body: What to run.
            paused: Whether a body that has returned this has not ended: a call inside of it waits for a
                human.
            failed: What went wrong in a body that has returned this; None where it succeeded. Never raises.
            ending: Follows the threads of the body, so that a cancelled one is recorded when it ends.
        """
        started, begun_ns = self._governor.system.monotonic(), self._governor.system.now_ns()
        try:
            with self._governor.signals.executing(call):
                value = await body()
                call.failure = failed(value) if failed is not None else None
        except asyncio.CancelledError:
            self._cancelled(call, started, failed, ending)
            raise
        except BaseException as error:
            never_ran = ending is not None and ending.give_up() and not call.had_begun
            self._complete(call, started, error, never_ran=never_ran)
            if isinstance(error, Exception):
                await self.executed(call, begun_ns, None)
            raise
        self._complete(call, started, ended=paused is None or not paused(value))
        await self.executed(call, begun_ns, value)
        return value

    async def executed(self, call: Call, begun_ns: int | None, value: object) -> None:
        """Do what follows the end of a body: until then its caller waits."""
        governor = self._governor
        if call.settling is not None:  # the next call of the agent may be decided by how this one ended
            await governor.past_calls.settled(call.settling)
        if governor.hooks.on_execute is None or call.status not in _FINAL:
            return
        result = value if isinstance(value, Result) else self.result(call, data=value, begun_ns=begun_ns)
        await fire(governor.hooks.on_execute, governor.signals.hook_failed, result)

    def result(self, call: Call, *, data: object = None, begun_ns: int | None = None) -> Result:
        """Return the result of a closed call for callers and hooks."""
        return Result(
            call.decision.action,
            _FINAL[call.status],
            data,
            call.record.result_error if call.refusal is None else call.refused_for,
            started_at=None if begun_ns is None else utc(begun_ns),
            completed_at=utc(self._governor.system.now_ns()),
            decision_id=call.record.decision_id,
        )

    def _complete(
        self,
        call: Call,
        started: float,
        error: BaseException | None = None,
        *,
        note: str | None = None,
        ended: bool = True,
        never_ran: bool = False,
    ) -> None:
        """Record how the body ended: that it raised `error`, returned `call.failure`, or succeeded.

        Where it never ran, `error` is what kept it from that, such as arguments that it does not take.
        """
        failure = call.failure
        if error is not None:
            text = _said(safe_text(str(error)) if isinstance(error, BodyFailed) else describe(error))
            failure = Failure(error_type(type(error)), f"{NOT_STARTED}{text}" if never_ran else text)
        elif failure is not None:
            failure = Failure(failure.kind, _said(safe_text(failure.text)))
        if failure is None:
            status = RecordStatus.SUCCESS if ended else RecordStatus.PENDING
            self._governor.complete(call, status, started, note)
        else:
            call.error_type = failure.kind
            text = failure.text if note is None else f"{note}: {failure.text}"
            self._governor.complete(call, RecordStatus.FAILED, started, text, never_ran=never_ran)

    def _cancelled(
        self,
        call: Call,
        started: float,
        failed: Callable[[object], Failure | None] | None,
        ending: Ending | None,
    ) -> None:
        """Record that nobody waits for the body any more; what goes on in a thread is recorded at its end.

        Until then the row is open, and so `unknown` where the process ends first.
        """

        def on_end(error: BaseException | None, value: object) -> None:
            call.failure = failed(value) if error is None and failed is not None else None
            self._complete(call, started, error, note=_WENT_ON)

        call.goes_on = True
        state = Cancelled.STOPPED if ending is None else ending.cancel(on_end)
        if state is Cancelled.GOES_ON:
            return
        call.goes_on = False
        never_ran = state is Cancelled.NOT_BEGUN
        why = cancelled_before_it_ran(call) if never_ran else "Cancelled while running"
        self._governor.complete(call, RecordStatus.CANCELLED, started, why, never_ran=never_ran)
