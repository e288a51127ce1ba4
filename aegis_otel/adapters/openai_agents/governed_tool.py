"""`@governed_tool`: makes a governed tool of a function, or of a tool of the SDK."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from agents import FunctionTool, function_tool

from aegis_otel.adapters.openai_agents.gates.action_factory import (
    DEFAULT_TARGET,
    ActionFactory,
    names_of,
    original_name,
)
from aegis_otel.adapters.openai_agents.gates.function_gate import Gate, is_governed
from aegis_otel.adapters.openai_agents.gates.gate_proxy import unwrap
from aegis_otel.adapters.openai_agents.gates.invoker import GatedBody, gated
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor
from aegis_otel.runtime.runtime import Runtime


def governed_tool(
    *,
    runtime: Runtime,
    action_type: str | None = None,
    action_target: str = DEFAULT_TARGET,
    description: str | None = None,
) -> Callable[[Callable[..., Any] | FunctionTool], FunctionTool]:
    """Put a tool under the policy of `runtime`.

    The result is a `FunctionTool` for `Agent(tools=[...])`. A plain function is made into one as by the
    SDK's own `function_tool` (sync functions run in a thread; a `RunContextWrapper` first parameter is
    passed and never captured). To set options of `function_tool`, apply it first, which is below:

        @governed_tool(runtime=runtime, action_type="charge", action_target="stripe")
        @function_tool(timeout=5, failure_error_function=None)
        async def charge(amount: int) -> str: ...

    Args:
        runtime: Policy, audit and approvals.
        action_type: What rules match as `match.type`; the tool's name when None, and what it is called later.
        action_target: What rules match as `match.target`.
        description: The action's description in place of the tool's, for approvers. The model still
            reads the tool's.

    Returns:
        A decorator. A blocked or denied call never runs the body; the model reads a text that begins
        with `[AEGIS BLOCKED]`, `[AEGIS DENIED]` or `[AEGIS ERROR]`. What the body returns is untouched.

    Raises:
        ConfigError: `runtime` is not a Runtime; or, when applied, the tool is governed already, or it is
            neither a function nor a FunctionTool.
    """
    if not isinstance(runtime, Runtime):
        raise ConfigError(f"`runtime` is a `{type(runtime).__name__}`: pass Runtime(policy=...)")

    def decorate(tool: Callable[..., Any] | FunctionTool) -> FunctionTool:
        if not isinstance(tool, FunctionTool):
            if not inspect.isroutine(tool):
                raise ConfigError(f"a `{type(tool).__name__}` is neither a function nor a FunctionTool")
            tool = function_tool(tool)
        what = tool.description if description is None else description
        kinds = names_of(tool) if action_type is None else [action_type]
        factory = ActionFactory(
            tool.params_json_schema,
            [(kind, action_target) for kind in kinds],
            what,
            invoker=vars(tool).get("on_invoke_tool"),
            original_name=original_name(tool),
            follows_names=action_type is None,
        )
        return behind_gate(tool, runtime.governor, factory)

    return decorate


def behind_gate(tool: FunctionTool, governor: Governor, factory: ActionFactory) -> FunctionTool:
    """Return a copy of `tool` behind a gate of its own, and otherwise as it was.

    Raises:
        ConfigError: the tool has a gate.
    """
    if is_governed(tool):
        raise ConfigError(f"tool `{tool.name}` is governed already: remove one `governed_tool`")
    governed = copy.copy(tool)  # not made anew: a subclass may have a constructor of its own
    own = vars(governed)  # past the descriptors of the capture point
    gate = Gate(governor, lambda: factory, own["needs_approval"])
    own["tool_input_guardrails"] = [gate.guardrail, *(own["tool_input_guardrails"] or ())]
    own["on_invoke_tool"] = gated(unwrap(own["on_invoke_tool"], GatedBody), gate, inspectable=False)
    return governed
