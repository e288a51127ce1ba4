"""Every row of the call table that signals can tell apart, as whole spans, events and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry._logs import NoOpLoggerProvider

from aegis_otel import semconv
from aegis_otel.audit.record import RecordStatus
from aegis_otel.config import EVALUATION_DURATION, USER_ON_SIGNALS
from aegis_otel.errors import AuditError
from aegis_otel.governance.approvals.inbox import InboxFigures
from aegis_otel.model import Action, Approval, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.telemetry.instruments import InboxReadings
from aegis_otel.telemetry.recorder import CAPTURE_CONTENT, Recorder
from tests.support.telemetry import Signal, Sink, finish, make_call, run_body, sink

ASK: dict[str, Any] = {"approval": Approval.APPROVE, "risk": RiskLevel.HIGH}
ASKED_OF = {
    "gen_ai.tool.name": "search",
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.agent.name": "Clerk",
    "gen_ai.conversation.id": "conv_1",
}


@pytest.fixture
def seen() -> Iterator[Sink]:
    with sink() as made:
        yield made


@pytest.fixture
def recorder(seen: Sink) -> Recorder:
    return seen.recorder()


def on_span(risk: str, **more: Any) -> Signal:
    """The attributes of `govern_tool`."""
    return {
        "gen_ai.operation.name": "govern_tool",
        **ASKED_OF,
        "aegis.decision.id": "d-1",
        "aegis.risk.level": risk,
        "aegis.policy.rule.name": "a_rule",
        **more,
    }


def on_event(approval: str, risk: str, outcome: str, **more: Any) -> Signal:
    """The attributes of `aegis.tool.decision`."""
    return {
        **ASKED_OF,
        "aegis.decision.id": "d-1",
        "aegis.policy.approval": approval,
        "aegis.risk.level": risk,
        "aegis.policy.rule.name": "a_rule",
        "aegis.policy.digest": "sha256:p",
        "aegis.enforcement.mode": "enforce",
        "aegis.decision.outcome": outcome,
        "aegis.action.arguments.digest": "hmac-sha256:a",
        **more,
    }


EXECUTE = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "search",
    "gen_ai.tool.type": "function",
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.agent.name": "Clerk",
}


def test_an_allowed_call(seen: Sink, recorder: Recorder) -> None:
    """Two spans, one event, one count, one duration, and nothing else."""
    call = make_call()
    recorder.opened(call)
    run_body(recorder, call, Outcome.ALLOWED)
    assert seen.spans() == [
        {
            "name": "govern_tool search",
            "parent": None,
            "kind": "INTERNAL",
            "status": ("UNSET", None),
            "attributes": on_span(
                "low", **{"aegis.decision.outcome": "allowed", "aegis.result.status": "success"}
            ),
            "events": [],
        },
        {
            "name": "execute_tool search",
            "parent": "govern_tool search",
            "kind": "INTERNAL",
            "status": ("UNSET", None),
            "attributes": EXECUTE,
            "events": [],
        },
    ]
    assert seen.events() == [
        {
            "name": "aegis.tool.decision",
            "severity": (9, "INFO"),
            "attributes": on_event("auto", "low", "allowed"),
        }
    ]
    assert seen.decisions() == {("allowed", "enforce", "auto", "a_rule", "low"): 1}
    assert seen.points("gen_ai.execute_tool.duration") == {("Clerk", "search", "function"): 1}


def test_a_decision_is_on_the_span_where_nothing_takes_its_event(seen: Sink) -> None:
    """Without a LoggerProvider, a trace viewer is where the decision can be seen with its time."""
    recorder = Recorder(
        tracer_provider=seen.tracer_provider,
        meter_provider=seen.meter_provider,
        logger_provider=NoOpLoggerProvider(),
    )
    call = make_call(approval=Approval.BLOCK, risk=RiskLevel.CRITICAL)
    recorder.opened(call)
    finish(recorder, call, Outcome.BLOCKED, RecordStatus.BLOCKED)
    mirrored = {"aegis.decision.outcome": "blocked", "aegis.risk.level": "critical"}
    assert seen.span("govern_tool search")["events"] == [("aegis.tool.decision", mirrored)]
    assert tuple(mirrored) == semconv.MIRRORED
    assert seen.decisions() == {("blocked", "enforce", "block", "a_rule", "critical"): 1}


def test_a_failing_body(seen: Sink, recorder: Recorder) -> None:
    """Both spans are errors with the exception's class; its message is nowhere."""
    call = make_call()
    recorder.opened(call)
    run_body(recorder, call, Outcome.ALLOWED, ValueError("password=hunter2"))
    govern, execute = seen.spans()
    assert (govern["status"], execute["status"]) == (("ERROR", None), ("ERROR", None))
    assert govern["attributes"] == on_span(
        "low",
        **{
            "aegis.decision.outcome": "allowed",
            "aegis.result.status": "failed",
            "error.type": "ValueError",
        },
    )
    assert execute["attributes"] == {**EXECUTE, "error.type": "ValueError"}
    assert execute["events"] == []
    assert "error.type" not in seen.event("aegis.tool.decision")["attributes"]
    assert seen.points("gen_ai.execute_tool.duration") == {("ValueError", "Clerk", "search", "function"): 1}


def ask(recorder: Recorder, seen: Sink, answer: str | None) -> Any:
    """A call under an `approve` rule, up to the human's answer."""
    call = make_call(**ASK)
    call.channel = "cli"
    recorder.opened(call)
    with recorder.awaiting(call):
        assert seen.points("aegis.approval.pending") == {(): 1}
        call.record.human_decision = answer
    assert seen.points("aegis.approval.pending") == {(): 0}
    return call


def asked_event(name: str, **more: Any) -> Signal:
    return {
        "name": name,
        "severity": (13, "WARN"),
        "attributes": {
            **ASKED_OF,
            "aegis.decision.id": "d-1",
            "aegis.risk.level": "high",
            "aegis.policy.rule.name": "a_rule",
            "aegis.approval.channel": "cli",
            **more,
        },
    }


def test_an_approved_call(seen: Sink, recorder: Recorder) -> None:
    """The human's time is a span and two events of its own, before the decision."""
    call = ask(recorder, seen, "approved")
    run_body(recorder, call, Outcome.APPROVED)
    waited = {"aegis.approval.outcome": "approved", "aegis.approval.wait_time": "seconds"}
    assert [span["name"] for span in seen.spans()] == [
        "govern_tool search",
        "await_approval search",
        "execute_tool search",
    ]
    assert seen.span("await_approval search") == {
        "name": "await_approval search",
        "parent": "govern_tool search",
        "kind": "INTERNAL",
        "status": ("UNSET", None),
        "attributes": {
            "gen_ai.operation.name": "await_approval",
            "gen_ai.tool.name": "search",
            "aegis.decision.id": "d-1",
            "aegis.approval.channel": "cli",
            **waited,
        },
        "events": [],
    }
    assert seen.span("govern_tool search")["attributes"] == on_span(
        "high", **{"aegis.decision.outcome": "approved", "aegis.result.status": "success"}
    )
    assert seen.events() == [
        asked_event("aegis.approval.requested"),
        asked_event("aegis.approval.resolved", **waited),
        {
            "name": "aegis.tool.decision",
            "severity": (13, "WARN"),
            "attributes": on_event("approve", "high", "approved"),
        },
    ]
    assert seen.points("aegis.approval.duration") == {("cli", "approved"): 1}
    assert seen.decisions() == {("approved", "enforce", "approve", "a_rule", "high"): 1}


@pytest.mark.parametrize(
    "ending",
    [
        ("denied", "denied", Outcome.DENIED, "Because of `a_rule`"),
        ("expired", "expired", Outcome.EXPIRED, "Because of `a_rule`"),
        (None, "error", Outcome.DENIED, "approval_error"),
    ],
    ids=["denied", "expired", "approval error"],
)
def test_a_call_no_human_let_through(
    ending: tuple[str | None, str, Outcome, str], seen: Sink, recorder: Recorder
) -> None:
    """No body, no error: the span stays Unset, and says why."""
    answer, resolved, outcome, reason = ending
    call = ask(recorder, seen, answer)
    call.record.reason = reason
    finish(recorder, call, outcome, RecordStatus.DENIED)
    govern, waiting = seen.spans()
    assert waiting["attributes"]["aegis.approval.outcome"] == resolved
    assert govern["status"] == ("UNSET", None)
    assert govern["attributes"] == on_span(
        "high",
        **{
            "aegis.decision.outcome": outcome.value,
            "aegis.decision.reason": reason,
            "aegis.result.status": "denied",
        },
    )
    decision = seen.event("aegis.tool.decision")
    assert decision["attributes"] == on_event(
        "approve", "high", outcome.value, **{"aegis.decision.reason": reason}
    )
    assert seen.points("aegis.approval.duration") == {("cli", resolved): 1}
    assert seen.decisions() == {(outcome.value, "enforce", "approve", "a_rule", "high"): 1}
    assert seen.points("gen_ai.execute_tool.duration") == {}


def test_a_cancelled_question_is_no_answer(seen: Sink, recorder: Recorder) -> None:
    """Whatever an earlier question came to, one that is broken off resolves as `error`."""
    call = make_call(**ASK, human_decision="approved")
    recorder.opened(call)
    with pytest.raises(asyncio.CancelledError), recorder.awaiting(call):
        raise asyncio.CancelledError
    recorder.closed(call)
    assert seen.event("aegis.approval.resolved")["attributes"]["aegis.approval.outcome"] == "error"
    assert seen.points("aegis.approval.pending") == {(): 0}


def test_a_blocked_call(seen: Sink, recorder: Recorder) -> None:
    """The policy at work: the severity of its risk, but no error."""
    call = make_call(approval=Approval.BLOCK, risk=RiskLevel.CRITICAL)
    recorder.opened(call)
    finish(recorder, call, Outcome.BLOCKED, RecordStatus.BLOCKED)
    assert seen.spans() == [
        {
            "name": "govern_tool search",
            "parent": None,
            "kind": "INTERNAL",
            "status": ("UNSET", None),
            "attributes": on_span(
                "critical",
                **{
                    "aegis.decision.outcome": "blocked",
                    "aegis.decision.reason": "Because of `a_rule`",
                    "aegis.result.status": "blocked",
                },
            ),
            "events": [],
        }
    ]
    assert seen.events() == [
        {
            "name": "aegis.tool.decision",
            "severity": (17, "ERROR"),
            "attributes": on_event(
                "block", "critical", "blocked", **{"aegis.decision.reason": "Because of `a_rule`"}
            ),
        }
    ]
    assert seen.decisions() == {("blocked", "enforce", "block", "a_rule", "critical"): 1}


def test_approved_then_blocked_by_a_new_policy(seen: Sink, recorder: Recorder) -> None:
    """Span, event and count carry the verdict that ended it, not the one that asked."""
    call = ask(recorder, seen, "approved")
    now = Verdict(Approval.BLOCK, RiskLevel.CRITICAL, "stop_all", policy_digest="sha256:new")
    call.decision = PolicyDecision(Action("search"), now)
    record = call.record
    record.approval, record.risk_level, record.matched_rule = "block", "CRITICAL", "stop_all"
    record.policy_digest, record.reason = "sha256:new", None
    finish(recorder, call, Outcome.BLOCKED, RecordStatus.BLOCKED)
    span = seen.span("govern_tool search")["attributes"]
    event = seen.event("aegis.tool.decision")
    for attributes in (span, event["attributes"]):
        assert attributes["aegis.policy.rule.name"] == "stop_all"
        assert attributes["aegis.risk.level"] == "critical"
        assert attributes["aegis.decision.outcome"] == "blocked"
    assert event["attributes"]["aegis.policy.approval"] == "block"
    assert event["severity"] == (17, "ERROR")
    assert event["attributes"]["aegis.policy.digest"] == "sha256:new"
    assert seen.event("aegis.approval.requested")["attributes"]["aegis.policy.rule.name"] == "a_rule"
    assert seen.decisions() == {("blocked", "enforce", "block", "stop_all", "critical"): 1}


def test_governance_that_fails(seen: Sink, recorder: Recorder) -> None:
    """The one refusal that is an error, on the span and on the event."""
    call = make_call()
    recorder.opened(call)
    recorder.write_failed(call, AuditError("the disk of user admin is full"))
    call.error_type = "audit_unavailable"
    call.record.reason = "audit_unavailable"
    finish(recorder, call, Outcome.ERROR, RecordStatus.BLOCKED)
    why = {"aegis.decision.reason": "audit_unavailable", "error.type": "audit_unavailable"}
    span = seen.span("govern_tool search")
    assert span["status"] == ("ERROR", None)
    assert span["attributes"] == on_span(
        "low", **why, **{"aegis.decision.outcome": "error", "aegis.result.status": "blocked"}
    )
    assert seen.events() == [
        {
            "name": "aegis.audit.write_failed",
            "severity": (17, "ERROR"),
            "attributes": {
                "aegis.decision.id": "d-1",
                "gen_ai.tool.name": "search",
                "error.type": "AuditError",
            },
        },
        {
            "name": "aegis.tool.decision",
            "severity": (9, "INFO"),
            "attributes": on_event("auto", "low", "error", **why),
        },
    ]
    assert seen.points("aegis.audit.errors") == {(): 1}
    assert seen.decisions() == {("error", "enforce", "auto", "a_rule", "low"): 1}


def test_a_permitted_call_that_never_began(seen: Sink, recorder: Recorder) -> None:
    """Another guardrail rejected it: skipped, Unset, no `execute_tool`."""
    call = make_call()
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)
    (span,) = seen.spans()
    assert span["status"] == ("UNSET", None)
    assert span["attributes"]["aegis.result.status"] == "skipped"


def test_a_call_cancelled_in_its_body(seen: Sink, recorder: Recorder) -> None:
    """To be cancelled is no failure of the tool: both spans stay Unset."""
    call = make_call()
    call.outcome = Outcome.ALLOWED
    recorder.opened(call)
    recorder.decided(call)
    with pytest.raises(asyncio.CancelledError), recorder.executing(call):
        raise asyncio.CancelledError
    call.status = RecordStatus.CANCELLED
    recorder.closed(call)
    assert call.error_type is None
    assert [span["status"] for span in seen.spans()] == [("UNSET", None)] * 2
    assert all("error.type" not in span["attributes"] for span in seen.spans())


def test_outside_the_sdk_only_what_is_known_is_said(seen: Sink, recorder: Recorder) -> None:
    """An action of a plan has no call id, agent or tool type; its target is shown."""
    call = make_call(
        tool="db.read",
        tool_name=None,
        tool_call_id=None,
        agent_name=None,
        conversation_id=None,
        action_target="orders",
    )
    recorder.opened(call)
    run_body(recorder, call, Outcome.ALLOWED)
    govern, execute = seen.spans()
    assert execute["attributes"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "db.read",
    }
    assert govern["attributes"]["aegis.action.target"] == "orders"
    assert not {"gen_ai.tool.call.id", "gen_ai.agent.name", "aegis.action.type"} & set(govern["attributes"])
    assert seen.points("gen_ai.execute_tool.duration") == {("db.read",): 1}


@pytest.mark.parametrize(
    ("risk", "severity"),
    [("LOW", (9, "INFO")), ("MEDIUM", (10, "INFO2")), ("HIGH", (13, "WARN")), ("CRITICAL", (17, "ERROR"))],
)
def test_severity_follows_the_risk(
    risk: str, severity: tuple[int, str], seen: Sink, recorder: Recorder
) -> None:
    """What alerts on logs go by."""
    call = make_call(risk=RiskLevel[risk])
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)
    assert seen.event("aegis.tool.decision")["severity"] == severity


def test_what_is_emitted_is_what_is_documented(seen: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all endings of a call, a signal carries the attributes of its table in semconv, and no other."""
    monkeypatch.setenv(CAPTURE_CONTENT, "SPAN_ONLY")
    monkeypatch.setenv(EVALUATION_DURATION.env, "on")
    recorder = seen.recorder()
    monkeypatch.setenv(USER_ON_SIGNALS.env, "id")
    by_id = seen.recorder()
    for recorder_of_user in (recorder, by_id):
        call = make_call(**ASK, action_type="db.read", action_target="orders", mode="monitor")
        call.channel, call.record.user_hash = "cli", "hmac-sha256:u"
        call.record.user_id, call.record.tenant_id = "alice", "acme"
        call.record.candidate_approval, call.record.candidate_rule = "block", "new_rule"
        recorder_of_user.opened(call)
        with recorder_of_user.awaiting(call):
            call.record.human_decision = "approved"
        recorder_of_user.grant_used(call, "d")
        run_body(recorder_of_user, call, Outcome.APPROVED, ValueError())
    failed = make_call()
    recorder.opened(failed)
    recorder.write_failed(failed, OSError())
    recorder.policy_loaded(NoRules())
    recorder.policy_load_failed((), ValueError())
    recorder.candidate_failed()
    recorder.limit_used("r", 0.5)
    recorder.state_failed()
    recorder.watch_inbox(inbox := AnInbox())
    recorder.answer_given("i", "d", approved=True)
    recorder.answer_refused("i", "d", "it came too late")
    recorder.question_expired("i", "d")
    recorder.grant_given("i", "d")
    recorder.grant_revoked("i", "d")
    recorder.audit_sealed(ASeal())
    failed.error_type = "audit_unavailable"
    finish(recorder, failed, Outcome.ERROR, RecordStatus.BLOCKED)

    emitted: dict[str, set[str]] = {}
    for span in seen.spans():
        emitted.setdefault(span["name"].replace("search", "{tool}"), set()).update(span["attributes"])
        assert span["events"] == []
    for event in seen.events():
        emitted.setdefault(event["name"], set()).update(event["attributes"])
    emitted[semconv.EVENT_DECISION].add(semconv.DECISION_RESENT)  # see test_resend.py
    emitted[semconv.EVENT_PROBE] = {semconv.DECISION_ID}  # see test_doctor.py
    # The spans of a run are those of test_tracing_bridge.
    of_calls = [span for span in semconv.SPANS if span.name.endswith("{tool}")]
    assert emitted == {each.name: set(each.attributes) for each in (*of_calls, *semconv.EVENTS)}
    of_runs = semconv.METRIC_INVOKE_AGENT_DURATION
    for metric in (each for each in semconv.METRICS if each.name != of_runs):
        assert seen.keys(metric.name) == set(metric.attributes), metric.name
        assert seen.unit(metric.name) == metric.unit
    assert inbox.asked >= 5, "each metric of the inbox asks for what was read"


class ASeal:
    audit, seal, chain, previous, rows, unknown = "a", 1, "b", "c", 2, 1


class AnInbox:
    asked = 0

    def latest(self) -> InboxReadings:
        self.asked += 1
        return InboxReadings(InboxFigures("i", 2, 30.0, 1, {}, 0, 0), {"used": 3, "expired": 1}, 4)


class NoRules:
    digest = "sha256:p"
    sources = ("policy.yaml",)
    rules = ()
    default = Verdict(Approval.AUTO, RiskLevel.LOW, "<default>")

    @property
    def compiled(self) -> NoRules:
        return self
