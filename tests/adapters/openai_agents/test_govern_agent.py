"""`govern_agent` and `governance_guardrail`: governance without a patched class."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ComputerProvider,
    ComputerTool,
    FunctionTool,
    RunContextWrapper,
    Runner,
    RunState,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    UserError,
    WebSearchTool,
    function_tool,
    handoff,
)
from agents.agent import AgentBase
from agents.mcp import MCPServerStdio
from agents.realtime import RealtimeAgent
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aegis_otel import ConfigError, Runtime, govern_agent
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.guardrail import governance_guardrail
from tests.adapters.openai_agents.capture.test_tool_kinds import SERVER, policy
from tests.adapters.openai_agents.local_kinds import (
    KINDS,
    Body,
    Kind,
    Screen,
    a_call,
    a_function,
    an_agent,
    read_by,
    run,
)
from tests.adapters.openai_agents.test_call_table import assert_one_id
from tests.support.kit import Bench

MAKE = Callable[..., Bench]
BLOCKED = "[AEGIS BLOCKED] Action blocked by policy rule: the_rule"

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def public(holder: object) -> dict[str, Any]:
    return {name: value for name, value in vars(holder).items() if not name.startswith("_")}


@every_kind
async def test_every_kind_is_enforced(kind: Kind, bench: MAKE) -> None:
    """Blocked on the copy, one decision with its agent; the agent itself runs as before, unrecorded."""
    b = bench(policy=policy("block"))
    body = Body()
    agent, model = an_agent(kind.make(body), calls=[a_call(kind)])
    classes = [public(each) for each in (type(agent.tools[0]), Agent, AgentBase)]
    governed = govern_agent(agent, runtime=b.runtime)
    if kind.refusal_ends_the_run:
        with pytest.raises(UserError, match="BLOCKED"):
            await run(governed)
    else:
        await run(governed)
        assert read_by(model) == [BLOCKED]
    assert body.seen == []
    row = b.row()
    assert (row["action_type"], row["agent_name"], row["action_params"]) == (kind.type, "Clerk", kind.params)
    assert_one_id(b, "blocked")
    agent.model = ScriptedModel([[a_call(kind)], [assistant_message("done")]])
    await run(agent)
    assert (body.seen, len(b.rows())) == ([kind.saw], 1)
    assert [public(each) for each in (type(agent.tools[0]), Agent, AgentBase)] == classes


@every_kind
async def test_with_instrument_each_call_is_decided_once(
    kind: Kind, installed: MAKE, bench: MAKE, tmp_path: Path
) -> None:
    """By the policy given to `govern_agent`, which is the nearer one."""
    far = installed(policy=policy("block"), audit=tmp_path / "far")
    b = bench(policy=policy("auto"))
    body = Body()
    agent, _ = an_agent(kind.make(body), calls=[a_call(kind)])
    await run(govern_agent(agent, runtime=b.runtime))
    assert (body.seen, b.row()["result_status"], far.rows()) == ([kind.saw], "success", [])


async def test_the_agent_is_not_changed(bench: MAKE) -> None:
    """Not its class, tools or handoffs; and the copy is an agent of its class with the same settings."""
    tool = a_function(Body())
    inner = Agent(name="Inner")
    agent = Agent(name="Clerk", instructions="be kind", tools=[tool], handoffs=[inner])
    before = {**vars(agent), "tools": [tool], "handoffs": [inner]}
    held = dict(vars(tool))
    governed = govern_agent(agent, runtime=bench().runtime)
    await governed.get_all_tools(RunContextWrapper(None))
    governed.tools.append(WebSearchTool())
    assert (type(agent), {**vars(agent)}) == (Agent, before)
    assert vars(tool) == held
    assert isinstance(governed, Agent)
    assert (governed.name, governed.instructions) == ("Clerk", "be kind")
    assert type(governed.clone(name="Other")) is type(governed), "a clone is governed too"


async def test_tools_added_later_are_governed(bench: MAKE) -> None:
    """The tools are those of the moment, and each stays the same object from turn to turn."""
    b = bench(policy=policy("block"))
    agent, model = an_agent(calls=[a_call(KINDS["function"])])
    governed = govern_agent(agent, runtime=b.runtime)
    governed.tools.append(a_function(Body()))
    context = RunContextWrapper(None)
    assert (await governed.get_all_tools(context))[0] is (await governed.get_all_tools(context))[0]
    await run(governed)
    assert read_by(model) == [BLOCKED]


@pytest.mark.parametrize("how", ["agent", "handoff", "handoff made elsewhere"])
async def test_agents_handed_to_are_governed_and_may_lead_back(how: str, bench: MAKE) -> None:
    """There and back again: each agent has one copy, and its tools are governed."""
    b = bench(policy=policy("block", type="greet"))
    body = Body()
    worker = Agent(name="Worker", tools=[a_function(body)])
    boss = Agent(name="Boss", tools=[a_function(body)])
    if how == "agent":
        boss.handoffs, worker.handoffs = [worker], [boss]
    else:
        boss.handoffs, worker.handoffs = [handoff(worker)], [handoff(boss)]
        if how == "handoff made elsewhere":
            boss.handoffs[0]._agent_ref = None
    boss.model = ScriptedModel(
        [
            [function_call("transfer_to_worker", {}, call_id="1")],
            [a_call(KINDS["function"], 4)],
            [assistant_message("done")],
        ]
    )
    worker.model = ScriptedModel(
        [[a_call(KINDS["function"], 2)], [function_call("transfer_to_boss", {}, call_id="3")]]
    )
    governed = govern_agent(boss, runtime=b.runtime)
    result = await run(governed)
    assert result.last_agent is governed
    assert body.seen == []
    assert [row["agent_name"] for row in b.rows()] == ["Worker", "Boss"]
    assert boss.handoffs[0] is not governed.handoffs[0]


@pytest.mark.parametrize("how", ["appended", "cloned", "set", "handoff appended"])
async def test_handoffs_added_later_lead_to_governed_agents(how: str, bench: MAKE) -> None:
    """They are those of the moment, each the same from turn to turn; the list given stays as it is."""
    b = bench(policy=policy("block", type="greet"))
    body = Body()
    worker = Agent(name="Worker", tools=[a_function(body)])
    worker.model = ScriptedModel([[a_call(KINDS["function"], 2)], [assistant_message("done")]])
    boss = Agent(name="Boss")
    boss.model = ScriptedModel([[function_call("transfer_to_worker", {}, call_id="1")]])
    governed = govern_agent(boss, runtime=b.runtime)
    given: list[Any] = [handoff(worker) if how.startswith("handoff") else worker]
    before = list(given)
    if how == "cloned":
        governed = governed.clone(handoffs=given)
    elif how == "set":
        governed.handoffs = given
    else:
        governed.handoffs.extend(given)
    assert governed.handoffs[0] is governed.handoffs[0]
    result = await run(governed)
    assert (result.last_agent.name, body.seen) == ("Worker", [])
    assert (b.row()["agent_name"], b.row()["result_status"]) == ("Worker", "blocked")
    assert (given, boss.handoffs) == (before, [])
    assert given[0] is before[0]


async def test_copies_go_with_their_agent(bench: MAKE) -> None:
    """Agents made for each request leave nothing behind."""
    runtime = bench().runtime
    one, two = Agent(name="A"), Agent(name="B")
    one.handoffs, two.handoffs = [two], [handoff(one)]
    gone = weakref.ref(govern_agent(one, runtime=runtime))
    gc.collect()
    assert gone() is None


async def test_a_governed_tool_keeps_its_own_policy(bench: MAKE, tmp_path: Path) -> None:
    """What carries a gate of its own is not put behind another."""
    near, far = bench(policy=policy("auto")), bench(policy=policy("block"), audit=tmp_path / "far")
    body = Body()
    tool = governed_tool(runtime=near.runtime)(a_function(body))
    agent, _ = an_agent(tool, calls=[a_call(KINDS["function"])])
    await run(govern_agent(agent, runtime=far.runtime))
    assert (body.seen, len(near.rows()), far.rows()) == (["Ann"], 1, [])


async def test_mcp_servers(bench: MAKE, tmp_path: Path) -> None:
    """Their tools are governed on every SDK version; the server object is not touched."""
    (tmp_path / "server.py").write_text(SERVER)
    b = bench(policy=policy("block", type="remove", target="files"))
    params: Any = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
    async with MCPServerStdio(params=params, name="files", client_session_timeout_seconds=30) as server:
        before = public(server)
        call = function_call("remove", {"path": str(tmp_path / "a")}, call_id="call_1")
        agent, model = an_agent(calls=[call], mcp_servers=[server])
        await run(govern_agent(agent, runtime=b.runtime))
        assert public(server) == before
    assert read_by(model) == [BLOCKED]
    assert not list(tmp_path.glob("*.removed"))
    assert b.row()["agent_name"] == "Clerk"


async def test_a_tool_made_of_an_ungoverned_agent_is_a_gap(
    bench: MAKE, caplog: pytest.LogCaptureFixture
) -> None:
    """Its call is governed, what runs inside is not; governed first, it is."""
    b = bench(policy=policy("auto"))
    inner = Agent(
        name="Inner", tools=[a_function(Body())], model=ScriptedModel([[assistant_message("hi")]] * 2)
    )
    call = function_call("ask", {"input": "hi"}, call_id="call_1")
    agent, _ = an_agent(inner.as_tool("ask", "Asks."), calls=[call])
    with pytest.raises(ConfigError, match="`greet` of agent `Inner`"):
        await run(govern_agent(agent, runtime=b.runtime, on_ungoverned="refuse"))
    assert b.rows() == []
    with caplog.at_level(logging.WARNING, "aegis_otel"):
        await run(govern_agent(agent, runtime=b.runtime))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "`greet` of agent `Inner` runs ungoverned" in caplog.text
    governed = govern_agent(inner, runtime=b.runtime).as_tool("ask", "Asks.")
    agent, _ = an_agent(governed, calls=[call])
    caplog.clear()
    await run(govern_agent(agent, runtime=b.runtime, on_ungoverned="refuse"))
    assert caplog.records == []


@pytest.mark.parametrize("how", ["factory", "async factory", "provider"])
async def test_a_computer_made_for_each_run(how: str, bench: MAKE) -> None:
    """What the factory makes is governed; what is disposed of is what it made."""
    b = bench(policy=policy("auto"))
    body = Body()
    made: list[Screen] = []
    disposed: list[Any] = []

    def create(*, run_context: Any) -> Screen:
        made.append(Screen(body))
        return made[-1]

    async def create_async(*, run_context: Any) -> Screen:
        return create(run_context=run_context)

    computers = {
        "factory": create,
        "async factory": create_async,
        "provider": ComputerProvider(
            create=create_async, dispose=lambda *, run_context, computer: disposed.append(computer)
        ),
    }
    calls = [a_call(KINDS["computer"], 1), a_call(KINDS["computer"], 2)]
    agent, _ = an_agent(ComputerTool(computer=computers[how]), calls=calls)
    await run(govern_agent(agent, runtime=b.runtime))
    assert (len(made), len(body.seen), len(b.rows())) == (1, 2, 2)
    assert disposed == (made if how == "provider" else [])


async def test_a_paused_run_goes_on_from_its_saved_state(bench: MAKE) -> None:
    """The SDK finds the governed tools again when a state is loaded for the governed agent."""
    b = bench(policy=policy("block"))
    body = Body()

    @function_tool(name_override="greet", needs_approval=True)
    async def greet(name: str) -> str:
        return await body.run(name)

    agent, model = an_agent(greet, calls=[a_call(KINDS["function"])])
    governed = govern_agent(agent, runtime=b.runtime)
    paused = await run(governed)
    state = await RunState.from_string(governed, paused.to_state().to_string())
    state.approve(state.get_interruptions()[0])
    await Runner.run(governed, state)
    assert (body.seen, read_by(model), b.row()["result_status"]) == ([], [BLOCKED], "blocked")


async def test_a_realtime_agent(bench: MAKE) -> None:
    """The same for RealtimeAgent, whose class and handoffs are others."""
    other = RealtimeAgent(name="Other")
    agent = RealtimeAgent(name="Voice", tools=[a_function(Body())], handoffs=[other])
    governed = govern_agent(agent, runtime=bench().runtime)
    assert isinstance(governed, RealtimeAgent)
    assert type(governed.handoffs[0]) is not RealtimeAgent
    (tool,) = await governed.get_all_tools(RunContextWrapper(None))
    assert tool is not agent.tools[0]


async def test_a_saved_state_of_an_agent_handed_to(bench: MAKE) -> None:
    """Loaded for the governed agent, it goes on with the governed copy of the one that was at work."""
    b = bench(policy=policy("block", type="greet"))
    body = Body()

    @function_tool(name_override="greet", needs_approval=True)
    async def greet(name: str) -> str:
        return await body.run(name)

    worker = Agent(name="Worker", tools=[greet])
    worker.model = ScriptedModel([[a_call(KINDS["function"])], [assistant_message("done")]])
    boss = Agent(name="Boss", handoffs=[handoff(worker)])
    boss.model = ScriptedModel([[function_call("transfer_to_worker", {}, call_id="0")]])
    governed = govern_agent(boss, runtime=b.runtime)
    paused = await run(governed)
    state = await RunState.from_string(governed, paused.to_state().to_string())
    state.approve(state.get_interruptions()[0])
    await Runner.run(governed, state)
    assert (body.seen, b.row()["agent_name"], b.row()["result_status"]) == ([], "Worker", "blocked")


def test_wrong_arguments(bench: MAKE) -> None:
    """Each says what to pass instead."""
    runtime = bench().runtime
    with pytest.raises(ConfigError, match="`runtime` is a `str`"):
        govern_agent(Agent(name="A"), runtime="policy.yaml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`agent` is a `list`"):
        govern_agent([], runtime=runtime)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="governed already"):
        govern_agent(govern_agent(Agent(name="A"), runtime=runtime), runtime=runtime)
    answering = Agent(name="A")
    answering.get_all_tools = Agent.get_all_tools  # type: ignore[method-assign,assignment]
    with pytest.raises(ConfigError, match="`A` has a `get_all_tools` of its own"):
        govern_agent(answering, runtime=runtime)
    with pytest.raises(ConfigError, match="expected allow or warn or refuse"):
        govern_agent(Agent(name="A"), runtime=runtime, on_ungoverned="ask")
    with pytest.raises(ConfigError, match="`runtime` is a `NoneType`"):
        governance_guardrail(None)  # type: ignore[arg-type]


class TestPlainGuardrail:
    """A guardrail object and nothing else."""

    @staticmethod
    def tool(runtime: Runtime, body: Body, **options: Any) -> FunctionTool:
        guardrails = [governance_guardrail(runtime), *options.pop("more", ())]

        @function_tool(name_override="greet", tool_input_guardrails=guardrails, **options)
        async def greet(name: str, loud: bool = False) -> str:
            return await body.run(name)

        return greet

    @pytest.mark.parametrize(
        "case",
        [
            ("auto", [], "success", "allowed"),
            ("block", [], "blocked", "blocked"),
            ("approve", [False], "denied", "denied"),
            ("approve", [True], "success", "approved"),
        ],
    )
    @pytest.mark.parametrize("instrumented", [False, True])
    async def test_each_verdict(
        self, case: Any, instrumented: bool, bench: MAKE, installed: MAKE, tmp_path: Path
    ) -> None:
        """With or without `instrument()`: decided once, by the guardrail's own policy, and closed."""
        approval, answers, status, outcome = case
        other = installed(policy=policy("block"), audit=tmp_path / "other") if instrumented else None
        b = bench(*answers, policy=policy(approval))
        body = Body()
        agent, model = an_agent(self.tool(b.runtime, body), calls=[a_call(KINDS["function"])])
        await run(agent)
        ran = status == "success"
        assert (body.seen, read_by(model)[0].startswith("[AEGIS")) == (["Ann"] if ran else [], not ran)
        row = b.row()
        assert (row["result_status"], row["agent_name"]) == (status, "Clerk")
        assert row["action_params"] == {"name": "Ann", "loud": False}, "its schema's defaults are filled in"
        assert_one_id(b, outcome)
        assert other is None or other.rows() == []

    async def test_a_body_that_raises_out_of_the_tool(self, bench: MAKE) -> None:
        """Seen as the end of the SDK's task."""
        b = bench(policy=policy("auto"))
        tool = self.tool(b.runtime, Body(fails=LookupError("gone")), failure_error_function=None)
        agent, _ = an_agent(tool, calls=[a_call(KINDS["function"])])
        with pytest.raises(Exception, match="gone"):
            await run(agent)
        assert b.row()["result_status"] == "failed"
        assert_one_id(b, "allowed")

    async def test_a_cancelled_body(self, bench: MAKE) -> None:
        """Closed as cancelled."""
        b = bench(policy=policy("auto"))
        body = Body(hangs=True)
        agent, _ = an_agent(self.tool(b.runtime, body), calls=[a_call(KINDS["function"])])
        running = asyncio.create_task(run(agent))
        await asyncio.wait_for(body.started.wait(), 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(10):  # the SDK does not wait for the task that it cancels
            while b.row()["result_status"] == "open":
                await asyncio.sleep(0.01)
        assert b.row()["result_status"] == "cancelled"

    async def test_beside_instrument_the_end_of_the_body_is_seen(
        self, bench: MAKE, installed: MAKE, tmp_path: Path
    ) -> None:
        """A failure that the SDK makes a text of is then recorded as one."""
        installed(policy=policy("block"), audit=tmp_path / "other")
        b = bench(policy=policy("auto"))
        agent, _ = an_agent(
            self.tool(b.runtime, Body(fails=LookupError("gone"))), calls=[a_call(KINDS["function"])]
        )
        await run(agent)
        row = b.row()
        assert (row["result_status"], row["result_error"]) == ("failed", "LookupError: gone")

    @pytest.mark.parametrize("instrumented", [False, True])
    async def test_on_an_mcp_server(
        self, instrumented: bool, bench: MAKE, installed: MAKE, tmp_path: Path
    ) -> None:
        """Where it takes guardrails: one decision for each call, though the tool is nowhere listed."""
        if instrumented:
            installed(policy=policy("block"), audit=tmp_path / "other")
        (tmp_path / "server.py").write_text(SERVER)
        b = bench(policy=policy("block", type="remove"))
        params: Any = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
        server = MCPServerStdio(params=params, name="files", client_session_timeout_seconds=30)
        if not hasattr(server, "tool_input_guardrails"):
            return  # an SDK whose servers take none
        server.tool_input_guardrails = [governance_guardrail(b.runtime)]
        async with server:
            calls = [
                function_call("read", {"path": "a"}, call_id="call_1"),
                function_call("remove", {"path": str(tmp_path / "a")}, call_id="call_2"),
            ]
            agent, model = an_agent(calls=calls, mcp_servers=[server])
            await run(agent)
        assert read_by(model) == ["read a", BLOCKED]
        assert sorted((row["action_type"], row["result_status"]) for row in b.rows()) == [
            ("read", "success"),
            ("remove", "blocked"),
        ]

    async def test_one_tool_cannot_pass_on_the_verdict_of_another(
        self, bench: MAKE, installed: MAKE, tmp_path: Path
    ) -> None:
        """A body that invokes another tool with its own context and arguments is asked for that one, too."""
        installed(policy=policy("auto"), audit=tmp_path / "other")
        b = bench(policy=policy("block", type="hidden"))
        guardrail = governance_guardrail(b.runtime)
        body = Body()

        @function_tool(name_override="hidden", tool_input_guardrails=[guardrail])
        async def hidden(name: str) -> str:
            return await body.run(name)

        async def invoke(context: Any, arguments: str) -> Any:
            return await hidden.on_invoke_tool(context, arguments)

        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        shown = FunctionTool(
            "greet", "", schema, invoke, strict_json_schema=False, tool_input_guardrails=[guardrail]
        )
        agent, model = an_agent(shown, calls=[a_call(KINDS["function"])])
        await run(agent)
        assert (body.seen, read_by(model)) == ([], [BLOCKED])

    async def test_nor_the_verdict_on_a_tool_that_is_nowhere_listed(
        self, bench: MAKE, installed: MAKE, tmp_path: Path
    ) -> None:
        """An MCP tool was let through by name; what another tool's body is asked for is still decided."""
        installed(policy=policy("auto"), audit=tmp_path / "other")
        b = bench(policy=policy("block", type="greet"))
        body = Body()
        hidden = self.tool(b.runtime, body)
        (guardrail,) = vars(hidden)["tool_input_guardrails"]
        arguments = '{"name": "Ann"}'
        context = ToolContext(None, tool_name="mcp_tool", tool_call_id="c", tool_arguments=arguments)
        let = await guardrail.run(ToolInputGuardrailData(context=context, agent=Agent(name="Clerk")))
        assert let.behavior["type"] == "allow"
        assert await hidden.on_invoke_tool(context, arguments) == BLOCKED
        assert body.seen == []

    async def test_another_guardrail_before_it_may_reject(self, bench: MAKE) -> None:
        """Then nothing was decided, and there is no row."""
        b = bench(policy=policy("auto"))
        no = ToolInputGuardrail(lambda data: ToolGuardrailFunctionOutput.reject_content("no"))
        tool = self.tool(b.runtime, Body())
        tool.tool_input_guardrails = [no, *(tool.tool_input_guardrails or [])]
        agent, model = an_agent(tool, calls=[a_call(KINDS["function"])])
        await run(agent)
        assert (read_by(model), b.rows()) == (["no"], [])
