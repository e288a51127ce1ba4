"""Define the checks of `aegis doctor`. `CHECKS` lists them in the order in which they run."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.location import locate
from aegis_otel.config import (
    ANSWER_KEY,
    ANSWER_PUBLIC_KEY,
    APPROVAL_KEY,
    APPROVALS,
    CANDIDATE,
    MODE,
    ON_UNGOVERNED,
    POLICY,
    SEAL_KEY,
    SETTINGS,
    STATE,
    unknown_variables,
)
from aegis_otel.errors import AegisError, ConfigError, PolicyError
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.model import Mode

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.instrument import Instrumentation
    from aegis_otel.policy import Policy
    from aegis_otel.policy.lint.finding import Finding
    from aegis_otel.runtime.runtime import Runtime

OK, WARNING, FAILED, INVALID = "ok", "warning", "failed", "invalid"
_PACKAGES = ("openai-agents", "opentelemetry-api", "opentelemetry-sdk", "duckdb")


class Check(NamedTuple):
    """The result of a check."""

    name: str
    status: str
    detail: str


@dataclass
class Subject:
    """What is checked: a program that governs itself, or else the settings of the environment."""

    files: tuple[Path, ...]
    """The policy files that were named; they count before those of the program and the environment."""
    module: str | None = None
    """The module that was imported for its agent."""
    agent: Any = None
    program: Instrumentation | None = None
    """What importing the module has installed, by `instrument()` or the processor."""
    health: str | None = None
    """The URL of a collector's health check; by default the usual port beside the endpoint."""
    events: Path | None = None
    """The file that the collector writes events to (OTLP/JSON); the probe must arrive in it."""

    @property
    def runtime(self) -> Runtime | None:
        return None if self.program is None else self.program.runtime

    @cached_property
    def policy_files(self) -> tuple[Path, ...]:
        return self.files or tuple(Path(each) for each in POLICY.value().split(os.pathsep) if each)

    @property
    def policy(self) -> Policy:
        """The policy to check.

        Raises:
            ConfigError: no policy is named.
            PolicyError: it is not valid.
        """
        from aegis_otel.policy import Policy

        if self.runtime is not None and not self.files:
            return self.runtime.policy
        if not self.policy_files:
            raise ConfigError(f"no policy: set `{POLICY.env}`, or pass `--policy FILE`")
        return Policy.from_yaml_files(*self.policy_files)

    @property
    def audit_path(self) -> Path:
        return locate() if self.runtime is None else self.runtime.audit.path


def run_checks(subject: Subject) -> Iterator[Check]:
    """Yield the result of every check; a check that raises an error of ours has failed."""
    for name, check in CHECKS:
        try:
            yield from list(check(subject))  # a check that fails on the way yields nothing
        except PolicyError as error:
            yield Check(name, INVALID, str(error))
        except AegisError as error:
            yield Check(name, FAILED, str(error))


def _versions(subject: Subject) -> Iterator[Check]:  # noqa: ARG001
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"not installed: {', '.join(missing)}; install `aegis-otel` anew"
        yield Check("versions", FAILED, detail)
    else:
        yield Check("versions", OK, ", ".join(found))


def _settings(subject: Subject) -> Iterator[Check]:
    if subject.program is not None:
        asked = subject.program.asked
        assert isinstance(asked, Mapping)
        named = ", ".join(f"{name} `{asked[name]}`" for name in ("approvals", "on_ungoverned"))
        mode = subject.program.runtime.mode.value
        yield Check("program", OK, f"governs itself: mode `{mode}`, {named}")
        return
    changed = [setting.env for setting in SETTINGS if setting.value() != setting.default]
    mode = f"mode `{MODE.value()}`, on_ungoverned `{ON_UNGOVERNED.value()}`"
    unknown = "".join(f"{each}; " for each in unknown_variables())
    detail = f"{unknown}{mode}; set by environment: {', '.join(changed) or 'none'}"
    yield Check("settings", WARNING if unknown else OK, detail)


def _policy(subject: Subject) -> Iterator[Check]:
    from aegis_otel.policy.lint import lint

    policy = subject.policy
    if findings := lint(policy):
        yield _lint_check("policy lint", findings)
        return
    named = "" if subject.runtime is None or subject.files else f"`{', '.join(policy.sources)}` "
    yield Check("policy", OK, f"{named}valid, rules: {len(policy.rules)}, {policy.digest}")


def _candidate(subject: Subject) -> Iterator[Check]:
    """Check that the candidate can be loaded: a program that it cannot be loaded for starts all the same."""
    from aegis_otel.policy import Policy

    policy = None if subject.runtime is None else subject.runtime.candidate
    named = [each for each in CANDIDATE.value().split(os.pathsep) if each]
    if policy is None and named:
        try:
            policy = Policy.from_yaml_files(*named)
        except PolicyError as error:
            yield Check("candidate", FAILED, str(error))
            return
    if policy is not None:
        detail = f"`{', '.join(policy.sources)}` valid, rules: {len(policy.rules)}, {policy.digest}"
        yield Check("candidate", OK, detail)


def _policy_and_tools(subject: Subject) -> Iterator[Check]:
    """Check the policy against the agent's tools, and yield only what the policy alone does not show."""
    if subject.agent is None:
        return
    from aegis_otel.adapters.openai_agents.coverage.tool_inventory import inventory
    from aegis_otel.policy.lint import lint

    try:
        policy = subject.policy
    except AegisError:
        return  # the check of the policy reports it
    alone = set(lint(policy))
    if findings := [each for each in lint(policy, inventory(subject.agent)) if each not in alone]:
        yield _lint_check("policy and tools", findings)


def _lint_check(name: str, findings: list[Finding]) -> Check:
    from aegis_otel.policy.lint.finding import Severity

    errors = any(finding.severity is Severity.ERROR for finding in findings)
    return Check(name, FAILED if errors else WARNING, "\n".join(map(str, findings)))


def _audit(subject: Subject) -> Iterator[Check]:
    from aegis_otel.runtime.audit import AuditLogger

    audit = AuditLogger() if subject.runtime is None else subject.runtime.audit
    audit.check()
    if why := audit.unsendable:
        yield Check("audit", FAILED, why)
        return
    away = f"; what is sealed goes to `{audit.address}`" if audit.address else ""
    yield Check("audit", OK, f"`{audit.path}` can be written{away}")


def _state(subject: Subject) -> Iterator[Check]:
    """Check what processes share, where the settings name it, the policy needs it, or it is there."""
    from aegis_otel.state.engine import MOST_COUNTED
    from aegis_otel.state.opening import FILE, open_state

    directory = subject.audit_path
    try:
        is_needed = subject.policy.has_history
    except AegisError:
        is_needed = False  # the check of the policy reports it
    if not (is_needed or STATE.value() or (directory / FILE).exists()):
        return
    state = open_state(directory=directory)
    try:
        facts = state.inspect()
    finally:
        state.close()
    marks = f"{facts.marks:,}{' or more' if facts.marks == MOST_COUNTED else ''}"
    detail = (
        f"{facts.engine} at {facts.place} can be read and written; schema {facts.version}, marks: {marks}"
    )
    yield Check("state", OK, detail)


def _inbox(subject: Subject) -> Iterator[Check]:
    """Check the inbox and the keys of its answers, where questions go there or a setting names a key."""
    asked = None if subject.program is None else subject.program.asked
    approvals = asked["approvals"] if isinstance(asked, Mapping) else APPROVALS.value()
    if not (approvals == "inbox" or ANSWER_KEY.value() or ANSWER_PUBLIC_KEY.value()):
        return
    from aegis_otel.runtime.approval.answer_signature import load_answer_keys, load_answer_signer
    from aegis_otel.state.inbox import StateInbox
    from aegis_otel.state.opening import open_state

    keys = load_answer_keys(subject.audit_path)
    if ANSWER_KEY.value():
        signer = load_answer_signer(subject.audit_path)
        if signer.key_id not in keys.key_ids:
            detail = (
                f"`{ANSWER_KEY.env}` is no key of `{ANSWER_PUBLIC_KEY.env}`: no answer that it signs counts"
            )
            yield Check("inbox", WARNING, detail)
        if subject.agent is not None:
            detail = (
                f"this agent has the key that signs answers: set `{ANSWER_KEY.env}` only where people answer"
            )
            yield Check("inbox", WARNING, detail)
    state = open_state(directory=subject.audit_path)
    try:
        counts = StateInbox(state).inspect()
    finally:
        state.close()
    waiting = counts.by_status.get(QuestionStatus.WAITING, 0)
    detail = f"questions that wait: {waiting:,}; answers count by {' and '.join(keys.key_ids)}"
    yield Check("inbox", OK, detail)


def _placement(subject: Subject) -> Iterator[Check]:
    """Check whether tools that write files can reach the policy or the audit."""
    from aegis_otel.adapters.openai_agents.coverage.tool_kinds import writing_tools
    from aegis_otel.runtime.placement import warning, within_reach

    policies = subject.policy_files if subject.runtime is None else subject.runtime.policy.sources
    reached = within_reach(policies, subject.audit_path)
    if not reached:
        detail = "policy and audit are out of reach of tools that write below this directory"
        yield Check("placement", OK, detail)
    elif writers := writing_tools(list(getattr(subject.agent, "tools", None) or ())):
        yield Check("placement", WARNING, warning("`, `".join(writers), reached))
    else:
        detail = (
            f"{' and '.join(reached)} can be changed below this directory: give no agent a tool that writes "
            "files here (docs/threat-model.md)"
        )
        yield Check("placement", OK, detail)


def _approval_key(subject: Subject) -> Iterator[Check]:
    if APPROVAL_KEY.value():
        from aegis_otel.audit.answers.answer_proof import load_approval_key

        load_approval_key(subject.audit_path)
        yield Check("approval key", OK, f"`{APPROVAL_KEY.value()}` can be used")


def _seal_key(subject: Subject) -> Iterator[Check]:  # noqa: ARG001
    if SEAL_KEY.value():
        from aegis_otel.audit.seals.signing import load_signer

        load_signer()
        yield Check("seal key", OK, f"`{SEAL_KEY.value()}` can be used")


def _approvals(subject: Subject) -> Iterator[Check]:
    """Check who answers where a rule says `approve`."""
    from aegis_otel.runtime.approval import NoTerminal, default_handler

    if subject.program is None:
        approvals, handler, by = APPROVALS.value(), default_handler(), "at this terminal"
    else:
        runtime = subject.program.runtime
        if runtime.mode is Mode.MONITOR:
            yield Check("approvals", OK, "nobody is asked in monitor mode")
            return
        assert isinstance(subject.program.asked, Mapping)
        approvals, handler = subject.program.asked["approvals"], runtime.approval
        by = f"by its `{type(handler).__name__}`"
    if approvals == "sdk":
        yield Check("approvals", OK, "asked for by the SDK's interruptions")
    elif approvals == "inbox" or handler.asks_in_inbox:
        yield Check("approvals", OK, "asked for in the inbox")
    elif isinstance(handler, NoTerminal):
        detail = "no terminal here: without an `approval_handler`, calls that need approval are denied"
        yield Check("approvals", WARNING, detail)
    else:
        yield Check("approvals", OK, f"asked for {by}")


def _export(subject: Subject) -> Iterator[Check]:
    from aegis_otel.cli.doctor.signals import check_export

    yield from check_export(subject.health, subject.events, subject.module)


CHECKS: tuple[tuple[str, Callable[[Subject], Iterator[Check]]], ...] = (
    ("versions", _versions),
    ("settings", _settings),
    ("policy", _policy),
    ("candidate", _candidate),
    ("audit", _audit),
    ("state", _state),
    ("inbox", _inbox),
    ("placement", _placement),
    ("approval key", _approval_key),
    ("seal key", _seal_key),
    ("approvals", _approvals),
    ("policy and tools", _policy_and_tools),
    ("export", _export),
)
"""The name of each check, under which an error of it is reported, and the check."""
