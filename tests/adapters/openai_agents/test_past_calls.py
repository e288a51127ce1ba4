"""Calls of the SDK that are decided by what went before them: the call itself is nothing before it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import pytest
import wrapt
from agents import (
    Agent,
    FunctionTool,
    ModelBehaviorError,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    Usage,
    UserError,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import AfterValidator, BaseModel

from aegis_otel import Policy
from aegis_otel.adapters.openai_agents import governance_guardrail, governed_tool
from tests.adapters.openai_agents.capture.test_sdk_approvals import Clerk, act, outcomes
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
RUNS_VALIDATORS = find_spec("agents._function_tool_arguments") is not None
"""Whether the SDK gives a body what a validator of the user's makes of an argument; since 0.24."""
ANY_LIMIT = ["repeats: {by: [input], within: 7d}", "calls_over: {limit: 1, within: 1h}"]


def limited(type_: str, condition: str, approval: str = "block", *more: str) -> Policy:
    """Return a policy with one condition on earlier calls, and the lines of other rules."""
    rules = [f"- {{name: own, match: {{type: {type_}}}, conditions: {{{condition}}}, approval: {approval}}}"]
    return Policy.from_text(
        "\n".join(['version: "1"', "defaults: {approval: auto}", "rules:", *rules, *more])
    )


def ends_of_marks(bench: Bench) -> list[int | None]:
    """Return how the calls ended whose marks there are: 1 succeeded, 0 failed, None is not known."""
    connection = sqlite3.connect(bench.audit / "state.sqlite3")
    rows = connection.execute("SELECT succeeded FROM mark ORDER BY marked_at").fetchall()
    connection.close()
    return [succeeded for (succeeded,) in rows]


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("approval", ["approve", "block"])
@pytest.mark.parametrize("condition", ANY_LIMIT)
async def test_a_body_that_goes_on_is_not_held_up_by_its_own_mark(
    installed: BENCH, condition: str, approval: str, saved: bool
) -> None:
    """An agent as a tool, whose run stops inside for a human: it goes on as the one call that it is."""
    ask_inside = "- {name: inner, match: {type: act}, approval: approve}"
    b = installed(approvals="sdk", policy=limited("ask_clerk", condition, approval, ask_inside))
    inner = Clerk(b, [act(7, "inner")])
    tool = inner.agent.as_tool("ask_clerk", "Asks.")
    turn = [function_call("ask_clerk", {"input": "do"}, call_id="outer")]
    outer = Clerk(b, turn, tools=[tool], name="Boss")
    paused = await outer.run()
    state = await outer.saved(paused) if saved else paused.to_state()
    (interruption,) = state.get_interruptions()
    state.approve(interruption)
    assert (await outer.run(state)).interruptions == []
    assert (inner.ran, outer.read) == (["act 7"], ["done"])
    assert outcomes(b) == {"outer": "allowed", "inner": "approved"}
    assert [row["result_status"] for row in b.rows()] == ["success", "success"]
    assert ends_of_marks(b) == [1]


async def test_a_body_that_goes_on_is_not_asked_about_where_the_policy_asks_since(installed: BENCH) -> None:
    rules = "- {name: inner, match: {type: act}, approval: approve}"
    b = installed(approvals="sdk", policy=limited("x", ANY_LIMIT[1], "block", rules))
    inner = Clerk(b, [act(7, "inner")])
    turn = [function_call("ask_clerk", {"input": "do"}, call_id="outer")]
    outer = Clerk(b, turn, tools=[inner.agent.as_tool("ask_clerk", "Asks.")], name="Boss")
    state = await outer.saved(await outer.run())
    state.approve(state.get_interruptions()[0])
    b.runtime.update_policy(
        limited("x", ANY_LIMIT[1], "block", rules, "- {match: {type: ask_clerk}, approval: approve}")
    )
    assert (await outer.run(state)).interruptions == []
    assert outcomes(b) == {"outer": "allowed", "inner": "approved"}


Stripped = Annotated[str, AfterValidator(str.strip)]


def wrapped(times: int = 1, *, is_text: bool = False) -> tuple[FunctionTool, list[int | str]]:
    """Return a tool whose invoker is in a wrapper of the program's own, and the orders that were paid."""
    paid: list[int | str] = []

    async def pay_number(order: int, amount: float = 1.0) -> str:
        paid.append(order)
        return "paid"

    async def pay_text(order: Stripped, amount: float = 1.0) -> str:
        paid.append(order)
        return "paid"

    body = pay_text if is_text else pay_number
    pay = function_tool(body, name_override="pay", failure_error_function=None)
    invoke = pay.on_invoke_tool

    async def again(context: Any, arguments: str) -> Any:
        return [await invoke(context, arguments) for _ in range(times)][-1]

    return dataclasses.replace(pay, on_invoke_tool=again), paid


def pay(order: int | str, call_id: str) -> Any:
    return function_call("pay", {"order": order, "amount": 3}, call_id=call_id)


@pytest.mark.parametrize("order", [1, "1"])
@pytest.mark.parametrize(
    "condition",
    [
        "repeats: {by: [order], within: 7d}",
        "calls_over: {limit: 1, within: 7d}",
        "calls_over: {limit: 1, within: 7d, by: [order]}",
        "total_over: {param: amount, limit: 5, within: 7d}",
    ],
)
async def test_a_wrapper_does_not_count_a_call_twice(
    installed: BENCH, condition: str, order: int | str
) -> None:
    """The gate of the tool inside decides again, by arguments that the SDK may have converted meanwhile."""
    b = installed(policy=limited("pay", condition))
    tool, paid = wrapped()
    await Clerk(b, [pay(order, "c1")], [pay(order, "c2")], tools=[tool]).run()
    assert paid == [1]
    assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}
    assert set(ends_of_marks(b)) == {1}


async def test_what_a_wrapper_hides_is_counted(installed: BENCH) -> None:
    """By the gate inside, for the call that the gate of the wrapper has permitted."""
    b = installed(policy=limited("pay", "repeats: {by: [order], within: 7d}"))
    tool, paid = wrapped(is_text=True)
    await Clerk(b, [pay(" A", "c1")], [pay("A", "c2")], tools=[tool]).run()
    if RUNS_VALIDATORS:
        assert paid == ["A"]
        assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}
    else:  # nothing is hidden: these are two orders
        assert paid == [" A", "A"]
        assert outcomes(b) == {"c1": "allowed", "c2": "allowed"}


async def test_a_wrapper_that_tries_again_is_one_call(installed: BENCH) -> None:
    b = installed(policy=limited("pay", "total_over: {param: amount, limit: 5, within: 7d}"))
    tool, paid = wrapped(times=3)
    await Clerk(b, [pay(1, "c1")], [pay(2, "c2")], tools=[tool]).run()
    assert paid == [1, 1, 1]
    assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}


async def test_a_human_who_is_asked_about_what_a_wrapper_hides_is_asked_once(installed: BENCH) -> None:
    """By the second decision, which neither counts the marks of the first nor leaves the same ones again."""
    ask = "- {name: ask, match: {type: pay}, conditions: {param_eq: {order: A}}, approval: approve}"
    b = installed(True, policy=limited("pay", "calls_over: {limit: 2, within: 7d}", "block", ask))
    tool, paid = wrapped(is_text=True)
    await Clerk(b, [pay(" A", "c1")], [pay("B", "c2")], [pay("C", "c3")], tools=[tool]).run()
    assert paid == (["A", "B"] if RUNS_VALIDATORS else [" A", "B"])
    ended = [(row["tool_call_id"], row["outcome"]) for row in b.rows()]
    asked = [("c1", "approved")] if RUNS_VALIDATORS else []
    assert ended == [("c1", "allowed"), *asked, ("c2", "allowed"), ("c3", "blocked")]
    assert ends_of_marks(b) == [1, 1]


def boss(*clerks: Clerk, bench: Bench) -> Clerk:
    """Return an agent that lets each of these do something, one after the other."""
    turns = [
        [function_call(f"ask_{number}", {"input": "do"}, call_id=f"o{number}")]
        for number in range(len(clerks))
    ]
    tools = [clerk.agent.as_tool(f"ask_{number}", "Asks.") for number, clerk in enumerate(clerks)]
    return Clerk(bench, *turns, tools=tools, name="Boss")


def look(call_id: str) -> Any:
    return function_call("look", {"x": 1}, call_id=call_id)


async def test_agents_as_tools_are_parts_of_one_run(installed: BENCH) -> None:
    """Else a limit of a run begins anew with each of them, also where one is inside of another."""
    b = installed(policy=limited("look", "calls_over: {limit: 2, within: run}"))
    inner = [Clerk(b, [look(f"i{number}")]) for number in range(3)]
    middle = boss(inner[1], inner[2], bench=b)
    await boss(inner[0], middle, bench=b).run()
    assert [len(clerk.ran) for clerk in inner] == [1, 1, 0]
    await Clerk(b, [look("another run")]).run()
    assert outcomes(b)["another run"] == "allowed"
    assert len({row["run_id"] for row in b.rows()}) == 6, "the audit tells them apart"


@pytest.mark.parametrize("shared", [True, False])
async def test_the_tokens_of_an_agent_as_a_tool_are_counted_once(installed: BENCH, shared: bool) -> None:
    """With those of the run around it, as the SDK counts them; those of a run of a tool's own, apart."""
    b = installed(policy=limited("look", "tokens_over: {limit: 1000000, within: 1h}"))
    inner = Clerk(b, [look("i")])
    inner.model.set_default_usage(Usage(requests=1, input_tokens=10, total_tokens=10))
    outer = boss(inner, bench=b)
    if not shared:

        @function_tool
        async def ask_0(input: str) -> str:
            return str((await inner.run()).final_output)

        outer.agent.tools = [ask_0]
    outer.agent.tools.append(inner.agent.tools[1])
    outer.agent.model = model = ScriptedModel(
        [[function_call("ask_0", {"input": "do"}, call_id="o")], [look("x")], [assistant_message("done")]]
    )
    model.set_default_usage(Usage(requests=1, input_tokens=100, total_tokens=100))
    await outer.run()
    connection = sqlite3.connect(b.audit / "state.sqlite3")
    amounts = connection.execute("SELECT sum(amount), series FROM mark GROUP BY series").fetchall()
    connection.close()
    # The inner agent looks after its first answer, the outer one after its second.
    assert max(amount for amount, _ in amounts) // 1_000_000 == (220 if shared else 210)


def replaced(tool: FunctionTool, body: Callable[[Any, str], Any]) -> FunctionTool:
    return dataclasses.replace(tool, on_invoke_tool=body)


def assigned(tool: FunctionTool, body: Callable[[Any, str], Any]) -> FunctionTool:
    tool.on_invoke_tool = body
    return tool


async def run_turns(tools: list[FunctionTool], *turns: Any) -> None:
    model = ScriptedModel([*([turn] for turn in turns), [assistant_message("done")]])
    await Runner.run(Agent(name="Clerk", model=model, tools=list(tools)), "go")


@pytest.mark.parametrize("put", [replaced, assigned])
async def test_a_body_that_the_gate_did_not_see_may_have_run(bench: BENCH, put: Any) -> None:
    """The program has put another invoker in place of the gate's: what it does counts all the same."""
    b = bench(policy=limited("pay", "repeats: {by: [order], within: 7d}"))
    ran: list[str] = []

    async def pay_order(order: int, amount: float = 1.0) -> str:
        raise AssertionError

    async def mine(context: Any, arguments: str) -> str:
        ran.append(arguments)
        return "paid"

    tool = put(governed_tool(runtime=b.runtime)(function_tool(pay_order, name_override="pay")), mine)
    await run_turns([tool], pay(1, "c1"), pay(1, "c2"))
    assert len(ran) == 1
    assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}
    assert b.rows()[0]["result_status"] == "unknown"
    assert ends_of_marks(b) == [None]


async def test_a_cancelled_body_that_the_gate_did_not_see_may_have_run(bench: BENCH) -> None:
    b = bench(policy=limited("pay", "repeats: {by: [order], within: 7d}"))
    paid = asyncio.Event()

    async def mine(context: Any, arguments: str) -> str:
        paid.set()
        return await asyncio.Event().wait() or "never"

    tool = replaced(governed_tool(runtime=b.runtime)(wrapped()[0]), mine)
    run = asyncio.create_task(run_turns([tool], pay(1, "c1")))
    await paid.wait()
    run.cancel()
    await asyncio.wait([run])
    await run_turns([tool], pay(1, "c2"))
    assert outcomes(b) == {"c1": "allowed", "c2": "blocked"}
    assert ends_of_marks(b) == [None]


async def test_a_body_that_outlives_the_call_of_the_sdk_keeps_its_mark(bench: BENCH) -> None:
    """A wrapper runs it in a task of its own, which the end of the SDK's does not end."""
    b = bench(policy=limited("pay", "repeats: {by: [order], within: 7d}"))
    begun, goes_on, bodies = asyncio.Event(), asyncio.Event(), set[asyncio.Task[Any]]()

    async def pay_order(order: int, amount: float = 1.0) -> str:
        begun.set()
        await goes_on.wait()
        return "paid"

    inside = governed_tool(runtime=b.runtime)(function_tool(pay_order, name_override="pay"))

    async def apart(context: Any, arguments: str) -> Any:
        body = asyncio.ensure_future(inside.on_invoke_tool(context, arguments))
        bodies.add(body)
        return await asyncio.shield(body)

    tool = replaced(inside, apart)
    run = asyncio.create_task(run_turns([tool], pay(1, "c1")))
    await begun.wait()
    run.cancel()
    await asyncio.wait([run])
    assert (b.row()["result_status"], ends_of_marks(b)) == ("open", [None])
    goes_on.set()
    await asyncio.wait(bodies)
    assert (b.row()["result_status"], ends_of_marks(b)) == ("success", [1])


class Order(BaseModel):
    order: int


def tool_of_kind(kind: str, name: str, ran: list[int]) -> FunctionTool:
    """Return a tool of that kind that notes each order that its body gets."""

    async def act_async(order: int) -> str:
        ran.append(order)
        return "done"

    def act_sync(order: int) -> str:
        ran.append(order)
        return "done"

    def act_in_agent(*_: Any) -> str:
        ran.append(1)
        return "do"

    if kind == "agent":
        agent = Agent("Clerk", model=ScriptedModel([[assistant_message("done")] for _ in range(9)]))
        return agent.as_tool(name, "Acts.", parameters=Order, input_builder=act_in_agent)
    return function_tool(act_async if kind == "async" else act_sync, name_override=name)


@pytest.mark.parametrize("arguments", ["{}", '{"order": "many"}', "no JSON", '{"order": 1, "order_id": []'])
@pytest.mark.parametrize(
    "condition", ["calls_over: {limit: 1, within: 1h}", "not: {after: {type: check, within: 1h}}"]
)
@pytest.mark.parametrize("kind", ["async", "sync", "agent"])
async def test_a_call_with_arguments_that_the_sdk_refuses_is_not_counted(
    installed: BENCH, kind: str, condition: str, arguments: str
) -> None:
    """Its body does not begin, so it uses up no limit, and is no check that came before."""
    is_limit, ran = condition.startswith("calls"), list[int]()
    b = installed(policy=limited("act" if is_limit else "mail", condition))
    name = "act" if is_limit else "check"
    tool = tool_of_kind(kind, name, ran)

    @function_tool
    async def mail() -> str:
        ran.append(99)
        return "sent"

    def called(text: str, call_id: str) -> Any:
        return function_call(name, text, call_id=call_id)

    last = called('{"order": 1}', "c2") if is_limit else function_call("mail", {}, call_id="c2")
    await run_turns([tool, mail], called(arguments, "c0"), called(arguments, "c1"), last)
    assert ran == ([1] if is_limit else [])
    first, second, third = b.rows()
    assert (first["result_status"], second["result_status"]) == ("failed", "failed")
    assert first["result_error"].startswith("Not started: ModelBehaviorError: ")
    assert third["result_status"] == ("success" if is_limit else "blocked")
    assert ends_of_marks(b) == ([1] if is_limit else [])


@pytest.mark.parametrize("on_class", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_another_library_puts_around_a_body_still_runs(
    installed: BENCH, bench: BENCH, is_async: bool, on_class: bool
) -> None:
    """A proxy says that it is a function, too: what is behind it is not taken out of it."""
    ran: list[Any] = []

    async def seen(wrapped: Any, _: object, arguments: Any, named: Any) -> Any:
        ran.append("seen")
        return await wrapped(*arguments, **named)

    tool = tool_of_kind("async" if is_async else "sync", "act", ran)
    invoker: Any = tool.on_invoke_tool
    invoker._invoke_tool_impl = wrapt.FunctionWrapper(invoker._invoke_tool_impl, seen)
    policy = limited("act", "calls_over: {limit: 1, within: 1h}")
    if on_class:
        installed(policy=policy)
    else:
        tool = governed_tool(runtime=bench(policy=policy).runtime)(tool)
    await run_turns([tool], function_call("act", {"order": 1}, call_id="c1"))
    assert ran == ["seen", 1]


async def test_a_body_that_raises_at_once_has_begun(installed: BENCH) -> None:
    b = installed(policy=limited("act", "calls_over: {limit: 1, within: 1h}"))

    @function_tool(name_override="act")
    async def act_async(order: int) -> str:
        raise ModelBehaviorError("Invalid JSON input for tool act")

    await run_turns([act_async], *[function_call("act", {"order": 1}, call_id=f"c{n}") for n in range(2)])
    assert [row["result_status"] for row in b.rows()] == ["failed", "blocked"]
    assert b.rows()[0]["result_error"] == "ModelBehaviorError: Invalid JSON input for tool act"
    assert ends_of_marks(b) == [0]


async def stop(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.reject_content("theirs")


@pytest.mark.parametrize("how", ["governed_tool", "instrument"])
async def test_what_another_guardrail_stops_is_not_counted(bench: BENCH, installed: BENCH, how: str) -> None:
    """The gate is before the body then, and knows that it did not run."""
    policy = limited("pay", "repeats: {by: [order], within: 7d}")
    b = bench(policy=policy) if how == "governed_tool" else installed(policy=policy)
    ran: list[int] = []

    async def pay_order(order: int, amount: float = 1.0) -> str:
        ran.append(order)
        return "paid"

    tool = function_tool(
        pay_order, name_override="pay", tool_input_guardrails=[ToolInputGuardrail(stop, name="no")]
    )
    if how == "governed_tool":
        tool = governed_tool(runtime=b.runtime)(tool)
    await run_turns([tool], pay(1, "c1"))
    assert tool.tool_input_guardrails is not None
    tool.tool_input_guardrails.pop()
    # The mark is removed in the background, in turn: this one waits until how it ended is kept.
    await run_turns([tool], pay(2, "c2"))
    await run_turns([tool], pay(1, "c3"))
    assert ran == [2, 1]
    assert outcomes(b) == {"c1": "allowed", "c2": "allowed", "c3": "allowed"}
    assert [row["result_status"] for row in b.rows()] == ["skipped", "success", "success"]


UNVERIFIED = "not: {after: {type: verify, within: 1h%s}}"


@pytest.mark.parametrize("fails", ["in the body", "out of the tool", "in another guardrail"])
@pytest.mark.parametrize("result", ["", ", result: success", ", result: failed"])
async def test_a_guardrail_alone_does_not_say_how_a_call_ended(bench: BENCH, fails: str, result: str) -> None:
    """It sees no body: a verification that failed, or was stopped, is none to a later call."""
    b = bench(policy=limited("close_account", UNVERIFIED % result))
    guard, ran = governance_guardrail(b.runtime), []

    async def check(x: int) -> str:
        raise PermissionError("the code is wrong")

    async def close_account(x: int) -> str:
        ran.append("closed")
        return "closed"

    guards: list[Any] = [guard, *([ToolInputGuardrail(stop)] if fails == "in another guardrail" else [])]
    options: dict[str, Any] = {} if fails != "out of the tool" else {"failure_error_function": None}
    verify = function_tool(check, name_override="verify", tool_input_guardrails=guards, **options)
    tools = [verify, function_tool(close_account, tool_input_guardrails=[guard])]
    raising = pytest.raises(UserError) if fails == "out of the tool" else contextlib.nullcontext()
    with raising:
        await run_turns(tools, function_call("verify", {"x": 1}, call_id="verify"))
    await run_turns(tools, function_call("close_account", {"x": 1}, call_id="close_account"))
    assert ran == []
    assert outcomes(b) == {"verify": "allowed", "close_account": "blocked"}
    assert ends_of_marks(b) == [None]


@pytest.mark.parametrize("arguments", ['{"level": 9}', '{"level": 1}'])
@pytest.mark.parametrize("layers", [1, 2])
async def test_what_is_refused_or_fails_behind_a_wrapper_is_no_success(
    installed: BENCH, arguments: str, layers: int
) -> None:
    """The wrapper returns what the tool in it gave, a refusal or an error as text, and so succeeds."""
    too_high = "- {match: {type: verify}, conditions: {param_gt: {level: 5}}, approval: block}"
    b = installed(policy=limited("close_account", UNVERIFIED % ", result: success", "block", too_high))
    ran: list[str] = []

    async def check(level: int) -> str:
        raise PermissionError("the code is wrong")

    async def close_account(x: int) -> str:
        ran.append("closed")
        return "closed"

    def wrap(tool: FunctionTool, given: str) -> FunctionTool:
        invoke = tool.on_invoke_tool

        async def wrapper(context: Any, _: str) -> Any:
            return await invoke(context, given)

        return dataclasses.replace(tool, on_invoke_tool=wrapper)

    verify = wrap(function_tool(check, name_override="verify"), arguments)
    if layers == 2:
        verify = wrap(verify, '{"level": 2}')
    tools = [verify, function_tool(close_account)]
    await run_turns(
        tools,
        function_call("verify", {"level": 1}, call_id="verify"),
        function_call("close_account", {"x": 1}, call_id="close_account"),
    )
    assert ran == []
    assert outcomes(b)["close_account"] == "blocked"
    assert 1 not in ends_of_marks(b)
