"""Calls that an agent SDK pauses for a human, and takes up again in this process or another.

Nothing is kept in memory: a paused call is a `pending` row in the journal, an answer is a line behind it, and
a resumed call takes up the row that has its id, its arguments and its agent. What the SDK's own saved state
says counts for nothing here: an approval is one only if it is in the audit. To ask again, the run has to be
paused again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aegis_otel.audit.record import DESCRIBES, AuditRecord, RecordStatus, Waiting, same_call
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Call, Origin, off_loop_if_large
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.governance.hooks import fire
from aegis_otel.governance.recording import VERDICT_COLUMNS, recorded_name, timestamp, unix_ns, utc
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.redaction.serialize import encode_plain, to_plain

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


CHANNEL = "sdk"
"""Where a human is asked, as signals name it."""
APPROVED, DENIED = "approved", "denied"

ANSWER = ("human_decision", "approver", "approval_reason", "approval_wait_s")
"""The columns of an answer."""


def resolved(record: AuditRecord) -> dict[str, object]:
    """Return what an answer can change in the row."""
    return {name: getattr(record, name) for name in (*ANSWER, *VERDICT_COLUMNS, "result_error")}


def answers(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether the yes to a paused call is a yes to what the policy asks now."""
    return waiting.answer == APPROVED and same_question(waiting, verdict)


def same_question(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether a human was asked by the rule that asks now, and for no lower risk."""
    row = waiting.row
    return (
        row.approval == Approval.APPROVE.value
        and row.matched_rule == verdict.matched_rule
        and RiskLevel[row.risk_level or "LOW"] >= verdict.risk_level
    )


def take_up(call: Call, waiting: Waiting) -> None:
    """Go on with a paused call: what it is, its answer; and its verdict, where its body has begun."""
    record, row = call.record, waiting.row
    call.stamped_ns = unix_ns(waiting.last)
    record.timestamp = timestamp(call.stamp(call.started_ns))
    record.stage, record.decision_id = "resolved", row.decision_id
    for name in DESCRIBES + ANSWER + (VERDICT_COLUMNS if waiting.started else ()):
        setattr(record, name, getattr(row, name))
    call.channel = CHANNEL if row.human_decision else None
    call.prior = waiting
    if waiting.started:
        call.outcome = Outcome.APPROVED if row.human_decision == APPROVED else Outcome.ALLOWED
        call.status, call.announced = RecordStatus.OPEN, True


def reopened(waiting: Waiting, arguments: str, now_ns: int) -> Call:
    """Return a paused call as a human was asked about it, made from its row."""
    row = msgspec.structs.replace(waiting.row, stage="resolved")
    try:
        params: Any = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        params = None
    action = Action(
        row.action_type or "",
        row.action_target or "",
        params if isinstance(params, dict) else {"": arguments},
        agent=row.agent_name,
    )
    verdict = Verdict(
        Approval(row.approval or Approval.APPROVE),
        RiskLevel[row.risk_level or "CRITICAL"],
        row.matched_rule or "",
        row.reason or "",
        policy_digest=row.policy_digest or "",
    )
    origin = Origin(row.tool_name, row.tool_call_id, row.conversation_id, len(arguments))
    decision, last = PolicyDecision(action, verdict), unix_ns(waiting.last)
    return Call(decision, origin, now_ns, row, b"", stamped_ns=last, channel=CHANNEL)


_log = logging.getLogger("aegis_otel")


class Ruling(NamedTuple):
    """The answer to the SDK, which asks about a call before it runs it."""

    verdict: bool | None
    """True, it goes on to its gate, which decides; None, it is put to a human; False, it is rejected."""
    question: Call | None = None
    """What is to be put to a human, where that is not on disk yet."""
    by_answer: bool = False
    """Whether it goes on by an answer in the audit, which its gate has to take up for it to run."""


GOES, WAITS, DENIES = Ruling(True), Ruling(None), Ruling(False)
_ANSWERED = Ruling(True, by_answer=True)


class Interruptions:
    """The paused calls of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._unproven = False

    # --- what the SDK is told before it runs a call ---

    async def consider(self, action: Action, origin: Origin, shown: str, wanted: bool) -> Ruling:
        """Say what becomes of a call that nobody was asked about.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human, before defaults are filled in.
            wanted: Whether the tool asks for approval by itself, whatever the policy says.
        """
        governor = self._governor
        rules = governor.policy.rules_asked(action)
        if not await off_loop_if_large(
            governor.system, origin.size, lambda: self._asks(action, wanted), rules
        ):
            return GOES
        return Ruling(None, await self._governor.system.off_loop(lambda: self._assess(action, origin, shown)))

    async def reconsider(
        self,
        action: Action,
        origin: Origin,
        shown: str,
        approved: bool,
        *,
        trusted: bool,
        waited: bool,
        inside: bool,
    ) -> Ruling:
        """Say what becomes of a call that the SDK holds for approved, or for rejected.

        It is paused again where the audit knows of no yes, or of a yes to another question than the
        policy asks now. A rejection is believed: it comes from an answer to an earlier call.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human.
            approved: What the SDK has.
            trusted: Whether the tool's own question counts as answered though this audit has no answer: the
                answer was given to this process, for this call or for every call of the tool.
            waited: Whether the run was paused for this very call: a rejection then is on record, as a rule.
            inside: Whether what goes on is a body that has begun, as the SDK sees it.
        """
        looking = self._governor.system.off_loop(lambda: self._look_up(action, origin, shown))
        call, found = await looking
        if not approved and waited:
            self._deny_waiting(call, found)
            return DENIES
        if call.decision.verdict.approval is Approval.BLOCK:
            return GOES
        if not approved:
            self._deny(call)
            return DENIES
        return self._judge(call, found, trusted, inside)

    def suspend(self, ruling: Ruling) -> bool:
        """Put a call to a human. False where that cannot be recorded: then its gate refuses it."""
        call, governor = ruling.question, self._governor
        if call is None:
            return True  # as it was asked
        call.channel = CHANNEL
        call.record.result_status = RecordStatus.PENDING.value
        if not governor.write(call, call.record):
            return False
        governor.signals.suspended(call)
        self._tell(governor.hooks.on_decision, call.decision)
        return True

    def withdraw(self, ruling: Ruling, status: RecordStatus, why: str) -> None:
        """Close a question that was put, and that the SDK has settled otherwise."""
        call, governor = ruling.question, self._governor
        if call is not None:
            call.outcome, call.status = Outcome.EXPIRED, RecordStatus.OPEN
            governor.signals.opened(call)
            governor.announce(call)
            governor.abandon(call, status, why)

    def rejected(self, action: Action, origin: Origin, shown: str, ruling: Ruling | None) -> None:
        """Record that the SDK rejects a call: by an answer to an earlier one, or that came meanwhile.

        Args:
            action: What is not done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human.
            ruling: What was said of the call before, where it was put to a human.
        """
        asked = None if ruling is None else ruling.question
        if asked is not None:
            asked.record.stage = "resolved"
            asked.record.timestamp = timestamp(asked.stamp(self._governor.system.now_ns()))
        self._deny(asked or self._assess(action, origin, shown))

    def proven(self, row: AuditRecord, line: AuditRecord) -> AuditRecord:
        """Return the line with the proof of its answer, where there is a key."""
        if row.human_decision not in (APPROVED, DENIED):
            return line
        try:
            line.proof = self._governor.journal.prove(row, line)
        except Exception as error:
            if not self._unproven:
                _log.warning("answers carry no proof: %s", describe(error))
            self._unproven = True
        return line

    def _asks(self, action: Action, wanted: bool) -> bool:
        approval = self._governor.policy.evaluate(action, now=utc(self._governor.system.now_ns())).approval
        return approval is Approval.APPROVE or (wanted and approval is Approval.AUTO)

    def _look_up(self, action: Action, origin: Origin, shown: str) -> tuple[Call, list[Waiting]]:
        call = self._assess(action, origin, shown)
        return call, self._of_the_run(call.record)

    def _of_the_run(self, record: AuditRecord) -> list[Waiting]:
        """Return the waiting calls with this id in the same run; the ids of other runs mean nothing here."""
        known = self._governor.journal.waiting(record.tool_call_id or "")
        return [each for each in known if each.row.run_id == record.run_id]

    def _judge(self, call: Call, found: list[Waiting], trusted: bool, inside: bool) -> Ruling:
        verdict = call.decision.verdict
        mine = [each for each in found if same_call(each.row, call.record)]
        if inside and any(each.started for each in mine):
            return GOES
        if verdict.approval is Approval.AUTO:
            # The tool's own question: where it was put to a human, a yes counts as any other does.
            if any(each.answer for each in mine):
                return _ANSWERED
            if trusted and not mine:
                return GOES
        elif any(answers(each, verdict) for each in mine):
            return _ANSWERED
        elif any(not each.started for each in found) and not mine:
            return GOES  # approved with other arguments: the gate refuses it
        if not any(each.answer for each in mine):
            _log.warning(
                "call `%s` is approved in the saved run, but not in this audit, so a human is asked again: "
                "approve in a process that is governed and shares the audit directory and the approval key",
                call.record.tool_call_id,
            )
        waits = next((each for each in mine if not each.started), None)
        if waits is None:
            return Ruling(None, call)
        if waits.answer is None and (verdict.approval is Approval.AUTO or same_question(waits, verdict)):
            return WAITS
        take_up(call, waits)
        call.record.human_decision = call.record.approver = call.record.approval_reason = None
        return Ruling(None, call)

    async def resume(self, call: Call, inside: bool, answered: bool = False) -> Refusal | None:
        """Let a call go on from where it was paused, under the id it had.

        One that the audit does not know stays a call of its own, for which somebody has to be asked.

        Args:
            call: As it comes back.
            inside: Whether its body has begun, and goes on; only then no policy is asked again.
            answered: Whether the SDK was told that it goes on by an answer that the audit had then.

        Returns:
            Why it must be refused, if it must: it is known with other arguments only, or another task or
            process that resumed the same run has taken the answer first.
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
        elif answered:
            return refusal.USED
        elif call.decision.approval is Approval.APPROVE:
            known = await governor.system.off_loop(lambda: self._of_the_run(call.record))
            if known and not any(same_call(each.row, call.record) for each in known):
                return refusal.CHANGED
        return None

    def find(
        self,
        call_id: str,
        tool: str | None,
        agent: str | None,
        arguments: str,
        *,
        run_id: str | None,
        decision_id: str | None = None,
    ) -> Waiting | None:
        """Find the paused call that an answer is about; None if the audit has none.

        It is about what the human was shown: one id with another tool or other arguments, or in another
        run, is another call.

        Raises:
            AuditError: the journal cannot be read, or the call is not the one with this `decision_id`.
        """
        about = tuple(None if each is None else recorded_name(each) for each in (run_id, tool, agent))
        known = self._governor.journal.waiting(recorded_name(call_id))
        encoded = _encoded(arguments)
        digest = None if encoded is None or not known else self._governor.journal.digest(encoded)
        found = [
            each
            for each in known
            if (each.row.run_id, each.row.tool_name, each.row.agent_name) == about
            and (each.row.shown_digest or each.row.args_digest) == digest is not None
            and not each.started
            and decision_id in (None, each.row.decision_id)
        ]
        if decision_id is not None and not found:
            raise AuditError(f"call `{call_id}` is not the one that waits as decision `{decision_id}`")
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
            AuditError: it does not count: it cannot be written or proven, or another answer came first and
                the call was run or refused by it.
            ConfigError: the approval key is unusable.
        """
        governor = self._governor
        with governor.journal.answering(waiting) as now:
            call = reopened(now, arguments, governor.system.now_ns())
            self._put(call, approved, approver, reason)
            if approved:
                answered = {name: getattr(call.record, name) for name in ANSWER}
                line = governor.line(call, "resolved", **answered)
                line.proof = governor.journal.prove(call.record, line)
                written = governor.write(call, line)
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

    def _deny_waiting(self, call: Call, found: list[Waiting]) -> None:
        """End the row of a call that was answered with no and whose answer this audit does not have."""
        for each in found:
            if same_call(each.row, call.record) and not each.started:
                take_up(call, each)
                self._deny(call)
                return

    def _deny(self, call: Call) -> None:
        """Record the whole of a call that the SDK rejects by itself."""
        call.channel, call.record.human_decision = CHANNEL, DENIED
        self._refuse(call)
        self._closed(call)

    def _refuse(self, call: Call) -> bool:
        """Record a refused call as a whole, since a no is final; return whether it is on disk."""
        governor = self._governor
        governor.refuse(call, refusal.DENIED)
        governor.signals.opened(call)
        return governor.write(call, self.proven(call.record, call.record))

    def _closed(self, call: Call) -> None:
        """Report a call that was refused."""
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
    """Return arguments as they are digested; those that are not a JSON object, as an Action has them."""
    try:
        params = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        params = None
    try:
        return encode_plain(to_plain(params if isinstance(params, dict) else {"": arguments}))
    except (ValueError, RecursionError):
        return None


_telling: set[asyncio.Task[None]] = set()
"""Kept from the garbage collector until they are done."""
