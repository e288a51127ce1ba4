"""Calls that an agent SDK pauses for a human, and takes up again in this process or another.

Nothing is kept in memory: a paused call is a `pending` row in the journal, an answer is a line behind it,
and a resumed call takes up the row that has its id, its arguments and its agent. What the SDK's own saved
state says counts for nothing here: an approval is one only if it is in the audit.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aegis_otel.audit.record import RecordStatus, Waiting, same_call
from aegis_otel.encoding import encode_plain, to_plain
from aegis_otel.errors import AuditError
from aegis_otel.model import Action, Approval
from aegis_otel.redaction import redact_text
from aegis_otel.runtime import refusal
from aegis_otel.runtime.call import Call, Origin
from aegis_otel.runtime.describe import safe_text
from aegis_otel.runtime.hooks import fire
from aegis_otel.runtime.paused import (
    ANSWER,
    APPROVED,
    CHANNEL,
    DENIED,
    answers,
    reopened,
    same_question,
    take_up,
)
from aegis_otel.runtime.refusal import Refusal
from aegis_otel.runtime.timestamps import timestamp, utc

if TYPE_CHECKING:
    from aegis_otel.runtime.governor import Governor

_log = logging.getLogger("aegis_otel")


class Interruptions:
    """The paused calls of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor

    # What the SDK is told before it runs a call: True, the call goes on to its gate, which decides;
    # None, it is paused for a human, and is on disk as `pending`; False, it is rejected.

    async def consider(self, action: Action, origin: Origin, shown: str, wanted: bool) -> bool | None:
        """What becomes of a call that nobody was asked about.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human, before defaults are filled in.
            wanted: Whether the tool asks for approval by itself, whatever the policy says.
        """
        if not self._asks(action, wanted):
            return True
        assessed = self._governor.system.off_loop(lambda: self._assess(action, origin, shown))
        return self._suspend(await assessed)

    def consider_now(self, action: Action, origin: Origin, shown: str, wanted: bool) -> bool | None:
        """`consider`, for where the SDK waits for nothing."""
        return self._suspend(self._assess(action, origin, shown)) if self._asks(action, wanted) else True

    async def reconsider(self, action: Action, origin: Origin, shown: str, approved: bool) -> bool | None:
        """What becomes of a call that the SDK holds for approved, or for rejected.

        It is paused again where the audit knows of no yes, or of a yes to another question than the
        policy asks now. A rejection is believed: it comes from an answer to an earlier call.
        """
        found = self._governor.system.off_loop(lambda: self._look_up(action, origin, shown))
        return self._judge(*await found, approved)

    def reconsider_now(self, action: Action, origin: Origin, shown: str, approved: bool) -> bool | None:
        """`reconsider`, for where the SDK waits for nothing."""
        return self._judge(*self._look_up(action, origin, shown), approved)

    def _asks(self, action: Action, wanted: bool) -> bool:
        approval = self._governor.policy.evaluate(action, now=utc(self._governor.system.now_ns())).approval
        return approval is Approval.APPROVE or (wanted and approval is Approval.AUTO)

    def _look_up(self, action: Action, origin: Origin, shown: str) -> tuple[Call, list[Waiting]]:
        call = self._assess(action, origin, shown)
        return call, self._governor.journal.waiting(call.record.tool_call_id or "")

    def _judge(self, call: Call, found: list[Waiting], approved: bool) -> bool | None:
        verdict = call.decision.verdict
        if verdict.approval is Approval.BLOCK:
            return True
        if not approved:
            call.channel, call.record.human_decision = CHANNEL, DENIED
            self._refuse(call)
            self._closed(call)
            return False
        mine = [each for each in found if same_call(each.row, call.record)]
        if verdict.approval is Approval.AUTO:
            # The tool's own question: where it was put to a human, a yes counts as any other does.
            return True if not mine or any(each.started or each.answer for each in mine) else None
        if any(each.started or answers(each, verdict) for each in mine):
            return True
        if found and not mine:
            return True  # approved with other arguments: the gate refuses it
        if not any(each.answer for each in mine):
            _log.warning(
                "call `%s` is approved in the saved run, but not in this audit, so a human is asked again: "
                "approve in a process that is governed and shares the audit directory",
                call.record.tool_call_id,
            )
        if mine and mine[0].answer is None and same_question(mine[0], verdict):
            return None  # as it was asked
        if mine:
            take_up(call, mine[0])
            call.record.human_decision = call.record.approver = call.record.approval_reason = None
        return self._suspend(call)

    async def resume(self, call: Call, inside: bool) -> Refusal | None:
        """Let a call go on from where it was paused, under the id it had.

        One that the audit does not know stays a call of its own, for which somebody has to be asked.

        Args:
            call: As it comes back.
            inside: Whether its body has begun, and goes on; only then no policy is asked again.

        Returns:
            Why it must be refused, if it must: it is known with other arguments only.
        """
        governor = self._governor
        taking = asyncio.ensure_future(
            governor.system.off_loop(lambda: governor.journal.take_over(call.record, inside=inside))
        )
        try:
            found = await asyncio.shield(taking)
        except asyncio.CancelledError:
            found = await taking  # it is taken now, and must be closed as what it is
            if found is not None:
                take_up(call, found)
            raise
        if found is not None:
            take_up(call, found)
        elif call.decision.approval is Approval.APPROVE:
            call_id = call.record.tool_call_id or ""
            known = await governor.system.off_loop(lambda: governor.journal.waiting(call_id))
            if known and not any(same_call(each.row, call.record) for each in known):
                return refusal.CHANGED
        return None

    def find(self, call_id: str, tool: str | None, agent: str | None, arguments: str) -> Waiting | None:
        """The paused call that an answer is about; None if the audit has none.

        It is about what the human was shown: one id with another tool or other arguments is another call.

        Raises:
            AuditError: the journal cannot be read.
        """
        about = tuple(None if each is None else redact_text(each) for each in (tool, agent))
        known = self._governor.journal.waiting(redact_text(call_id))
        encoded = _encoded(arguments)
        if not known or encoded is None:
            return None
        digest = self._governor.journal.digest(encoded)
        found = [
            each
            for each in known
            if (each.row.tool_name, each.row.agent_name) == about
            and (each.row.shown_digest or each.row.args_digest) == digest
            and not each.started
        ]
        return min(found, key=lambda each: each.answer is not None, default=None)

    def answer(
        self,
        waiting: Waiting,
        arguments: str,
        *,
        approved: bool,
        approver: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record what a human said. A yes is put to the policy when the call is resumed; a no is final.

        Raises:
            AuditError: it does not count: it cannot be written, or another answer came first and the call
                was run or refused by it.
        """
        governor = self._governor
        with governor.journal.answering(waiting) as now:
            call = reopened(now, arguments, governor.system.now_ns())
            self._put(call, approved, approver, reason)
            if approved:
                answered = {name: getattr(call.record, name) for name in ANSWER}
                written = governor.write(call, governor.line(call, "resolved", **answered))
            else:
                written = self._refuse(call)
        if not approved:
            self._closed(call)
        if not written:
            raise AuditError("the answer could not be written to the audit, so it does not count")
        governor.signals.answered(call)
        self._tell(governor.hooks.on_approval, call.decision, approved)

    def _put(self, call: Call, approved: bool, approver: str | None, reason: str | None) -> None:
        """Put an answer on the record."""
        record = call.record
        record.human_decision = APPROVED if approved else DENIED
        record.approver = None if approver is None else safe_text(approver)
        record.approval_reason = None if reason is None else safe_text(reason)
        asked = datetime.fromisoformat(record.timestamp)
        record.timestamp = timestamp(call.stamp(call.started_ns))
        record.approval_wait_s = round(max(0.0, (utc(call.started_ns) - asked).total_seconds()), 6)

    def _assess(self, action: Action, origin: Origin, shown: str) -> Call:
        call = self._governor.assess(action, origin, self._governor.system.now_ns())
        encoded = _encoded(shown)
        if encoded is not None and encoded != call.arguments:
            call.record.shown_digest = self._governor.journal.digest(encoded)
        return call

    def _suspend(self, call: Call) -> bool | None:
        """Put a call to a human; one that cannot be recorded is not, and its gate refuses it."""
        governor = self._governor
        call.channel = CHANNEL
        call.record.result_status = RecordStatus.PENDING.value
        if not governor.write(call, call.record):
            return True
        governor.signals.suspended(call)
        self._tell(governor.hooks.on_decision, call.decision)
        return None

    def _refuse(self, call: Call) -> bool:
        """The no is final: the whole of a refused call at once. Whether it is on disk."""
        self._governor.refuse(call, refusal.DENIED)
        self._governor.signals.opened(call)
        return self._governor.write(call, call.record)

    def _closed(self, call: Call) -> None:
        """Tell of a call that was refused."""
        self._governor.announce(call)
        self._tell(self._governor.hooks.on_execute, self._governor.result(call))

    def _tell(self, hook: Callable[..., Any] | None, *about: object) -> None:
        """Call a hook from code that cannot wait for it: on the loop there is, else to its end."""
        if hook is None:
            return
        telling = fire(hook, self._governor.signals.hook_failed, *about)
        try:
            task = asyncio.get_running_loop().create_task(telling)
        except RuntimeError:
            loop = asyncio.new_event_loop()  # not `asyncio.run`, which leaves the thread without a loop
            try:
                loop.run_until_complete(telling)
            finally:
                loop.close()
        else:
            _telling.add(task)
            task.add_done_callback(_telling.discard)


def _encoded(arguments: str) -> bytes | None:
    """Arguments as they are digested; None if they cannot be read."""
    try:
        return encode_plain(to_plain(json.loads(arguments or "{}")))
    except (ValueError, RecursionError):
        return None


_telling: set[asyncio.Task[None]] = set()
"""Kept from the garbage collector until they are done."""
