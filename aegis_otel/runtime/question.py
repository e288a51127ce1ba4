"""One question to a human, and what its answer means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aegis_otel.runtime import refusal
from aegis_otel.runtime.call import Approver, Call
from aegis_otel.runtime.describe import traced
from aegis_otel.runtime.refusal import Refusal

_log = logging.getLogger("aegis_otel")


class NobodyToAsk(Exception):
    """A handler knows that it has nobody to ask; the message says how to change that."""


async def ask(
    approver: Approver, call: Call, timeout: float, monotonic: Callable[[], float]
) -> Refusal | None:
    """Ask once, for at most `timeout` seconds, and keep the answer on the call's record.

    Returns:
        None for a yes, which is the value True and nothing else; otherwise why the call is refused.
    """
    started = monotonic()
    record = call.record
    record.human_decision = None
    try:
        # A handler that is no coroutine function has held the event loop and gave no answer that counts.
        task = asyncio.ensure_future(approver.request_approval(call.decision))
    except Exception as error:
        _log.warning("`request_approval` must be `async def`; denied: %s", traced(error))
        return refusal.UNOBTAINABLE
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout)
    finally:
        task.cancel()  # a handler that ignores this is left behind: nobody waits for it
    waited = monotonic() - started
    record.approval_wait_s = round(waited, 6)
    if not done or waited > timeout:  # a handler that holds the event loop is late without being stopped
        record.human_decision = "expired"
        return refusal.EXPIRED
    try:
        answer: object = task.result()
    except NobodyToAsk as error:
        _log.warning("denied: %s", error)
        return refusal.UNOBTAINABLE
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        _log.warning("the approval handler failed; denied: %s", traced(error))
        return refusal.UNOBTAINABLE
    record.approver = approver.approver
    if answer is True:
        record.human_decision = "approved"
        return None
    if answer is False:
        record.human_decision = "denied"
        return refusal.DENIED
    _log.warning("the approval handler answered `%s`, not True or False; denied", type(answer).__name__)
    return refusal.UNOBTAINABLE
