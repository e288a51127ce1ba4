"""`governed_tool` on the real SDK: what it gives, what it captures, what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    RunConfig,
    RunContextWrapper,
    Runner,
    ToolOutputImage,
    WebSearchTool,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from pydantic import BaseModel

from aegis_otel import ConfigError, Policy
from aegis_otel.adapters.openai_agents import governed_tool
from tests.adapters.openai_agents.test_call_table import run_agent
from tests.support.kit import Bench

ROOT = Path(__file__).parents[3]
BENCH = Callable[..., Bench]
ALLOW = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}}


async def run_calls(agent_tools: list[FunctionTool], calls: list[Any], **options: Any) -> ScriptedModel:
    model = ScriptedModel([calls, [assistant_message("done")]])
    await Runner.run(Agent(name="Clerk", model=model, tools=list(agent_tools)), "go", **options)
    return model


async def test_b01_the_result_is_a_function_tool(bench: BENCH) -> None:
    """Inventory 39, 41, 50: in Agent(tools=[...]) it runs, made from a function or a FunctionTool."""
    b = bench(policy=ALLOW)

    @governed_tool(runtime=b.runtime, action_type="look")
    async def plain(item: str) -> str:
        """Looks."""
        return item

    @governed_tool(runtime=b.runtime, action_type="look")
    @function_tool(name_override="renamed", strict_mode=False)
    def made(item: str = "d") -> str:
        return item

    assert isinstance(plain, FunctionTool)
    assert (plain.name, plain.description, made.name) == ("plain", "Looks.", "renamed")
    assert made.strict_json_schema is False
    assert await run_agent(plain, made) == ["x", "x"]


async def test_a_hand_made_function_tool(bench: BENCH) -> None:
    """A FunctionTool whose invoker is the user's own: gated, its exceptions recorded and let through."""
    b = bench(policy=ALLOW)

    async def invoke(context: ToolContext[Any], arguments: str) -> str:
        raise LookupError(arguments)

    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tool = FunctionTool("t", "d", schema, invoke)
    with pytest.raises(Exception, match="t"):
        await run_agent(governed_tool(runtime=b.runtime, action_type="x")(tool), arguments="{}")
    assert (b.row()["result_status"], b.row()["result_error"]) == ("failed", "LookupError: {}")


async def test_b02_b03_rows_and_hooks_on_every_path(bench: BENCH) -> None:
    """Inventory 49: blocked, denied and allowed calls each have a row, and each fires its hooks."""
    b = bench(False)

    @governed_tool(runtime=b.runtime, action_type="search")
    async def search(item: str) -> str:
        return item

    @governed_tool(runtime=b.runtime, action_type="write_x")
    async def write(item: str) -> str:
        return item

    @governed_tool(runtime=b.runtime, action_type="delete_x")
    async def delete(item: str) -> str:
        return item

    await run_agent(search, write, delete)
    assert sorted(row["result_status"] for row in b.rows()) == ["blocked", "denied", "success"]
    assert sorted(b.heard.decisions) == ["block_deletes", "search_auto", "write_asks"]
    assert b.heard.approvals == [("write_asks", False)]
    assert sorted(b.heard.results) == [("delete_x", "blocked"), ("search", "success"), ("write_x", "denied")]


async def test_b06_sync_tools_do_not_hold_the_loop(bench: BENCH) -> None:
    """Two sync tools run at the same time in threads, with the caller's context variables."""
    b = bench(policy=ALLOW)
    both = threading.Barrier(2, timeout=10)

    @governed_tool(runtime=b.runtime, action_type="slow")
    def one(item: str) -> str:
        both.wait()
        return threading.current_thread().name

    @governed_tool(runtime=b.runtime, action_type="slow")
    def two(item: str) -> str:
        both.wait()
        return threading.current_thread().name

    names = await run_agent(one, two)
    assert threading.current_thread().name not in names
    assert len(set(names)) == 2


async def test_b07_return_values_are_untouched(bench: BENCH) -> None:
    """Lists, images and None come out of on_invoke_tool as the very object the function returned."""
    b = bench(policy=ALLOW)
    image = ToolOutputImage(image_url="data:image/png;base64,AAAA")
    for value in ({"a": [1, None]}, image, None, [image]):

        @governed_tool(runtime=b.runtime, action_type="give")
        def give(value: Any = value) -> Any:
            return value

        give_it = governed_tool(runtime=b.runtime, action_type="give")(returns(value))
        context = ToolContext(None, tool_name="give", tool_call_id="c", tool_arguments="{}")
        assert await give_it.on_invoke_tool(context, "{}") is value
        assert give.name == "give"


def returns(value: Any) -> Callable[[], Any]:
    def give() -> Any:
        return value

    return give


async def test_b09_the_context_is_never_captured(bench: BENCH) -> None:
    """The run's context reaches the function and no record, span or event."""
    b = bench(policy=ALLOW)
    seen: list[Any] = []

    @governed_tool(runtime=b.runtime, action_type="look")
    async def look(ctx: RunContextWrapper[dict[str, str]], item: str) -> str:
        seen.append(ctx.context["db_password"])
        return item

    await run_calls(
        [look], [function_call("look", {"item": "x"}, call_id="c1")], context={"db_password": "hunter2"}
    )
    assert seen == ["hunter2"]
    assert b.row()["action_params"] == {"item": "x"}
    assert all("hunter2" not in path.read_text() for path in (b.audit / "journal").iterdir())


async def test_b10_who_and_where_is_on_every_row(bench: BENCH) -> None:
    """Agent, call id, conversation and trace are known on the row."""
    b = bench(policy=ALLOW)

    @governed_tool(runtime=b.runtime, action_type="look")
    async def look(item: str) -> str:
        return item

    await run_calls(
        [look],
        [function_call("look", {"item": "x"}, call_id="call_9")],
        run_config=RunConfig(group_id="conversation 1"),
    )
    row = b.row()
    assert (row["agent_name"], row["tool_name"], row["tool_call_id"], row["conversation_id"]) == (
        "Clerk",
        "look",
        "call_9",
        "conversation 1",
    )
    assert len(row["trace_id"]) == 32


async def test_inventory_40_parameters_are_captured_with_defaults(bench: BENCH) -> None:
    """What the model left out is there with the function's default, for the policy and for the audit."""
    policy = {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [
            {
                "name": "big",
                "conditions": {"param_gt": {"amount": 50}},
                "approval": "block",
                "risk_level": "high",
            }
        ],
    }
    b = bench(policy=policy)

    @governed_tool(runtime=b.runtime, action_type="pay", description="Pays somebody.")
    @function_tool(strict_mode=False)
    async def pay(to: str, amount: int = 100, note: str | None = None) -> str:
        """The model reads this."""
        return "paid"

    assert await run_agent(pay, arguments='{"to": "x"}') == [
        "[AEGIS BLOCKED] Action blocked by policy rule: big"
    ]
    assert b.row()["action_params"]["amount"] == 100
    assert pay.description == "The model reads this."


async def test_needs_approval_of_the_tool_still_works(bench: BENCH) -> None:
    """The tool's own needs_approval interrupts the run; after the yes our policy decides, once."""
    b = bench(policy=ALLOW)

    @governed_tool(runtime=b.runtime, action_type="look")
    @function_tool(needs_approval=True)
    async def look(item: str) -> str:
        return item

    model = ScriptedModel([[function_call("look", {"item": "x"}, call_id="c1")], [assistant_message("done")]])
    agent = Agent(name="Clerk", model=model, tools=[look])
    paused = await Runner.run(agent, "go")
    assert len(paused.interruptions) == 1
    state = paused.to_state()
    state.approve(paused.interruptions[0])
    assert (await Runner.run(agent, state)).final_output == "done"
    assert b.row()["result_status"] == "success"


async def test_what_cannot_be_governed_is_named(bench: BENCH) -> None:
    """A hosted tool, or a policy in place of the Runtime: said at once, with what to do."""
    with pytest.raises(ConfigError, match="a `WebSearchTool` is neither a function nor a FunctionTool"):
        governed_tool(runtime=bench().runtime)(WebSearchTool())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`runtime` is a `Policy`: pass Runtime"):
        governed_tool(runtime=Policy.from_dict(ALLOW))  # type: ignore[arg-type]


async def test_the_action_type_is_the_tools_name_by_default(bench: BENCH) -> None:
    """Without `action_type` rules match the name the model calls."""
    b = bench()
    assert await run_agent(governed_tool(runtime=b.runtime)(delete_it), arguments="{}") == [
        "[AEGIS BLOCKED] Action blocked by policy rule: block_deletes"
    ]


def delete_it() -> str:
    raise AssertionError("must not run")


async def test_governed_twice_is_refused(bench: BENCH) -> None:
    """One call, one decision: a second gate on the same tool is an error, not a second row."""
    b = bench(policy=ALLOW)
    tool = governed_tool(runtime=b.runtime, action_type="x")(returns("v"))
    with pytest.raises(ConfigError, match="governed already"):
        governed_tool(runtime=b.runtime, action_type="y")(tool)


async def test_a_tools_timeout_does_not_count_the_human(bench: BENCH) -> None:
    """The human may take longer than the tool's own time limit, which is for the body."""
    slow_yes = [lambda decision: _later(0.2, True)]
    b = bench(*slow_yes)

    @governed_tool(runtime=b.runtime, action_type="write_x")
    @function_tool(timeout=0.1)
    async def tool(item: str) -> str:
        return "in time"

    assert await run_agent(tool) == ["in time"]


async def test_a_body_that_times_out_is_closed(bench: BENCH) -> None:
    """The SDK cancels the body; the row says cancelled."""
    b = bench(policy=ALLOW)

    @governed_tool(runtime=b.runtime, action_type="x")
    @function_tool(timeout=0.05)
    async def tool(item: str) -> str:
        await asyncio.sleep(10)
        return "late"

    (output,) = await run_agent(tool)
    assert "timed out" in output
    assert b.row()["result_status"] == "cancelled"


async def _later(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    return value


async def test_streamed_run_sync_and_parallel_calls(bench: BENCH) -> None:
    """Streamed and plain runs give one row a call, each with its own span as the parent of the body's."""
    b = bench(policy=ALLOW)
    tracer = b.telemetry.tracer_provider.get_tracer("user")

    @governed_tool(runtime=b.runtime, action_type="look")
    async def look(item: str) -> str:
        await asyncio.sleep(0.001)
        with tracer.start_as_current_span(f"user {item}"):
            return item

    calls = [function_call("look", {"item": str(n)}, call_id=f"c{n}") for n in range(20)]
    model = ScriptedModel([calls, [assistant_message("done")]])
    streamed = Runner.run_streamed(Agent(name="Clerk", model=model, tools=[look]), "go")
    async for _ in streamed.stream_events():
        pass
    rows = {row["action_params"]["item"]: row for row in b.rows()}
    assert len(rows) == 20
    spans = {span.context.span_id: span for span in b.telemetry.spans()}
    for user in b.telemetry.spans("user"):
        execute = spans[user.parent.span_id]
        govern = spans[execute.parent.span_id]
        assert (execute.name, govern.name) == ("execute_tool look", "govern_tool look")
        assert f"{govern.context.span_id:016x}" == rows[user.name.removeprefix("user ")]["span_id"]


def test_run_sync(bench: BENCH) -> None:
    """Runner.run_sync is governed too."""
    b = bench()
    tool = governed_tool(runtime=b.runtime, action_type="delete_x")(returns("v"))
    model = ScriptedModel([[function_call("give", {}, call_id="c1")], [assistant_message("done")]])
    with asyncio.Runner() as loop:  # the SDK would make one of its own and leave it open
        asyncio.set_event_loop(loop.get_loop())
        result = Runner.run_sync(Agent(name="Clerk", model=model, tools=[tool]), "go")
        asyncio.set_event_loop(None)
    assert result.final_output == "done"
    assert b.row()["result_status"] == "blocked"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"item": "\\ud800"}',
        '{"item": "' + "x" * 1_000_000 + '"}',
        '{"item": "\\u0000\\u202e"}',
        '{"item": ' + "[" * 900 + "]" * 900 + "}",
        '{"item": {"$type": "bytes", "": null}, "nobody asked for": 1e400}',
    ],
    ids=["lone surrogate", "1 MB", "control characters", "deep", "odd keys"],
)
async def test_strange_arguments_are_recorded_and_run(arguments: str, bench: BENCH) -> None:
    """Not UTF-8, a megabyte, control characters: encoded, recorded, and the body runs."""
    b = bench(policy=ALLOW)
    lengths: list[int] = []

    @governed_tool(runtime=b.runtime, action_type="x")
    @function_tool(strict_mode=False)
    async def tool(item: Any) -> str:
        lengths.append(len(item))
        return "ran"

    # Not through the Runner: it fails by itself on a lone surrogate, before any tool is called.
    context = ToolContext(None, tool_name="tool", tool_call_id="c", tool_arguments=arguments)
    assert await tool.on_invoke_tool(context, arguments) == "ran"
    assert b.row()["result_status"] == "success"
    assert lengths
    assert len(str(b.row()["action_params"])) >= min(lengths[0], 16_000), "what a row has room for"


async def test_no_call_holds_the_loop(bench: BENCH) -> None:
    """A ticker keeps its pace while a megabyte of arguments is judged, digested and written."""
    policy = {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [
            {
                "name": "evil",
                "conditions": {"param_matches": {"item": r"^(\w+\s?)*$!"}},
                "approval": "block",
                "risk_level": "high",
            }
        ],
    }
    b = bench(policy=policy)

    @governed_tool(runtime=b.runtime, action_type="x")
    async def tool(item: str) -> str:
        return "ran"

    context = ToolContext(None, tool_name="tool", tool_call_id="c", tool_arguments="{}")
    arguments = '{"item": "' + "a" * 1_000_000 + '"}'
    await tool.on_invoke_tool(context, '{"item": "warm"}')
    gaps: list[float] = []
    stop = False

    async def tick() -> None:
        last = time.perf_counter()
        while not stop:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    before = len(gaps)
    assert await tool.on_invoke_tool(context, arguments) == "ran"
    stop = True
    await ticker
    assert len(gaps) > before + 2, "the loop did not turn while the arguments were prepared"


async def test_b30_policy_changes_while_approval_pends(bench: BENCH) -> None:
    """A block that comes into force while the human thinks wins."""
    holder: list[Bench] = []

    def swap(decision: Any) -> bool:
        blocked = {"version": "1", "rules": [{"name": "b", "approval": "block", "risk_level": "high"}]}
        holder[0].runtime.update_policy(Policy.from_dict(blocked))
        return True

    b = bench(swap)
    holder.append(b)
    tool = governed_tool(runtime=b.runtime, action_type="write_x")(returns("v"))
    context = ToolContext(None, tool_name="give", tool_call_id="c", tool_arguments="{}")
    assert await tool.on_invoke_tool(context, "{}") == "[AEGIS BLOCKED] Action blocked by policy rule: b"


async def test_b37_the_row_is_on_disk_before_the_body(bench: BENCH) -> None:
    """While the body runs, its verdict can be read by anybody."""
    b = bench(policy=ALLOW)
    seen: list[Any] = []

    @governed_tool(runtime=b.runtime, action_type="x")
    def tool() -> str:
        journal = (b.audit / "journal").glob("*.jsonl")
        seen.append([line for path in journal for line in path.read_text().splitlines()])
        return "v"

    await run_agent(tool, arguments="{}")
    assert len(seen[0]) == 1
    assert '"result_status":"open"' in seen[0][0]


HOLDS_THE_AUDIT = """
import sys, time
from aegis_otel import Action, Policy, connect
from aegis_otel.runtime.audit import AuditLogger

logger = AuditLogger(sys.argv[1])
logger.log("other", Policy.from_dict({"version": "1", "rules": []}).evaluate(Action("x")))
audit = connect(sys.argv[1])
print(audit.sql("select count(*) from audit").fetchall()[0][0], flush=True)
time.sleep(60)
"""


async def test_b39_another_process_that_holds_the_audit_stops_no_call(bench: BENCH) -> None:
    """One writes and has the view open for as long as it lives; calls here run, and both are in the audit."""
    b = bench(policy=ALLOW)
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDS_THE_AUDIT,
        str(b.audit),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert other.stdout is not None
    try:
        assert await other.stdout.readline() == b"1\n"
        tool = governed_tool(runtime=b.runtime, action_type="x")(returns("v"))
        assert await run_agent(*[tool], arguments="{}") == ["v"]
        assert [row["session_id"] for row in b.rows()] == ["other", "session"]
    finally:
        other.kill()
        await other.communicate()


class Order(BaseModel):
    amount: float = 1_000_000
    tags: list[str] = ["none"]


async def test_defaults_are_filled_in_at_every_depth(bench: BENCH) -> None:
    """A nested default that the model leaves out is what the body gets, so it is what is judged."""
    policy = {
        "version": "1",
        "defaults": {"risk_level": "low", "approval": "auto"},
        "rules": [{"name": "big", "conditions": {"param_gt": {"order.amount": 1000}}, "approval": "block"}],
    }
    b = bench(policy=policy)

    @governed_tool(runtime=b.runtime, action_type="pay")
    @function_tool(strict_mode=False)
    async def pay(order: Order, more: list[Order] | None = None) -> str:
        return f"paid {order.amount}"

    blocked = "[AEGIS BLOCKED] Action blocked by policy rule: big"
    assert await run_agent(pay, arguments='{"order": {}}') == [blocked]
    assert await run_agent(pay, arguments='{"order": {"amount": 5}, "more": [{}]}') == ["paid 5.0"]
    assert b.rows()[0]["action_params"]["order"] == {"amount": 1000000, "tags": ["none"]}
    assert b.rows()[1]["action_params"]["more"] == [{"amount": 1000000, "tags": ["none"]}]


async def test_a_tool_that_calls_itself_or_another_is_governed_each_time(bench: BENCH) -> None:
    """An admission is for one call of one tool: what a body calls inside is decided on its own."""
    b = bench(policy=ALLOW)

    @governed_tool(runtime=b.runtime, action_type="inner")
    @function_tool(strict_mode=False)
    async def inner(item: str = "") -> str:
        return "inner"

    @governed_tool(runtime=b.runtime, action_type="outer")
    @function_tool(strict_mode=False)
    async def outer(ctx: ToolContext[Any], item: str = "") -> str:
        if item == "deep":
            await inner.on_invoke_tool(ctx, ctx.tool_arguments)
            await outer.on_invoke_tool(ctx, "{}")
        return "outer"

    assert await run_agent(outer, arguments='{"item": "deep"}') == ["outer"]
    assert sorted((row["action_type"], row["result_status"]) for row in b.rows()) == [
        ("inner", "success"),
        ("outer", "success"),
        ("outer", "success"),
    ]


async def test_the_needs_approval_trap_is_avoided(bench: BENCH) -> None:
    """A callable needs_approval is asked even where arguments rely on defaults, and its no counts."""
    b = bench(policy=ALLOW)
    asked: list[dict[str, Any]] = []

    async def needs(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        asked.append(arguments)
        return False

    @governed_tool(runtime=b.runtime, action_type="x")
    @function_tool(strict_mode=False, needs_approval=needs)
    async def tool(item: str, note: str = "n") -> str:
        return note

    assert await run_agent(tool) == ["n"]
    assert asked == [{"item": "x"}]


async def test_a_time_limit_on_a_sync_tool_is_still_refused(bench: BENCH) -> None:
    """The SDK cannot stop a thread, and says so; behind the gate it still knows a sync tool."""
    b = bench(policy=ALLOW)
    tool = governed_tool(runtime=b.runtime, action_type="x")(returns("v"))
    with pytest.raises(ValueError, match="timeout"):
        replace(tool, timeout_seconds=1.0)


async def test_the_users_tool_is_left_as_it_was(bench: BENCH) -> None:
    """The governed tool is a copy: the original still runs without a row."""
    b = bench(policy=ALLOW)
    original = function_tool(returns("v"))
    governed_tool(runtime=b.runtime, action_type="x")(original)
    assert await run_agent(original, arguments="{}") == ["v"]
    assert b.rows() == []
