"""What the SDK finds when it looks at a governed tool's invoker."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from agents import function_tool
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.adapters.openai_agents.gates.gate_proxy import gate_of, unwrap
from aegis_otel.adapters.openai_agents.gates.invoker import GatedBody
from tests.support.kit import Bench


def shape(signature: inspect.Signature) -> list[tuple[str, object]]:
    return [(each.name, each.kind) for each in signature.parameters.values()]


def test_the_signature_stands_ready(bench: Callable[..., Bench]) -> None:
    """The SDK reads the context's annotation on each call: ours is the class it looks for, and no text."""

    async def look(item: str) -> str:
        return item

    plain = inspect.signature(function_tool(look).on_invoke_tool)
    governed = inspect.signature(governed_tool(runtime=bench().runtime)(look).on_invoke_tool)
    assert shape(governed) == shape(plain)
    first = next(iter(governed.parameters.values())).annotation
    assert getattr(first, "__origin__", first) is ToolContext


def test_an_invoker_taken_out_of_its_gate_is_the_sdks_own(bench: Callable[..., Bench]) -> None:
    """Nothing of ours stays on it."""

    @function_tool
    async def look(item: str) -> str:
        return item

    raw = look.on_invoke_tool
    gated = governed_tool(runtime=bench().runtime)(look).on_invoke_tool
    outside = unwrap(gated, GatedBody)
    assert gate_of(gated, GatedBody) is not None
    assert gate_of(outside, GatedBody) is None
    assert vars(outside).keys() == vars(raw).keys()
