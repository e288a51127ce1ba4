"""The origin of a call: the same facts for every kind of tool, each in the column of its name."""

from __future__ import annotations

from pathlib import Path

from agents import RunConfig, RunContextWrapper, Usage, trace

import aegis_otel.adapters.openai_agents
from aegis_otel import Action, Policy, Runtime
from aegis_otel.adapters.openai_agents.gates.call_origin import origin_of
from aegis_otel.adapters.openai_agents.gates.runs import run_of
from aegis_otel.governance.call import Origin
from tests.support.tracing import sdk_tracing

ADAPTER = Path(aegis_otel.adapters.openai_agents.__file__).parent
RULES = [{"name": "all", "match": {"type": "*"}, "risk_level": "low", "approval": "auto"}]


async def test_what_the_sdk_knows_is_in_the_record() -> None:
    """Every fact that is a column is in it, of the first call and of one that shares it."""
    context = RunContextWrapper(None, usage=Usage(total_tokens=12))
    run_id = run_of(context).id
    origin = origin_of(
        *("search", "call_1", 7),
        context=context,
        run_config=RunConfig(group_id="conversation"),
        original_name="server.search",
    )
    facts = ("search", "call_1", "conversation", run_id, "server.search")
    assert origin == Origin(*facts[:3], 7, *facts[3:], tokens=12)
    runtime = Runtime(policy=Policy.from_dict({"version": "1", "rules": RULES}))
    for _ in range(2):
        record = (await runtime.governor.authorize(Action("search"), origin)).record
        columns = (record.tool_name, record.tool_call_id, record.conversation_id, record.run_id)
        assert (*columns, record.tool_original_name) == facts


def test_the_conversation_is_that_of_the_trace_where_the_run_names_none() -> None:
    with sdk_tracing(), trace("workflow", group_id="of the trace"):
        assert origin_of("search", None, 0).conversation_id == "of the trace"
        assert origin_of("search", None, 0, run_config=RunConfig(group_id="own")).conversation_id == "own"
    assert origin_of("search", None, 0) == Origin("search")


def test_no_tokens_are_known_where_the_provider_counts_none() -> None:
    """A limit on tokens that are always 0 would never be reached."""
    assert origin_of("search", None, 0, context=RunContextWrapper(None, usage=Usage())).tokens is None


def test_the_adapter_makes_origins_in_one_place() -> None:
    """A new fact is a line of `origin_of`, and of nothing else."""
    makers = {path.name for path in ADAPTER.rglob("*.py") if " Origin(" in path.read_text(encoding="utf-8")}
    assert makers == {"call_origin.py"}
