"""The Runtime: one policy, one audit, one way to ask, held together for any number of agents."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from aegis_otel.config import ANSWER_KEY, ANSWER_PUBLIC_KEY, APPROVAL_TIMEOUT, MODE, ON_AUDIT_FAILURE
from aegis_otel.errors import AegisError, AuditError, ConfigError
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.shared_questions import SharedQuestions
from aegis_otel.governance.body import BodyFailed
from aegis_otel.governance.call import NOWHERE, Call, Origin
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.hooks import RuntimeHooks
from aegis_otel.governance.isolation import IsolatedSignals
from aegis_otel.governance.recording import rough_size
from aegis_otel.governance.subject import ReadSubject, SubjectSource
from aegis_otel.model import Action, Approval, Mode, Result, ResultStatus
from aegis_otel.policy import Policy
from aegis_otel.runtime.approval import ApprovalHandler, default_handler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.plan import BaseExecutor, ExecutionPlan
from aegis_otel.runtime.policy_changes import change_record, kept_text
from aegis_otel.runtime.redaction_settings import RedactionSource, use_redaction
from aegis_otel.runtime.system import RealSystem
from aegis_otel.state.opening import open_state
from aegis_otel.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from aegis_otel.audit.seals.seal_log import Seal
    from aegis_otel.governance.approvals.inbox import Inbox, TrustedKeys

_log = logging.getLogger("aegis_otel")
_DRY = {
    Approval.AUTO: ResultStatus.WOULD_RUN,
    Approval.APPROVE: ResultStatus.WOULD_ASK,
    Approval.BLOCK: ResultStatus.WOULD_BLOCK,
}


class Runtime:
    """Governs actions: those of agents' tools (`governed_tool`) and those of plans (`execute`).

    Constructing one starts no thread and writes no file.

    Args:
        policy: The rules in force; replaced by `update_policy`.
        executor: Carries out the actions of `execute` and `run_one`; tools need none.
        approval_handler: Asked where a rule says `approve`. Default: the terminal if there is one, else
            every such call is denied.
        audit_logger: Where records go. Default: `AuditLogger()`, the directory `aegis_audit`.
        session_id: Groups the rows of this Runtime. Default: 12 random hex digits.
        hooks: Callbacks that observe.
        approval_timeout: Seconds a human has; default `AEGIS_APPROVAL_TIMEOUT`.
        mode: `enforce` or `monitor` (decide and record, stop nothing, ask nobody); default `AEGIS_MODE`,
            else `enforce`.
        on_audit_failure: What becomes of a call whose verdict cannot be written: `block` or `allow`;
            default `AEGIS_ON_AUDIT_FAILURE`, else `block`.
        recorder: Telemetry through providers of your own; default: OpenTelemetry's global ones.
        redaction: What is hidden beyond the rules, or shown in spite of them, in the whole process; a mapping
            or a YAML file (docs/redaction.md). Default: what is in force, at first `AEGIS_REDACTION`.
        subject: Reads whom a call is made for from the SDK's context of its run: a function that returns a
            Subject, a mapping of its fields, or None (docs/subjects.md). Asked on every call of a tool.
        candidate: A policy that is asked about every call as well, for the record alone
            (docs/policy-testing.md).
        state: The address of counts and questions, for policies that have any: `postgresql://...` or
            `sqlite:///path` (docs/state.md). Default: `AEGIS_STATE`, else a file in the audit directory.

    Raises:
        ConfigError: a setting or an argument is unusable; the message says which.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        executor: BaseExecutor | None = None,
        approval_handler: ApprovalHandler | None = None,
        audit_logger: AuditLogger | None = None,
        session_id: str | None = None,
        hooks: RuntimeHooks | None = None,
        approval_timeout: float | None = None,
        mode: Mode | str | None = None,
        on_audit_failure: str | None = None,
        recorder: Recorder | None = None,
        redaction: RedactionSource | None = None,
        subject: ReadSubject | None = None,
        candidate: Policy | None = None,
        state: str | None = None,
    ) -> None:
        use_redaction(redaction)
        _check_policy(policy)
        if candidate is not None:
            _check_policy(candidate, "candidate")
        if approval_handler is not None and not isinstance(approval_handler, ApprovalHandler):
            raise ConfigError(
                f"`approval_handler` is a `{type(approval_handler).__name__}` and no ApprovalHandler: wrap a "
                "function in `CallbackApprovalHandler`, or pass an instance of a subclass (docs/approvals.md)"
            )
        self.executor = executor
        self.approval = approval_handler or default_handler()
        self.audit = audit_logger or AuditLogger()
        self.session_id = session_id or uuid.uuid4().hex[:12]
        self.hooks = hooks or RuntimeHooks()
        self.recorder = recorder or Recorder()
        self.mode = Mode(MODE.value(mode))
        self._system = RealSystem()
        self._state = open_state(state, directory=self.audit.path, durability=self.audit.durability)
        signals = IsolatedSignals(self.recorder)
        self.governor = Governor(
            policy=policy,
            journal=self.audit,
            signals=signals,
            approver=self.approval,
            approval_timeout=APPROVAL_TIMEOUT.value(approval_timeout),
            hooks=self.hooks,
            system=self._system,
            session_id=self.session_id,
            mode=self.mode,
            block_on_audit_failure=ON_AUDIT_FAILURE.value(on_audit_failure) == "block",
            subjects=SubjectSource(subject),
            candidate=candidate,
            state=self._state,
            shared_questions=SharedQuestions(self._inbox, self._answer_keys, self._system, signals),
        )
        self.audit.on_seal(self._sealed, self.recorder.sealing_failed)
        self.recorder.policy_loaded(policy, self.mode.value)
        if candidate is not None:
            self.recorder.candidate_loaded(candidate)
        self._record_change("started", policy)
        if self.approval.asks_in_inbox and (ANSWER_PUBLIC_KEY.value() or ANSWER_KEY.value()):
            self.check_answer_keys()

    def _inbox(self) -> Inbox:
        from aegis_otel.runtime.inbox_signals import ReportedInbox  # noqa: PLC0415 - only where people are asked

        return ReportedInbox(self._state, self.recorder)

    def _answer_keys(self) -> TrustedKeys:
        from aegis_otel.runtime.approval.answer_signature import load_answer_keys  # noqa: PLC0415 - as above

        return load_answer_keys(self.audit.path)

    @property
    def policy(self) -> Policy:
        """Return the policy in force."""
        return self.governor.policy

    def update_policy(self, policy: Policy) -> None:
        """Replace the policy at once. A body that runs goes on; a call that waits is decided anew.

        Raises:
            ConfigError: it is not a Policy; the one in force stays.
        """
        _check_policy(policy)
        self._record_change("reloaded", policy)  # first, so that no call under it comes before the change
        self.governor.policy = policy
        self.recorder.policy_loaded(policy, self.mode.value)

    def policy_refused(self, sources: Sequence[str], problem: str) -> None:
        """Record that changed policy files were refused, and why; the policy in force stays."""
        self._record_change("refused", sources=sources, problem=problem)

    def governance_stopped(self) -> None:
        """Record that tool calls are not governed any more."""
        self._record_change("stopped")

    def tool_ungoverned(self, problem: str) -> None:
        """Record that a tool cannot be governed, and why."""
        self._record_change("ungoverned", problem=problem)

    @property
    def candidate(self) -> Policy | None:
        """Return the policy that is asked as well, for the record alone."""
        return self.governor.candidate

    def update_candidate(self, candidate: Policy | None) -> None:
        """Replace the candidate for the calls that follow; None asks none.

        Raises:
            ConfigError: it is not a Policy; the one in use stays.
        """
        if candidate is not None:
            _check_policy(candidate, "candidate")
            self.recorder.candidate_loaded(candidate)
        self.governor.candidate = candidate

    def check(self) -> None:
        """Check that the audit can be written, before the first call finds that it cannot.

        Raises:
            AuditError: it cannot, and calls would be refused for that; otherwise it is only logged.
        """
        try:
            self.audit.check()
            if why := self.audit.unsendable:
                _log.warning("%s; until then what is sealed is not sent there", why)
        except AuditError as error:
            if self.governor.needs_audit:
                raise
            _log.error("%s; no audit is kept", error)

    def _sealed(self, seal: Seal) -> None:
        self.recorder.audit_sealed(seal)
        self._close_ended_rows()

    def close_ended_rows_later(self) -> None:
        """Close in the background the rows of this audit whose questions in the inbox are over."""
        try:
            self._system.in_background(self._close_ended_rows)
        except RuntimeError as error:
            _log.warning("rows whose questions are over stay as they are: %s", error)

    def _close_ended_rows(self) -> None:
        """Close rows whose questions are over, where questions are put into the inbox. Logs what fails."""
        shared = self.governor.shared_questions
        if shared is None or not (self.approval.asks_in_inbox or self.governor.paused_calls.inbox):
            return
        from aegis_otel.runtime.approval.row_closing import close_ended_rows  # noqa: PLC0415 - as above

        try:
            close_ended_rows(self.audit, shared.inbox, shared.check)
        except AegisError as error:
            _log.warning("rows whose questions are over could not be closed: %s", error)
        except Exception:  # else it would end the work that comes after it, such as that of a seal
            _log.exception("rows whose questions are over could not be closed")

    def check_answer_keys(self) -> None:
        """Load the keys that answers in the inbox are checked with, before tools can change their file.

        Raises:
            AegisError: the public keys cannot be read or made, or are unusable.
        """
        if self.governor.shared_questions is not None:
            self.governor.shared_questions.load_keys()

    def plan(self, actions: Sequence[Action]) -> ExecutionPlan:
        """Return what the policy says about each action now. Runs, asks and records nothing.

        What went before is looked up only when an action is executed: here, a condition on it is unknown.

        Raises:
            ConfigError: one of them is not an Action.
        """
        for action in actions:
            if not isinstance(action, Action):
                raise ConfigError(f"a plan is made of Actions, not of `{type(action).__name__}`")
        stamp = self.governor.subjects.stamp
        return ExecutionPlan(tuple(self.policy.evaluate(stamp(action)) for action in actions))

    async def execute(
        self, plan: ExecutionPlan, *, dry_run: bool = False, parallel: bool = False
    ) -> list[Result]:
        """Take every action of a plan through the policy as it is now, and run what it lets run.

        Args:
            plan: From `plan`.
            dry_run: Only return what would happen: WOULD_RUN, WOULD_ASK or WOULD_BLOCK. Nothing runs,
                nobody is asked, nothing is recorded.
            parallel: All at once. Otherwise in order, and what follows a FAILED or DENIED action is
                SKIPPED; a BLOCKED one stops nothing.

        Returns:
            One result for each action, in the order of the plan. A failure is a result, not an exception.

        Raises:
            ConfigError: the Runtime has no executor.
        """
        if dry_run:
            actions = [self.governor.subjects.stamp(decision.action) for decision in plan]
            verdicts = [await self.governor.consult(action, NOWHERE) for action in actions]
            return [
                Result(action, _DRY[verdict.enforced_approval])
                for action, verdict in zip(actions, verdicts, strict=True)
            ]
        executor = self.executor
        if executor is None:
            raise ConfigError(
                "this Runtime has no executor, so it can run no plan: pass `executor=` to Runtime(...)"
            )
        if parallel:
            return list(await asyncio.gather(*(self._execute(d.action, executor) for d in plan)))
        results: list[Result] = []
        failed = False
        for decision in plan:
            if failed:
                self.governor.skip(self.governor.subjects.stamp(decision.action), refusal.SKIPPED)
                results.append(Result(decision.action, ResultStatus.SKIPPED, error=refusal.SKIPPED))
                continue
            result = await self._execute(decision.action, executor)
            failed = result.status in (ResultStatus.FAILED, ResultStatus.DENIED)
            results.append(result)
        return results

    async def run_one(self, action: Action, *, dry_run: bool = False) -> Result:
        """Execute a single action, as `execute` does."""
        return (await self.execute(self.plan([action]), dry_run=dry_run))[0]

    async def dry_run(self, actions: Sequence[Action]) -> list[Result]:
        """Return what would happen to each action, without running, asking or recording anything."""
        return await self.execute(self.plan(actions), dry_run=True)

    async def __aenter__(self) -> Self:
        if self.executor is not None:
            await self.executor.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.executor is not None:
                await self.executor.teardown()
        finally:
            self.audit.close()

    async def _execute(self, action: Action, executor: BaseExecutor) -> Result:
        action = self.governor.subjects.stamp(action)
        call = await self.governor.authorize(action, Origin(size=rough_size(action.params)))
        if call.refusal is not None:
            return self.governor.result(call)
        try:
            result = await self.governor.run(call, lambda: _carry_out(executor, call))
        except ExecutorFailed as failure:
            result = failure.result
        except Exception:
            return self.governor.result(call)
        ours = self.governor.result(call, data=result.data)
        return replace(
            ours, started_at=result.started_at, completed_at=result.completed_at or ours.completed_at
        )

    def _record_change(
        self,
        change: Literal["started", "reloaded", "refused", "stopped", "ungoverned"],
        policy: Policy | None = None,
        *,
        sources: Sequence[str] | None = None,
        problem: str | None = None,
    ) -> None:
        """Record a change of policy; where it cannot be written, the next call tries again and is refused."""
        record = change_record(
            change,
            policy or self.policy,
            session_id=self.session_id,
            mode=self.mode,
            system=self._system,
            sources=sources,
            problem=problem,
        )
        # Now: to write a policy as text takes 1 ms a rule, and the change may be written with the first call.
        text = None if policy is None else kept_text(policy)
        try:
            self.audit.record_change(record, text)
        except AegisError:
            _log.exception("that the policy was %s is not in the audit yet", change)


def _check_policy(policy: object, name: str = "policy") -> None:
    if not isinstance(policy, Policy):
        raise ConfigError(f"`{name}` is a `{type(policy).__name__}`: pass Policy.from_yaml(...)")


class ExecutorFailed(BodyFailed):
    """Carries an executor's own failed result past the governor."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(result.error or f"the executor returned {result.status.name}")


async def _carry_out(executor: BaseExecutor, call: Call) -> Result:
    result = await executor.execute(call.decision.action)
    if not isinstance(result, Result):
        raise TypeError(f"the executor returned `{type(result).__name__}`, not a Result")
    if result.ok and not await executor.verify(call.decision.action, result):
        raise RuntimeError("Post-execution verification failed")
    if not result.ok:
        raise ExecutorFailed(result)
    return result
