"""K1: what the body gets in the end is what was judged, whoever stands between."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import pytest
import wrapt
from agents import Agent, FunctionTool, RunConfig, Runner, ToolExecutionConfig, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

import aegis_otel
from aegis_otel import Instrumentation, Policy
from aegis_otel.adapters.openai_agents import governance_guardrail, governed_tool
from aegis_otel.runtime.audit import AuditLogger
from tests.cases.test_k1_judged_arguments import (
    BLOCKED,
    before,
    call,
    choice,
    governed,
    named,
    policy,
    stripped,
    url,
)
from tests.support.kit import Bench, make_bench

HANDED = "_function_tool_arguments"
Start = Callable[..., Instrumentation]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begins governance of everything, and ends it."""

    def begin(rules: dict[str, Any], **options: Any) -> Instrumentation:
        return aegis_otel.instrument(Policy.from_dict(rules), audit_dir=tmp_path / "a", **options)

    yield begin
    if Instrumentation.current is not None:
        Instrumentation.current.uninstrument()


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return list(reversed(AuditLogger(tmp_path / "a").get_log()))


def wrapped(body: Any, *, early: bool, times: int = 1) -> FunctionTool:
    """Return a tool whose invoker is the user's, around the SDK's, read before or after `instrument`."""
    inner = function_tool(strict_mode=False)(body)
    read = inner.on_invoke_tool

    async def wrapper(context: Any, arguments: str) -> Any:
        for _ in range(times):
            answer = await (read if early else inner.on_invoke_tool)(context, arguments)
        return answer

    return dataclasses.replace(inner, on_invoke_tool=wrapper)


@pytest.mark.parametrize("early", [True, False], ids=["read before", "read after"])
@pytest.mark.parametrize(
    "hidden",
    [
        (before, "gt", "value.total", 100, {"value": {"packed": 5000}}),
        (stripped, "eq", "value.text", "root", {"value": {"text": " ROOT\n"}}),
        (url, "matches", "value", r"^https?://evil\.example/", {"value": "http://ev%69l.example/x"}),
    ],
    ids=named,
)
def test_k1_a_wrapper_around_the_sdks_invoker_hides_nothing(
    early: bool, hidden: tuple[Any, ...], start: Start, tmp_path: Path
) -> None:
    body, operator, path, expected, sent = hidden
    tool = wrapped(body, early=early)
    start(policy(operator, path, expected))
    assert call(tool, sent).startswith(BLOCKED)
    assert "blocked" in [row["result_status"] for row in rows(tmp_path)]


def test_k1_a_wrapper_that_is_run_hides_nothing(start: Start) -> None:
    """The same by the SDK's own run, past the guardrail."""
    tool = wrapped(before, early=True)
    start(policy("gt", "value.total", 100))
    model = ScriptedModel(
        [[function_call("before", {"value": {"packed": 5000}}, call_id="c")], [assistant_message("done")]]
    )
    agent = Agent(name="A", tools=[tool])
    ran = asyncio.run(Runner.run(agent, "go", run_config=RunConfig(model=model, tracing_disabled=True)))
    (output,) = [item.output for item in ran.new_items if item.type == "tool_call_output_item"]
    assert output.startswith(BLOCKED)


@pytest.mark.parametrize("early", [True, False], ids=["read before", "read after"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("value.packed", [("monitor", "block", "limit")]),
        ("value.total", [("enforce", "auto", "<default>"), ("monitor", "block", "limit")]),
    ],
    ids=["as sent", "as validated"],
)
def test_k1_what_a_monitored_rule_says_behind_a_wrapper_is_recorded_once(
    early: bool, path: str, expected: list[tuple[str, str, str]], start: Start, tmp_path: Path
) -> None:
    """In a row of its own only where the wrapper hid what it says, as with a rule that is enforced."""
    tool = wrapped(before, early=early)
    rules = policy("gt", path, 100)
    rules["rules"][0]["mode"] = "monitor"
    start(rules)
    assert call(tool, {"value": {"packed": 5000}}).startswith("ran")
    assert [(row["mode"], row["approval"], row["matched_rule"]) for row in rows(tmp_path)] == expected


@pytest.mark.parametrize("early", [True, False], ids=["read before", "read after"])
def test_k1_a_wrapper_around_what_is_allowed_has_one_row_holds(
    early: bool, start: Start, tmp_path: Path
) -> None:
    tool = wrapped(choice, early=early)
    start(policy("gt", "value.total", 100))
    assert call(tool, {"value": {"total": 5}}).startswith("ran")
    assert [row["result_status"] for row in rows(tmp_path)] == ["success"]


class Fickle(BaseModel):
    total: float = 0

    @field_validator("total", mode="before")
    @classmethod
    def answer(cls, value: Any) -> Any:
        given = answers.pop(0) if answers else 5000
        if isinstance(given, Exception):
            raise given
        return given


answers: list[Any] = []
got: list[Fickle] = []


def fickle(value: Fickle) -> str:
    got.append(value)
    return "ran"


def said(_context: Any, error: Exception) -> str:
    return str(error)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    answers.clear()
    got.clear()


@pytest.mark.parametrize("early", [True, False], ids=["read before", "read after"])
def test_k1_a_validator_that_answers_otherwise_each_time_is_judged_each_time(
    early: bool, start: Start
) -> None:
    """A wrapper that calls twice: what is judged is what the body gets, and the second is blocked."""
    answers[:] = [1, 5000]
    tool = wrapped(fickle, early=early, times=2)
    start(policy("gt", "value.total", 100))
    assert call(tool, {"value": {"total": 1}}) == BLOCKED
    assert [each.total for each in got] == [1]


def test_k1_a_validator_that_first_refuses_is_not_asked_again_holds(tmp_path: Path) -> None:
    """It refused when the policy was asked, so the body does not run; the SDK says why."""
    answers[:] = [ValueError("not now")]
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))
    tool = governed(b, fickle, strict_mode=False, failure_error_function=said)
    assert call(tool, {"value": {"total": 1}}).startswith("Invalid JSON input for tool fickle")
    assert got == []
    assert b.row()["result_status"] == "failed"


def test_k1_the_sdk_names_the_tool_where_a_validator_refuses_holds(tmp_path: Path) -> None:
    """A governed tool has a type of its own, which is no name of a tool."""
    answers[:] = [ValueError("no"), ValueError("no")]
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))
    own = function_tool(strict_mode=False, failure_error_function=said)(fickle)
    tool = governed_tool(runtime=b.runtime, action_type="pay")(own)
    assert call(tool, {"value": {"total": 1}}).startswith("Invalid JSON input for tool fickle")


@pytest.mark.parametrize("first", [ValueError("not now"), 1], ids=["refuses", "answers"])
def test_k1_the_input_of_an_agent_as_a_tool_is_validated_once_holds(first: Any, tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "total", 100))
    model = ScriptedModel([[assistant_message("done")]] * 2)
    inner = Agent(name="Inner", model=model)
    tool = inner.as_tool("ask", "Asks.", parameters=Fickle, run_config=RunConfig(tracing_disabled=True))
    answers[:] = [first]
    read = call(governed_tool(runtime=b.runtime)(tool), {"total": 1})
    if first == 1:
        assert read == "done"
        assert "5000" not in str(model.calls[0].input)
    else:
        assert read.startswith("An error occurred while running the tool")
        assert not model.calls
        assert b.row()["result_status"] == "failed"


@pytest.mark.parametrize("first", [ValueError("not now"), 1], ids=["refuses", "answers"])
def test_k1_what_the_guardrail_judged_is_what_the_body_gets(first: Any, tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))
    answers[:] = [first]
    guard = governance_guardrail(b.runtime)
    options = {"failure_error_function": said, "tool_input_guardrails": [guard], "strict_mode": False}
    tool = function_tool(**options)(fickle)
    model = ScriptedModel(
        [[function_call("fickle", {"value": {"total": 1}}, call_id="c")], [assistant_message("done")]]
    )
    agent = Agent(name="A", tools=[tool])
    ran = asyncio.run(Runner.run(agent, "go", run_config=RunConfig(model=model, tracing_disabled=True)))
    (output,) = [item.output for item in ran.new_items if item.type == "tool_call_output_item"]
    if not hasattr(ToolContext(None, tool_name="", tool_call_id="", tool_arguments=""), HANDED):
        pytest.skip("this SDK validates again, which docs/coverage.md says")
    if first == 1:
        assert output == "ran"
        assert [each.total for each in got] == [1]
    else:
        assert output.startswith("Invalid JSON input for tool fickle")
        assert got == []


class Property(BaseModel):
    model_config = ConfigDict(extra="allow")
    total: float = 0

    def __getattribute__(self, name: str) -> Any:
        return 5000 if name == "total" else super().__getattribute__(name)


def by_code(value: Property) -> str:
    return f"ran {value.total}"


class Overriding(BaseModel):
    total: float = 0


Overriding.total = property(lambda _: 5000, lambda _, value: None)  # type: ignore[assignment, method-assign]


def by_property(value: Overriding) -> str:
    return f"ran {value.total}"


@pytest.mark.parametrize("body", [by_code, by_property])
def test_k1_a_field_that_code_of_the_class_reads_is_unknown(body: Any, tmp_path: Path) -> None:
    b = make_bench(tmp_path / "audit", policy=policy("gt", "value.total", 100))
    assert call(governed(b, body, strict_mode=False), {"value": {"total": 1}}).startswith(BLOCKED)


def number(limit: int = 1) -> str:
    return f"ran {limit}"


def other(limit: int = 1) -> str:
    return f"ran other {limit}"


def adding(own: Any) -> Any:
    """Call what is wrapped with other arguments."""

    @functools.wraps(own)
    async def wrapper(context: Any, arguments: str) -> Any:
        return await own(context, json.dumps({"limit": json.loads(arguments)["limit"] + 1}))

    return wrapper


def elsewhere(own: Any) -> Any:
    """Call another tool."""
    leads_to = function_tool(other).on_invoke_tool

    @functools.wraps(own)
    async def wrapper(context: Any, arguments: str) -> Any:
        return await leads_to(context, arguments)

    return wrapper


@pytest.mark.parametrize(("wrap", "read"), [(adding, "ran 8"), (elsewhere, "ran other 7")], ids=named)
@pytest.mark.parametrize("way", ["governed_tool", "instrument"])
def test_k1_a_wrapper_that_looks_like_the_sdks_invoker_runs_what_it_runs(
    wrap: Any, read: str, way: str, start: Start, tmp_path: Path
) -> None:
    """What `functools.wraps` copies does not make it the SDK's: nothing is left behind for another body."""
    inner = function_tool(number)
    tool = dataclasses.replace(inner, on_invoke_tool=wrap(inner.on_invoke_tool))
    if way == "instrument":
        start(policy("gt", "limit", 100))
    else:
        b = make_bench(tmp_path / "audit", policy=policy("gt", "limit", 100))
        tool = governed_tool(runtime=b.runtime)(tool)
    assert call(tool, {"limit": 7}) == read
    assert call(tool, {"limit": 700}) == BLOCKED


@pytest.mark.parametrize("way", ["governed_tool", "instrument"])
def test_k1_a_proxy_around_the_sdks_invoker_is_no_sdks_invoker(
    way: str, start: Start, tmp_path: Path
) -> None:
    """It says that it is of the class of what it wraps, and reads the text by itself."""

    async def first(wrapped: Any, _instance: Any, given: Any, _named: Any) -> Any:
        pairs = json.loads(given[1], object_pairs_hook=list)
        return await wrapped(given[0], json.dumps(dict(reversed(pairs))))

    tool = function_tool(number)
    tool.on_invoke_tool = wrapt.FunctionWrapper(tool.on_invoke_tool, first)
    if way == "instrument":
        start(policy("gt", "limit", 100))
    else:
        b = make_bench(tmp_path / "audit", policy=policy("gt", "limit", 100))
        tool = governed_tool(runtime=b.runtime)(tool)
    assert call(tool, '{"limit": 5000, "limit": 7}').startswith(BLOCKED)
    assert call(tool, '{"limit": 7}') == "ran 7"


_tenant: ContextVar[str] = ContextVar("tenant")


def _own(path: str) -> str:
    return f"{_tenant.get()}/{path}"


OwnPath = Annotated[str, AfterValidator(_own)]


async def test_k1_a_body_gets_what_was_validated_for_its_own_run(installed: Callable[..., Bench]) -> None:
    """Two runs may have a call of one id: what was validated for the rejected one stays there."""
    ran: list[str] = []

    @function_tool(needs_approval=True)
    def read(path: OwnPath) -> str:
        """Read."""
        ran.append(path)
        return path

    block = {"name": "evil", "match": {"type": "read"}, "conditions": {"param_contains": {"path": "evil"}}}
    rest = {"name": "rest", "match": {"type": "*"}, "risk_level": "low", "approval": "auto"}
    installed(policy={"version": "1", "rules": [block | {"risk_level": "high", "approval": "block"}, rest]})
    config = RunConfig(tool_execution=ToolExecutionConfig(pre_approval_tool_input_guardrails=True))

    async def run(name: str, *, approved: bool) -> None:
        _tenant.set(name)
        model = ScriptedModel(
            [[function_call("read", {"path": "x"}, call_id="call_1")], [assistant_message("k")]]
        )
        agent = Agent(name="A", tools=[read], model=model)
        state = (await Runner.run(agent, "go", run_config=config)).to_state()
        for each in state.get_interruptions():
            (state.approve if approved else state.reject)(each)
        await Runner.run(agent, state, run_config=config)

    await asyncio.create_task(run("first", approved=False))
    await asyncio.create_task(run("second", approved=True))
    assert ran == ["second/x"]
