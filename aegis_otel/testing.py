"""Helpers for tests of governed programs and of policies, with unittest, pytest or neither (docs/testing.md).

`governed` runs a program under a policy, with its audit in a temporary directory and its signals in memory.
The `assert_...` functions check such a run, or a policy's decision, and say what happened instead.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

from aegis_otel import semconv
from aegis_otel.config import APPROVAL_KEY
from aegis_otel.governance.hooks import RuntimeHooks
from aegis_otel.model import Approval, PolicyDecision
from aegis_otel.policy import Policy
from aegis_otel.runtime.approval import ApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.plan import BaseExecutor
from aegis_otel.runtime.runtime import Runtime
from aegis_otel.runtime.system import RealSystem
from aegis_otel.telemetry.in_memory import Signals

__all__ = [
    "GovernedRun",
    "ScriptedApprover",
    "Signals",
    "assert_allowed",
    "assert_asked",
    "assert_blocked",
    "assert_not_called",
    "governed",
]
__unittest = True  # unittest leaves the frames of this module out of a failure

Checked: TypeAlias = "PolicyDecision | GovernedRun"
PolicySource = Policy | dict[str, Any] | str | os.PathLike[str]


class ScriptedApprover(ApprovalHandler):
    """Answers questions in order: `True`, `False`, an exception to raise, or a function of the decision."""

    channel = "scripted"
    approver = "someone"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        """The answers that are left; where there is none, a call is denied."""
        self.asked: list[PolicyDecision] = []
        """The decisions that were asked about."""

    async def request_approval(self, decision: PolicyDecision) -> Any:
        """Give the next answer."""
        self.asked.append(decision)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(decision)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class GovernedRun:
    """What happened under `governed`, while it lasts and afterwards."""

    runtime: Runtime
    """For `governed_tool` and `govern_agent`, or for actions without an SDK (`run_one`)."""
    signals: Signals
    approver: ScriptedApprover
    decisions: list[PolicyDecision]
    """What the policy said about each call, in order; `decision.action.params` are the real arguments."""
    _rows: list[dict[str, Any]] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the audit, oldest first, with its columns (docs/audit-sql.md) as keys."""
        return list(reversed(self.runtime.audit.get_log())) if self._rows is None else self._rows

    def _close(self) -> None:
        self._rows = self.rows
        self.runtime.audit.close()
        self.signals.close()


@contextmanager
def governed(
    policy: PolicySource,
    *,
    answers: Sequence[Any] = (),
    now: datetime | None = None,
    mode: str = "enforce",
    executor: BaseExecutor | None = None,
    instrument: bool | None = None,
    **settings: Any,
) -> Iterator[GovernedRun]:
    """Govern the agents that run inside, and keep what happened.

    Args:
        policy: A Policy, the path of its file, or a dict of that form.
        answers: The answers to questions, in order (see `ScriptedApprover`).
        now: The time at which the policy decides, UTC when it has no zone; the real time when None.
        mode: `enforce` or `monitor`, whatever `AEGIS_MODE` says.
        executor: Carries out the actions of `run.runtime.execute`.
        instrument: Whether agents of the OpenAI Agents SDK are governed; when None, where it is installed.
        settings: Further settings of `aegis_otel.instrument`, such as `targets`.

    Raises:
        AssertionError: at the end, where a question was asked that `answers` has no answer for.
    """
    with tempfile.TemporaryDirectory(prefix="aegis_testing_") as folder, ExitStack() as stack:
        key = Path(folder, "approval.key")  # else one would be made in the user's state directory
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(32))
        stack.enter_context(mock.patch.dict(os.environ, {APPROVAL_KEY.env: str(key)}))
        signals, approver, decisions = Signals(), ScriptedApprover(*answers), list[PolicyDecision]()
        runtime = Runtime(
            policy=_load(policy),
            executor=executor,
            approval_handler=approver,
            audit_logger=AuditLogger(Path(folder, "audit")),
            hooks=RuntimeHooks(on_decision=decisions.append),
            approval_timeout=60,
            mode=mode,
            recorder=signals.recorder(),
        )
        run = GovernedRun(runtime, signals, approver, decisions)
        stack.callback(run._close)
        if now is not None:
            runtime.governor.system = _system_at(now)
        if instrument or (instrument is None and find_spec("agents") is not None):
            from aegis_otel.adapters.openai_agents.instrument import instrument as govern_all  # noqa: PLC0415

            stack.callback(govern_all(runtime=runtime, **settings).uninstrument)
        yield run
    if unanswered := [f"`{decision.action.type}`" for decision in approver.asked[len(answers) :]]:
        raise AssertionError(f"no answer was left for {', '.join(unanswered)}: give more `answers`")


def assert_allowed(subject: Checked, tool: str | None = None, *, rule: str | None = None) -> None:
    """Fail unless the action runs and nobody is asked.

    Args:
        subject: A decision; or a run, in which `tool` was called and each of its calls was allowed.
        tool: The name of the tool, or the type of its action; every call of the run when None.
        rule: The name of the rule that must have decided.
    """
    _check(subject, tool, "allowed", rule)


def assert_blocked(subject: Checked, tool: str | None = None, *, rule: str | None = None) -> None:
    """Fail unless the policy blocks the action; arguments as for `assert_allowed`."""
    _check(subject, tool, "blocked", rule)


def assert_asked(
    subject: Checked, tool: str | None = None, *, rule: str | None = None, answer: str | None = None
) -> None:
    """Fail unless a human is asked; in a run the `answer` may be given: `approved`, `denied` or `expired`."""
    _check(subject, tool, "asked about", rule)
    if answer is not None:
        _check(subject, tool, answer, rule)


def assert_not_called(run: GovernedRun, tool: str) -> None:
    """Fail if an agent tried to call `tool`, whatever came of it."""
    calls = _calls(run)
    if any(tool in names for names, _, _ in calls):
        raise AssertionError(f"expected no call of `{tool}`, but {_shown(calls)}")


_Call = tuple[set[str | None], set[str], str]
"""The names of the tool, the words for what became of the call, and a line for people."""
_WORDS = {Approval.AUTO: "allowed", Approval.APPROVE: "asked about", Approval.BLOCK: "blocked"}


def _calls(subject: Checked) -> list[_Call]:
    if isinstance(subject, PolicyDecision):
        name, words = subject.action.type, (_WORDS[subject.enforced_approval],)
        return [_call((name,), words, subject.matched_rule, subject.reason)]
    asked = {each[semconv.DECISION_ID] for each in subject.signals.events(semconv.EVENT_APPROVAL_REQUESTED)}
    decided = subject.signals.events(semconv.EVENT_DECISION)
    outcomes = {each[semconv.DECISION_ID]: each[semconv.DECISION_OUTCOME] for each in decided}
    calls = []
    for row in subject.rows:
        question = ("asked about",) if row["decision_id"] in asked else ()
        words = (*question, outcomes.get(row["decision_id"], "left waiting"))
        if row["mode"] != subject.runtime.mode:  # of a rule that is only monitored
            words = (_WORDS[Approval.AUTO],)
        calls.append(_call((row["tool_name"], row["action_type"]), words, row["matched_rule"], row["reason"]))
    return calls


def _call(names: tuple[str | None, ...], words: tuple[str, ...], rule: str, reason: str | None) -> _Call:
    line = f"`{names[0] or names[-1]}` was {' and '.join(words)} by rule `{rule}` ({reason or 'no reason'})"
    return {*names}, {*words, rule}, line


def _check(subject: Checked, tool: str | None, word: str, rule: str | None) -> None:
    __tracebackhide__ = True  # pytest leaves this frame out of a failure
    calls = _calls(subject)
    wanted = {word} if rule is None else {word, rule}
    found = [words for names, words, _ in calls if tool is None or tool in names]
    if not found or not all(wanted <= words for words in found):
        what = "the call" if tool is None else f"`{tool}`"
        by = "" if rule is None else f" by rule `{rule}`"
        raise AssertionError(f"expected {what} to be {word}{by}, but {_shown(calls)}")


def _shown(calls: list[_Call]) -> str:
    lines = [line for _, _, line in calls]
    if len(lines) < 2:
        return lines[0] if lines else "there was no call"
    return "\n  ".join((f"of {len(lines)} calls:", *lines))


def _load(policy: PolicySource) -> Policy:
    if isinstance(policy, Policy):
        return policy
    return Policy.from_dict(policy) if isinstance(policy, dict) else Policy.from_yaml(Path(policy))


def _system_at(now: datetime) -> RealSystem:
    """Return a system whose clock begins at `now`, and goes on from there."""
    moment = now if now.tzinfo else now.replace(tzinfo=UTC)
    shift = int(moment.timestamp() * 1e9) - time.time_ns()
    system = RealSystem()
    system.now_ns = lambda: time.time_ns() + shift
    return system
