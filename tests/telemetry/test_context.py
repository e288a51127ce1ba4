"""Where spans hang, what they share a trace with, and what happens without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from aegis_otel import semconv
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance.call import Call
from aegis_otel.model import Approval, Outcome, RiskLevel
from aegis_otel.telemetry.recorder import CAPTURE_CONTENT, Recorder
from tests.support.telemetry import Sink, finish, make_call, run_body, sink


@pytest.fixture
def seen() -> Iterator[Sink]:
    with sink() as made:
        yield made


def hex_ids(span: trace.SpanContext) -> tuple[str, str]:
    return f"{span.trace_id:032x}", f"{span.span_id:016x}"


def parents(seen: Sink) -> dict[str, str | None]:
    return {span["name"]: span["parent"] for span in seen.spans()}


def test_one_id_in_record_span_and_event(seen: Sink) -> None:
    """The record has the ids of `govern_tool`, and the event is correlated with it."""
    recorder, call = seen.recorder(), make_call()
    recorder.opened(call)
    run_body(recorder, call, Outcome.ALLOWED)
    (govern, _) = seen.raw_spans()
    (event,) = seen.raw_logs()
    assert (call.record.trace_id, call.record.span_id) == hex_ids(govern.context)
    assert (event.trace_id, event.span_id) == (govern.context.trace_id, govern.context.span_id)
    assert event.attributes["aegis.decision.id"] == govern.attributes["aegis.decision.id"] == "d-1"


def test_govern_tool_starts_when_the_call_reached_us(seen: Sink) -> None:
    """Back-dated: what governance took before the span could be made is in it; the event is later."""
    recorder, call = seen.recorder(), make_call()
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)
    (span,) = seen.raw_spans()
    (event,) = seen.raw_logs()
    assert span.start_time == call.started_ns
    assert call.started_ns < event.timestamp == event.observed_timestamp <= span.end_time


def test_the_users_spans_nest_and_the_context_is_given_back(seen: Sink) -> None:
    """Caller > govern_tool > execute_tool > the body's own span; afterwards the caller's span is current."""
    recorder, call = seen.recorder(), make_call()
    with seen.tracer.start_as_current_span("agent") as agent:
        before = get_current()
        recorder.opened(call)
        assert trace.get_current_span() is agent
        recorder.decided(call)
        with recorder.executing(call), seen.tracer.start_as_current_span("query"):
            pass
        assert get_current() == before
        recorder.closed(call)
    assert parents(seen) == {
        "agent": None,
        "govern_tool search": "agent",
        "execute_tool search": "govern_tool search",
        "query": "execute_tool search",
    }


def test_what_a_channel_does_is_seen_under_the_question(seen: Sink) -> None:
    """`await_approval` is current while a human is asked, and not a moment longer."""
    recorder, call = seen.recorder(), make_call(approval=Approval.APPROVE)
    recorder.opened(call)
    before = get_current()
    with recorder.awaiting(call), seen.tracer.start_as_current_span("POST webhook"):
        call.record.human_decision = "approved"
    assert get_current() == before
    run_body(recorder, call, Outcome.APPROVED)
    assert parents(seen)["POST webhook"] == "await_approval search"
    assert parents(seen)["execute_tool search"] == "govern_tool search"


async def body_of(seen: Sink, recorder: Recorder, n: int, *, threaded: bool) -> None:
    call = make_call(tool=f"tool{n}", decision_id=f"d-{n}")
    call.outcome = Outcome.ALLOWED
    recorder.opened(call)
    recorder.decided(call)

    def work() -> None:
        with seen.tracer.start_as_current_span(f"work{n}"):
            pass

    await asyncio.sleep(0)
    with recorder.executing(call):
        await asyncio.sleep(0.001 * (n % 3))
        if threaded:
            await asyncio.to_thread(work)
        else:
            work()
        await asyncio.sleep(0)
    call.status = RecordStatus.SUCCESS
    recorder.closed(call)


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "in a thread"])
async def test_parallel_calls_do_not_mix(threaded: bool, seen: Sink) -> None:
    """Twenty at once: every span has its own call as parent, and nothing stays current."""
    recorder, before = seen.recorder(), get_current()
    with seen.tracer.start_as_current_span("run"):
        await asyncio.gather(*(body_of(seen, recorder, n, threaded=threaded) for n in range(20)))
    assert get_current() == before
    assert parents(seen) == {
        "run": None,
        **{f"govern_tool tool{n}": "run" for n in range(20)},
        **{f"execute_tool tool{n}": f"govern_tool tool{n}" for n in range(20)},
        **{f"work{n}": f"execute_tool tool{n}" for n in range(20)},
    }
    assert len({event.span_id for event in seen.raw_logs()}) == 20
    assert sum(seen.decisions().values()) == 20


def test_threads_count_every_call(seen: Sink) -> None:
    """The counter loses no increment between threads."""
    recorder = seen.recorder()

    def work() -> None:
        for _ in range(200):
            call = make_call()
            recorder.opened(call)
            run_body(recorder, call, Outcome.ALLOWED)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.decisions() == {("allowed", "enforce", "auto", "a_rule", "low"): 800}


@pytest.mark.parametrize(
    "mark",
    [
        {"gen_ai.operation.name": "execute_tool"},
        {"openinference.span.kind": "TOOL"},
        {"traceloop.span.kind": "tool"},
    ],
    ids=lambda mark: next(iter(mark)),
)
def test_beside_another_instrumentation(mark: dict[str, str], seen: Sink) -> None:
    """Its tool span is the body's: no second one, no duration; the body runs under `govern_tool`."""
    recorder, call = seen.recorder(), make_call()
    with seen.tracer.start_as_current_span("theirs", attributes=mark):
        recorder.opened(call)
        call.outcome, call.status = Outcome.ALLOWED, RecordStatus.OPEN
        recorder.decided(call)
        with pytest.raises(KeyError), recorder.executing(call), seen.tracer.start_as_current_span("query"):
            raise KeyError("x")
        call.status = RecordStatus.FAILED
        recorder.closed(call)
    assert parents(seen) == {"theirs": None, "govern_tool search": "theirs", "query": "govern_tool search"}
    assert seen.span("govern_tool search")["attributes"]["error.type"] == "KeyError"
    assert seen.points("gen_ai.execute_tool.duration") == {}


def test_a_governed_tool_in_a_governed_tool(seen: Sink) -> None:
    """Our own `execute_tool` around a call is not taken for another's."""
    recorder, outer, inner = seen.recorder(), make_call(tool="outer"), make_call(tool="inner")
    recorder.opened(outer)
    with recorder.executing(outer):
        recorder.opened(inner)
        run_body(recorder, inner, Outcome.ALLOWED)
    recorder.closed(outer)
    assert parents(seen) == {
        "govern_tool outer": None,
        "execute_tool outer": "govern_tool outer",
        "govern_tool inner": "execute_tool outer",
        "execute_tool inner": "govern_tool inner",
    }


class KeepCritical(Sampler):
    """Drops everything that is not critical when it starts."""

    def should_sample(  # noqa: PLR0917
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        critical = (attributes or {}).get("aegis.risk.level") == "critical"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if critical else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "KeepCritical"


def test_a_sampler_sees_the_risk() -> None:
    """The decision is on the span when it starts."""
    with sink(KeepCritical()) as seen:
        recorder = seen.recorder()
        for risk in RiskLevel:
            call = make_call(tool=risk.name, risk=risk)
            recorder.opened(call)
            finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)
        assert [span["name"] for span in seen.spans()] == ["govern_tool CRITICAL"]
        assert len(seen.events()) == 4


def test_an_unsampled_call_has_its_event_and_its_count() -> None:
    """No span leaves, but the event does, with the trace it belongs to; metrics are whole."""
    with sink(ALWAYS_OFF) as seen:
        recorder, call = seen.recorder(), make_call()
        recorder.opened(call)
        run_body(recorder, call, Outcome.ALLOWED)
        (event,) = seen.raw_logs()
        assert seen.spans() == []
        assert (f"{event.trace_id:032x}", f"{event.span_id:016x}") == (
            call.record.trace_id,
            call.record.span_id,
        )
        assert event.trace_id != 0
        assert event.trace_flags & 1 == 0
        assert seen.decisions() == {("allowed", "enforce", "auto", "a_rule", "low"): 1}
        assert seen.points("gen_ai.execute_tool.duration") == {("Clerk", "search", "function"): 1}


def test_an_unsampled_parent_passes_on_its_trace() -> None:
    """A caller that was sampled out keeps its trace id on our record and event, and in the body."""
    remote = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    with sink(ParentBased(ALWAYS_OFF)) as seen:
        token = attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
        try:
            recorder, call = seen.recorder(), make_call()
            recorder.opened(call)
            with recorder.executing(call):
                inside = trace.get_current_span().get_span_context()
            finish(recorder, call, Outcome.ALLOWED, RecordStatus.SUCCESS)
        finally:
            detach(token)
        assert call.record.trace_id == f"{0xABC:032x}"
        assert call.record.span_id != f"{0xDEF:016x}"
        assert (inside.trace_id, inside.trace_flags & 1) == (0xABC, 0)
        assert [log.trace_id for log in seen.raw_logs()] == [0xABC]


def silent_call() -> Call:
    """A call through every method of a recorder that has no SDK behind it."""
    recorder, call = Recorder(), make_call(approval=Approval.APPROVE, risk=RiskLevel.CRITICAL)
    recorder.opened(call)
    with recorder.awaiting(call):
        call.record.human_decision = "approved"
    recorder.write_failed(call, OSError("x"))
    recorder.hook_failed()
    recorder.policy_load_failed(("policy.yaml",), ValueError("x"))
    run_body(recorder, call, Outcome.APPROVED)
    return call


def test_without_a_provider_nothing_happens() -> None:
    """No ids, no exception, the context untouched, and no thread for a flush."""
    before, threads = get_current(), threading.active_count()
    call = silent_call()
    assert (call.record.trace_id, call.record.span_id) == (None, None)
    assert get_current() == before
    assert threading.active_count() == threads


def test_an_sdk_that_comes_before_the_decision_is_final_has_it(
    seen: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that began without a provider made no span; its one event goes to the provider there is now.

    A hook may have installed it, or somebody while a human was asked.
    """
    recorder, call = Recorder(), make_call(approval=Approval.APPROVE)
    recorder.opened(call)
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", seen.logger_provider)
    finish(recorder, call, Outcome.APPROVED, RecordStatus.SKIPPED)
    assert [event["name"] for event in seen.events()] == [semconv.EVENT_DECISION]


def test_without_an_sdk_a_callers_trace_is_kept() -> None:
    """A propagated trace id is worth having on the row; the caller's span id is not ours to claim."""
    remote = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    token = attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
    try:
        call = silent_call()
    finally:
        detach(token)
    assert (call.record.trace_id, call.record.span_id) == (f"{0xABC:032x}", None)


def test_closing_twice_ends_once(seen: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """Idempotent, and the SDK has nothing to warn of."""
    recorder, call = seen.recorder(), make_call()
    recorder.opened(call)
    finish(recorder, call, Outcome.ALLOWED, RecordStatus.SKIPPED)
    recorder.closed(call)
    assert len(seen.spans()) == 1
    assert caplog.records == []


def test_a_call_whose_opening_failed_still_counts(seen: Sink) -> None:
    """Whatever kept the span from being made, the event, the count and the body are there."""
    recorder, call = seen.recorder(), make_call()
    run_body(recorder, call, Outcome.ALLOWED)
    assert [span["name"] for span in seen.spans()] == ["execute_tool search"]
    assert [event["name"] for event in seen.events()] == ["aegis.tool.decision"]
    assert sum(seen.decisions().values()) == 1


@pytest.mark.parametrize(
    ("setting", "captured"),
    [
        ("", False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
    ],
)
def test_arguments_are_on_no_signal_unless_asked_for(
    setting: str, captured: bool, seen: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then only the record's, which are redacted, on `execute_tool`."""
    monkeypatch.setenv(CAPTURE_CONTENT, setting)
    recorder, call = seen.recorder(), make_call()
    recorder.opened(call)
    run_body(recorder, call, Outcome.ALLOWED)
    attributes = seen.span("execute_tool search")["attributes"]
    assert attributes.get("gen_ai.tool.call.arguments") == ('{"query": "x"}' if captured else None)
    elsewhere = [seen.span("govern_tool search"), *seen.events()]
    assert '"query"' not in repr(elsewhere)


def test_an_unknown_capture_mode_is_complained_of_once(
    seen: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It captures nothing: a typo must not publish arguments."""
    monkeypatch.setenv(CAPTURE_CONTENT, "SPANS-ONLY")
    for _ in range(2):
        recorder, call = seen.recorder(), make_call()
        recorder.opened(call)
        run_body(recorder, call, Outcome.ALLOWED)
    assert "gen_ai.tool.call.arguments" not in seen.raw_spans()[-1].attributes
    (complaint,) = caplog.messages
    assert "`SPANS-ONLY`" in complaint
    assert "NO_CONTENT, EVENT_ONLY, SPAN_ONLY, SPAN_AND_EVENT" in complaint


def test_text_that_is_no_utf8_reaches_the_exporter_encoded(seen: Sink) -> None:
    """A lone surrogate in one call must not cost the batch its other spans."""
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    odd = "caf\udce9"
    recorder = seen.recorder()
    call = make_call(
        tool=odd, tool_call_id=odd, agent_name=odd, conversation_id=odd, action_target=odd, reason=odd
    )
    recorder.opened(call)
    finish(recorder, call, Outcome.BLOCKED, RecordStatus.BLOCKED)
    assert r"caf\udce9" in encode_spans(seen.raw_spans()).SerializeToString().decode("utf-8", "replace")
    assert encode_logs(seen.signals.logs()).SerializeToString()
