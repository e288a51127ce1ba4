"""The public names, pinned: a change here is a change for users."""

from __future__ import annotations

import inspect

import pytest

import aegis_otel
from aegis_otel import testing
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.runtime import approval
from aegis_otel.runtime.audit import AuditLogger


def test_top_level_names() -> None:
    """Inventory 38, and each of them can be had."""
    assert aegis_otel.__all__ == [
        "Action",
        "AegisError",
        "AegisInstrumentor",
        "AegisTracingProcessor",
        "Approval",
        "AuditError",
        "ConfigError",
        "ExecutionPlan",
        "Instrumentation",
        "Policy",
        "PolicyDecision",
        "PolicyError",
        "PolicyWatcher",
        "Result",
        "ResultStatus",
        "RiskLevel",
        "Runtime",
        "RuntimeHooks",
        "Subject",
        "__version__",
        "acting_for",
        "configure_otlp",
        "connect",
        "govern_agent",
        "instrument",
    ]
    assert all(getattr(aegis_otel, name) is not None for name in aegis_otel.__all__)
    assert set(dir(aegis_otel)) == set(aegis_otel.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading does not swallow typos."""
    with pytest.raises(AttributeError, match="has no attribute `Polcy`"):
        _ = aegis_otel.Polcy


@pytest.mark.parametrize(
    ("thing", "parameters"),
    [
        (
            aegis_otel.Runtime,
            "policy executor approval_handler audit_logger session_id hooks approval_timeout mode "
            "on_audit_failure recorder redaction subject candidate state",
        ),
        (aegis_otel.instrument, "policy runtime settings"),
        (aegis_otel.AegisTracingProcessor, "policy runtime settings"),
        (governed_tool, "runtime action_type action_target description"),
        (aegis_otel.PolicyWatcher, "runtime path interval on_reload"),
        (aegis_otel.Action, "type target params description agent schema subject"),
        (aegis_otel.Result, "action status data error started_at completed_at decision_id"),
        (aegis_otel.RuntimeHooks, "on_decision on_approval on_execute"),
        (AuditLogger, "path db_path durability"),
        (aegis_otel.Policy.evaluate, "self action now"),
        (aegis_otel.Policy.from_yaml, "path"),
        (aegis_otel.Policy.from_yaml_files, "paths"),
        (aegis_otel.Policy.from_dict, "data"),
        (aegis_otel.Policy.merge, "self other"),
        (aegis_otel.connect, "path"),
        (testing.governed, "policy answers now mode executor instrument settings"),
        (testing.assert_allowed, "subject tool rule"),
        (testing.assert_asked, "subject tool rule answer"),
        (testing.assert_blocked, "subject tool rule"),
        (testing.assert_not_called, "run tool"),
        (testing.ScriptedApprover, "answers"),
        (testing.Signals, "sampler"),
    ],
)
def test_parameters(thing: object, parameters: str) -> None:
    """The names by which arguments can be passed."""
    assert list(inspect.signature(thing).parameters) == parameters.split()


def test_names_for_tests() -> None:
    assert testing.__all__ == [
        "GovernedRun",
        "ScriptedApprover",
        "Signals",
        "assert_allowed",
        "assert_asked",
        "assert_blocked",
        "assert_not_called",
        "governed",
    ]


def test_extension_points() -> None:
    """Inventory 71, 81, 86: what users subclass, with the methods they implement."""
    assert BaseExecutor.__abstractmethods__ == {"execute"}
    assert approval.ApprovalHandler.__abstractmethods__ == {"request_approval"}
    for kind in ("Auto", "Deny", "CLI", "Callback", "Webhook"):
        assert issubclass(getattr(approval, f"{kind}ApprovalHandler"), approval.ApprovalHandler)


def test_values_as_users_spell_them() -> None:
    """Inventory 3, 4, 37: what the enums are called and worth."""
    assert [(level.name, level.value) for level in aegis_otel.RiskLevel] == [
        ("LOW", 1),
        ("MEDIUM", 2),
        ("HIGH", 3),
        ("CRITICAL", 4),
    ]
    assert [a.value for a in aegis_otel.Approval] == ["auto", "approve", "block"]
    assert [s.value for s in aegis_otel.ResultStatus] == [
        "success",
        "failed",
        "blocked",
        "denied",
        "skipped",
        "would_run",
        "would_ask",
        "would_block",
    ]


def test_action() -> None:
    """Inventory 33: frozen, with defaults, and printed as the tutorial prints it."""
    action = aegis_otel.Action("search", target="web", params={"query": "x"})
    assert str(action) == "Action(search -> web)"
    assert aegis_otel.Action("search").target == "default"
    assert action == aegis_otel.Action("search", "web", {"query": "x"})
    with pytest.raises(AttributeError):
        action.type = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="must be a mapping"):
        aegis_otel.Action("search", params=["x"])  # type: ignore[arg-type]


def test_policy_decision() -> None:
    """Inventory 34, 35: what a decision tells; an action carries its agent's name."""
    policy = aegis_otel.Policy.from_dict(
        {"version": "1", "rules": [{"name": "r", "match": {"agent": "a*"}, "approval": "block"}]}
    )
    decision = policy.evaluate(aegis_otel.Action("t", agent="abe"))
    assert isinstance(decision, aegis_otel.PolicyDecision)
    assert (decision.action.type, decision.risk_level, decision.approval, decision.matched_rule) == (
        "t",
        aegis_otel.RiskLevel.MEDIUM,
        aegis_otel.Approval.BLOCK,
        "r",
    )
    assert decision.is_allowed is False
    assert policy.evaluate(aegis_otel.Action("t", agent="bob")).is_allowed is True
    assert (decision.policy_digest, decision.errors) == (policy.digest, ())
