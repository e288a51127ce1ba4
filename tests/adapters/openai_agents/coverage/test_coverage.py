"""What `coverage()` says of each kind of tool is what happens to its calls, and `on_ungoverned` heeds it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    CodeInterpreterTool,
    CustomTool,
    FileSearchTool,
    FunctionTool,
    Handoff,
    HostedMCPTool,
    ImageGenerationTool,
    ProgrammaticToolCallingTool,
    RunContextWrapper,
    ShellTool,
    ToolSearchTool,
    WebSearchTool,
    handoff,
)
from agents.mcp import MCPServerStdio
from agents.realtime import RealtimeAgent, realtime_handoff
from agents.sandbox import SandboxAgent
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import BaseModel

from aegis_otel import ConfigError, govern_agent
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.adapters.openai_agents.coverage.agent_walk import abilities
from aegis_otel.adapters.openai_agents.coverage.coverage import Coverage, Row, Status, coverage
from aegis_otel.adapters.openai_agents.coverage.tool_inventory import inventory
from aegis_otel.adapters.openai_agents.coverage.ungoverned import UngovernedTools
from aegis_otel.adapters.openai_agents.guardrail import governance_guardrail
from aegis_otel.model import Mode
from tests.adapters.openai_agents.capture.test_tool_kinds import policy
from tests.adapters.openai_agents.local_kinds import KINDS, Body, a_call, a_function, an_agent, run
from tests.support.kit import Bench

MAKE = Callable[..., Bench]

HOSTED: dict[str, Any] = {
    "web search": WebSearchTool(),
    "file search": FileSearchTool(vector_store_ids=["v"]),
    "code interpreter": CodeInterpreterTool(
        tool_config={"type": "code_interpreter", "container": {"type": "auto"}}
    ),
    "image generation": ImageGenerationTool(tool_config={"type": "image_generation"}),
    "hosted MCP": HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "s",
            "server_url": "https://mcp.example",
            "require_approval": "never",
        }
    ),
    "hosted shell": ShellTool(environment={"type": "container_auto"}),
}


def rows(agent: Any) -> Coverage:
    return coverage(agent, installed=CapturePoint.installed)


def told(agent: Any) -> dict[str, Status]:
    return {row.kind: row.status for row in rows(agent)}


def every_kind() -> Agent[Any]:
    inner = Agent(name="Inner")
    return Agent(
        name="Clerk",
        tools=[
            *(kind.make(Body()) for kind in KINDS.values()),
            inner.as_tool("ask", "Asks."),
            *HOSTED.values(),
        ],
        handoffs=[inner],
        mcp_servers=[MCPServerStdio(params={"command": "true"}, name="files")],
    )


ENFORCEABLE = {
    *("function", "shell", "local shell", "apply_patch", "custom", "computer", "agent as tool", "MCP server"),
}


def test_every_kind_has_its_status(installed: MAKE) -> None:
    """Enforced what is ours to stop; hosted tools not governable, each with what to do instead."""
    installed()
    agent = every_kind()
    assert told(agent) == {
        **dict.fromkeys(ENFORCEABLE, Status.ENFORCED),
        **dict.fromkeys(HOSTED, Status.NOT_GOVERNABLE),
        "handoff": Status.OBSERVED,
    }
    assert {row.kind for row in rows(agent).gaps} == set(HOSTED)
    assert all(row.reason for row in rows(agent) if row.status is not Status.ENFORCED)


def test_monitor_mode_enforces_nothing(installed: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be enforced is observed, and the reason says why."""
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    installed()
    assert told(every_kind()) == {
        **dict.fromkeys(ENFORCEABLE, Status.OBSERVED),
        **dict.fromkeys(HOSTED, Status.NOT_GOVERNABLE),
        "handoff": Status.OBSERVED,
    }
    assert all("monitor mode" in row.reason for row in rows(every_kind()) if row.kind in ENFORCEABLE)


def test_with_nothing_installed_nothing_is_governed() -> None:
    """And it is said how to change that."""
    statuses = told(every_kind())
    assert {statuses[kind] for kind in ENFORCEABLE} == {Status.NOT_GOVERNED}
    assert statuses["handoff"] is Status.NOT_GOVERNED
    assert {row.reason for row in rows(every_kind()) if row.kind in ENFORCEABLE} == {
        "nothing governs it: call `aegis_otel.instrument()`"
    }


def test_after_uninstrumenting(bench: MAKE) -> None:
    """A capture point that is no longer installed enforces nothing."""
    point = CapturePoint(bench().runtime.governor, {})
    point.install()
    point.uninstall()
    (row,) = coverage(Agent(name="A", tools=[a_function(Body())]), installed=point)
    assert row.status is Status.NOT_GOVERNED


def test_gates_of_their_own(bench: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    """A governed tool, a guarded tool and a governed agent are enforced with nothing installed."""
    runtime = bench().runtime
    tool = governed_tool(runtime=runtime)(a_function(Body()))
    guarded = a_function(Body())
    guarded.tool_input_guardrails = [governance_guardrail(runtime)]
    assert [row.status for row in rows(Agent(name="A", tools=[tool, guarded]))] == [Status.ENFORCED] * 2
    statuses = told(govern_agent(every_kind(), runtime=runtime))
    assert {statuses[kind] for kind in ENFORCEABLE} == {Status.ENFORCED}
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    watched = governed_tool(runtime=bench().runtime)(a_function(Body()))
    assert [row.status for row in rows(Agent(name="A", tools=[watched]))] == [Status.OBSERVED]


def test_agents_are_walked_once_each(installed: MAKE) -> None:
    """By handoffs of both spellings and agents as tools, in circles too; what is unknown is named."""
    installed()
    one, two, three = (Agent(name=name, tools=[a_function(Body())]) for name in ("One", "Two", "Three"))
    one.handoffs, two.handoffs = [two], [handoff(one)]
    two.tools.append(three.as_tool("ask", "Asks."))
    three.handoffs = [one]
    elsewhere = handoff(Agent(name="Elsewhere"))
    elsewhere._agent_ref = None
    one.handoffs.append(elsewhere)
    assert [(row.agent, row.tool) for row in rows(one)] == [
        *(("One", "greet"), ("One", "to `Two`"), ("One", "to `Elsewhere`")),
        *(("Two", "greet"), ("Two", "ask"), ("Two", "to `One`")),
        *(("Three", "greet"), ("Three", "to `One`")),
    ]


def test_tools_that_only_lead_to_others(installed: MAKE) -> None:
    """They have no effect of their own."""
    installed()
    agent = Agent(name="A", tools=[ToolSearchTool(), ProgrammaticToolCallingTool()])
    assert {row.status for row in rows(agent)} == {Status.OBSERVED}


def test_a_class_that_answers_for_itself_is_not_governable(installed: MAKE) -> None:
    """A subclass whose attribute hides the capture point is called past it, and is not called enforced."""

    class Past(CustomTool):
        async def on_invoke_tool(self, context: Any, text: str) -> str:  # type: ignore[override]
            return "ran"

        def __init__(self) -> None:
            self.name = "past"

    class PastFunction(FunctionTool):
        async def on_invoke_tool(self, context: Any, arguments: str) -> str:  # type: ignore[override]
            return "ran"

    installed()
    past = PastFunction.__new__(PastFunction)
    past.name = "past"
    found = rows(Agent(name="A", tools=[Past(), past]))
    assert {row.status for row in found} == {Status.NOT_GOVERNABLE}
    assert "`Past` overrides `on_invoke_tool`" in found[0].reason
    assert "`PastFunction` overrides `on_invoke_tool`" in found[1].reason


class Amount(BaseModel):
    amount: int


async def notify(context: Any, amount: Amount) -> None:
    """The side effect of a handoff."""


def remember(context: Any) -> None:
    """Another, without arguments."""


async def lead(context: Any, arguments: str) -> Agent[Any]:
    return Agent(name="Made")


def by_hand() -> Handoff[Any, Any]:
    return Handoff("go", "Goes.", {}, lead, "Made")


@pytest.mark.parametrize("governed", [False, True])
def test_handoffs_that_carry_code_of_the_users(governed: bool, installed: MAKE) -> None:
    """What runs in one is decided by nobody, so only what the SDK made without any does nothing itself."""
    runtime = installed().runtime
    other = Agent(name="Other")
    agent = Agent(
        name="A",
        handoffs=[
            *(other, handoff(other), handoff(other, is_enabled=lambda context, agent: True)),
            handoff(other, on_handoff=notify, input_type=Amount),
            *(handoff(other, on_handoff=remember), by_hand()),
        ],
    )
    found = rows(govern_agent(agent, runtime=runtime) if governed else agent)
    assert [row.status for row in found] == [Status.OBSERVED] * 3 + [Status.NOT_GOVERNABLE] * 3
    assert {row.kind for row in found.gaps} == {"handoff with code"}


def test_handoffs_of_realtime_agents(installed: MAKE) -> None:
    """The same: theirs are made by another function of the SDK."""
    installed()
    other = RealtimeAgent(name="Other")
    handoffs: list[Any] = [realtime_handoff(other), realtime_handoff(other, on_handoff=remember)]
    plain, coded = rows(RealtimeAgent(name="Voice", handoffs=handoffs))
    assert (plain.status, coded.status) == (Status.OBSERVED, Status.NOT_GOVERNABLE)


class Maker(Agent[Any]):
    """An agent class that makes tools of its own."""

    async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> list[Any]:
        return [*await super().get_all_tools(run_context), HOSTED["web search"]]


def test_classes_that_make_tools_of_their_own(installed: MAKE) -> None:
    """Not to be read from the agent: so said, unless `govern_agent` sees what the class makes."""
    runtime = installed().runtime
    (row,) = rows(Maker(name="A"))
    assert (row.tool, row.kind, row.status) == ("what `Maker` adds", "agent class", Status.NOT_GOVERNABLE)
    assert "function tools are governed" in row.reason
    assert list(rows(govern_agent(Maker(name="A"), runtime=runtime))) == []
    patched = Agent(name="A")
    patched.get_all_tools = Maker.get_all_tools  # type: ignore[method-assign,assignment]
    assert [row.kind for row in rows(patched)] == ["agent class"]
    assert [row.kind for row in rows(type("Plain", (Agent,), {})(name="A"))] == []


def test_realtime_and_sandbox_agents(installed: MAKE) -> None:
    """Agents of other classes are walked alike; tools made for each run are named as such."""
    installed()
    other = RealtimeAgent(name="Other", tools=[a_function(Body())])
    assert [row.agent for row in rows(RealtimeAgent(name="Voice", handoffs=[other]))] == ["Voice", "Other"]
    (row,) = rows(SandboxAgent(name="Box"))
    assert (row.kind, row.status) == ("sandbox", Status.ENFORCED)


class Odd:
    @property
    def name(self) -> str:
        raise RuntimeError("no name")

    @property
    def tools(self) -> Any:
        raise RuntimeError("no tools")


@pytest.mark.parametrize("odd", [Odd(), None, 5, type("T", (), {"tools": 7, "handoffs": [None, 3]})()])
def test_odd_objects_are_said_not_raised(odd: Any, installed: MAKE) -> None:
    """Whatever an agent is, and whatever its tools are."""
    installed()
    assert all(row.status is not Status.ENFORCED for row in rows(odd))
    broken = ShellTool(executor=print)
    broken.environment = 5  # type: ignore[assignment]
    found = rows(Agent(name="A", tools=[odd, Odd(), broken]))
    assert [row.status for row in found] == [Status.NOT_GOVERNABLE] * 3


def test_tools_that_cannot_be_read_are_said_to_be_unknown(installed: MAKE) -> None:
    """An agent whose tools nobody can list is not one without tools, for coverage nor for the linter."""
    installed()
    (row,) = rows(Odd())
    assert (row.kind, row.status) == ("unknown", Status.NOT_GOVERNABLE)
    hidden: Any = Agent(name="A", handoffs=[Agent(name="B")])
    hidden.handoffs[0].__class__ = type("Hidden", (Agent,), {"tools": property(lambda self: Odd().tools)})
    assert not inventory(hidden).is_complete
    assert inventory(Agent(name="A")).is_complete


def test_as_text_it_is_a_table_that_harms_no_terminal(installed: MAKE) -> None:
    """One line a tool under the names of the columns, with control characters escaped."""
    installed()
    lines = str(rows(Agent(name="A\x1b[31m\n", tools=[a_function(Body())]))).splitlines()
    assert lines[0].split() == list(Row._fields)
    assert len(lines) == 2
    assert lines[1].startswith("A\\x1b[31m")


class TestOnUngoverned:
    """What tools that cannot be governed lead to, when an agent runs."""

    @staticmethod
    def agent() -> tuple[Agent[Any], ScriptedModel]:
        return an_agent(a_function(Body()), HOSTED["web search"], calls=[a_call(KINDS["function"])])

    async def test_refuse_ends_the_run_before_the_model_is_asked(self, installed: MAKE) -> None:
        """The error names tool, agent, reason and way out."""
        b = installed(policy=policy("auto"), on_ungoverned="refuse")
        agent, model = self.agent()
        with pytest.raises(ConfigError) as caught:
            await run(agent)
        assert str(caught.value).startswith(
            "tools that cannot be governed: `web_search` of agent `Clerk` runs in the model's service"
        )
        assert "AEGIS_ON_UNGOVERNED" in str(caught.value)
        assert (len(model.calls), b.rows()) == (0, [])

    async def test_warn_says_so_once_for_each_tool(
        self, installed: MAKE, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line, however many turns, runs and agents there are: they may be named for each request."""
        b = installed(policy=policy("auto"))
        agent, _ = self.agent()
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            await run(agent)
            agent.model = ScriptedModel([[assistant_message("done")]])
            await run(agent)
            await run(agent.clone(name="Other", model=ScriptedModel([[assistant_message("done")]])))
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage().startswith(
            "tool `web_search` of agent `Clerk` runs ungoverned: runs in the model's service"
        )
        assert len(b.rows()) == 1

    def test_what_was_warned_of_is_remembered_within_bounds(self, caplog: pytest.LogCaptureFixture) -> None:
        """Tools, too, may be named for each request: the oldest of 1,000 is told anew."""
        ungoverned = UngovernedTools("warn", Mode.ENFORCE)
        unknown = [type("Unknown", (), {"name": f"tool_{number}"})() for number in range(1_001)]
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            ungoverned.check(abilities(Agent(name="A"), unknown))
            ungoverned.check(abilities(Agent(name="A"), unknown[1:]))
            assert len(caplog.records) == 1_001
            ungoverned.check(abilities(Agent(name="A"), unknown[:1]))
        assert len(caplog.records) == 1_002

    async def test_a_class_that_makes_tools_of_its_own_is_refused(self, installed: MAKE) -> None:
        """Where it asks the SDK's method; of a governed copy, what it makes is seen by name."""
        b = installed(on_ungoverned="refuse")
        model = ScriptedModel([[assistant_message("done")]])
        agent = Maker(name="Clerk", model=model)
        with pytest.raises(ConfigError, match="`what 'Maker' adds` of agent `Clerk` comes from"):
            await run(agent)
        with pytest.raises(ConfigError, match="governed: `web_search` of agent `Clerk`"):
            await run(govern_agent(agent, runtime=b.runtime, on_ungoverned="refuse"))
        assert len(model.calls) == 0

    async def test_a_handoff_with_code_is_refused(self, installed: MAKE) -> None:
        """Before the model can ask for it, in an agent of either kind."""
        b = installed(on_ungoverned="refuse")
        agent = Agent(name="Clerk", handoffs=[handoff(Agent(name="Other"), on_handoff=remember)])
        agent.model = ScriptedModel([[function_call("transfer_to_other", {}, call_id="1")]])
        for each in (agent, govern_agent(agent, runtime=b.runtime, on_ungoverned="refuse")):
            with pytest.raises(ConfigError, match=r"`to 'Other'` of agent `Clerk` runs your code"):
                await run(each)
        assert len(agent.model.calls) == 0

    async def test_allow_is_silent(self, installed: MAKE, caplog: pytest.LogCaptureFixture) -> None:
        """No word, and the run goes on."""
        installed(policy=policy("auto"), on_ungoverned="allow")
        agent, model = self.agent()
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            await run(agent)
        assert (len(model.calls), caplog.records) == (2, [])

    async def test_monitor_mode_refuses_nothing(
        self, installed: MAKE, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It warns instead: monitor mode never stops anything."""
        monkeypatch.setenv("AEGIS_MODE", "monitor")
        installed(policy=policy("auto"), on_ungoverned="refuse")
        agent, model = self.agent()
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            await run(agent)
        assert (len(model.calls), len(caplog.records)) == (2, 1)

    async def test_governed_tools_are_no_matter(self, installed: MAKE) -> None:
        """Every kind that can be governed passes `refuse`."""
        installed(on_ungoverned="refuse")
        agent = Agent(name="A", tools=[kind.make(Body()) for kind in KINDS.values()])
        assert len(await agent.get_all_tools(RunContextWrapper(None))) == len(KINDS)
