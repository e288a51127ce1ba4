"""What a program that governs itself has set up, for `aegis doctor`: looked at where its import left it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis_otel.cli.doctor.check import FAILED, OK, WARNING, Check
from aegis_otel.config import APPROVAL_KEY, SEAL_KEY
from aegis_otel.model import Mode

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.instrument import Instrumentation
    from aegis_otel.policy import Policy
    from aegis_otel.runtime.approval import ApprovalHandler
    from aegis_otel.runtime.audit import AuditLogger


def own_governance() -> Instrumentation | None:
    """What the import of a program has put in force in this process: `instrument()`, or the processor."""
    from aegis_otel.adapters.openai_agents.instrument import Instrumentation

    return Instrumentation.current


def looks_at(
    program: Instrumentation, tools: Sequence[object] = ()
) -> Iterator[tuple[str, Callable[[], Check]]]:
    """In place of what the environment's settings would come to."""
    runtime = program.runtime
    asked = program.asked
    assert isinstance(asked, Mapping)
    yield "program", lambda: _settings(runtime.mode.value, asked)
    yield "policy", lambda: judge(runtime.policy, f"`{', '.join(runtime.policy.sources)}` ")
    yield "audit", lambda: check_audit(runtime.audit)
    yield "placement", lambda: check_placement(runtime.policy.sources, runtime.audit.path, tools)
    yield from check_keys(runtime.audit.path)
    if runtime.mode is Mode.MONITOR:
        yield "approvals", lambda: Check("approvals", OK, "nobody is asked in monitor mode")
    else:
        yield "approvals", lambda: check_approvals(asked["approvals"], runtime.approval, own=True)


def _settings(mode: str, asked: Mapping[str, Any]) -> Check:
    named = ", ".join(f"{name} `{asked[name]}`" for name in ("approvals", "on_ungoverned"))
    return Check("program", OK, f"governs itself: mode `{mode}`, {named}")


def judge(policy: Policy, named: str = "") -> Check:
    """What the linter finds in a policy that is valid."""
    from aegis_otel.policy.lint import lint
    from aegis_otel.policy.lint.finding import Severity

    findings = lint(policy)
    if not findings:
        return Check("policy", OK, f"{named}valid, rules: {len(policy.rules)}, {policy.digest}")
    errors = any(finding.severity is Severity.ERROR for finding in findings)
    return Check("policy lint", FAILED if errors else WARNING, "\n".join(map(str, findings)))


def compare(policy: Policy, agent: Any) -> Iterator[Check]:
    """What the linter finds in the policy only because it knows the agent's tools."""
    from aegis_otel.adapters.openai_agents.coverage.tool_inventory import inventory
    from aegis_otel.policy.lint import lint
    from aegis_otel.policy.lint.finding import Severity

    plain = set(lint(policy))
    findings = [finding for finding in lint(policy, inventory(agent)) if finding not in plain]
    if findings:
        errors = any(finding.severity is Severity.ERROR for finding in findings)
        yield Check("policy and tools", FAILED if errors else WARNING, "\n".join(map(str, findings)))


def check_audit(audit: AuditLogger) -> Check:
    """Whether it can be written.

    Raises:
        AuditError: it cannot, or what is sealed cannot be sent where it should go.
    """
    audit.check()
    if why := audit.unsendable:
        return Check("audit", FAILED, why)
    away = f"; what is sealed goes to `{audit.address}`" if audit.address else ""
    return Check("audit", OK, f"`{audit.path}` can be written{away}")


def check_placement(
    policies: Iterable[str | os.PathLike[str]], audit: Path, tools: Iterable[object]
) -> Check:
    """Whether tools that write files can reach the policy or the audit."""
    from aegis_otel.adapters.openai_agents.coverage.tool_kinds import writing_tools
    from aegis_otel.runtime.placement import warning, within_reach

    reached = within_reach(policies, audit)
    if not reached:
        return Check(
            "placement", OK, "policy and audit are out of reach of tools that write below this directory"
        )
    if writers := writing_tools(tools):
        return Check("placement", WARNING, warning("`, `".join(writers), reached))
    return Check(
        "placement",
        OK,
        f"{' and '.join(reached)} can be changed below this directory: give no agent a tool that writes "
        "files here (docs/threat-model.md)",
    )


def check_keys(audit: Path) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Whether the keys that the environment names can be used; nothing where it names none."""
    if APPROVAL_KEY.value():
        yield "approval key", lambda: _check_approval_key(audit)
    if SEAL_KEY.value():
        yield "seal key", _check_seal_key


def _check_approval_key(audit: Path) -> Check:
    from aegis_otel.audit.answers.answer_proof import load_approval_key

    load_approval_key(audit)
    return Check("approval key", OK, f"`{APPROVAL_KEY.value()}` can be used")


def _check_seal_key() -> Check:
    from aegis_otel.audit.seals.signing import load_signer

    load_signer()
    return Check("seal key", OK, f"`{SEAL_KEY.value()}` can be used")


def check_approvals(approvals: str, handler: ApprovalHandler, *, own: bool = False) -> Check:
    """Who answers where a rule says `approve`."""
    from aegis_otel.runtime.approval import NoTerminal

    if approvals == "sdk":
        return Check("approvals", OK, "asked for by the SDK's interruptions")
    if isinstance(handler, NoTerminal):
        return Check(
            "approvals",
            WARNING,
            "no terminal here: without an `approval_handler`, calls that need approval are denied",
        )
    return Check(
        "approvals", OK, f"asked for {f'by its `{type(handler).__name__}`' if own else 'at this terminal'}"
    )
