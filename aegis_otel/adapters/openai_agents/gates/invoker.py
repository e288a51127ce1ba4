"""Put the gate of a tool into its invoker, as close to the body as possible.

The SDK's own invoker turns the body's exceptions into text for the model (`failure_error_function`). The
gate goes inside of it, so that a failure is seen and recorded, and then handled as without us.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Awaitable
from typing import Any

from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.gates.argument_validation import is_sdk_invoker, receiving
from aegis_otel.adapters.openai_agents.gates.body_watch import is_sync, watched
from aegis_otel.adapters.openai_agents.gates.function_gate import Gate, Invoke
from aegis_otel.adapters.openai_agents.gates.gate_proxy import GateProxy
from aegis_otel.errors import ConfigError

_SDK_IMPLEMENTATION = "_invoke_tool_impl"
_PREPARE = "__agents_prepare_arguments__"


def gated(invoker: Invoke, gate: Gate, *, inspectable: bool = True) -> Invoke:
    """Return `invoker` with `gate` before its body. Everything else of it stays its own.

    Args:
        invoker: The `on_invoke_tool` of a FunctionTool.
        gate: The gate of that tool.
        inspectable: Whether the SDK may look at the arguments as the body's signature sees them. Where it
            may, it forces a manual approval instead of asking a callable `needs_approval` whenever
            arguments rely on defaults or coercion.

    Raises:
        ConfigError: this SDK's tools are built in a way not known here.
    """
    if not is_sdk_invoker(invoker):
        return GatedBody(invoker, gate, invoker)
    implementation = getattr(invoker, _SDK_IMPLEMENTATION, None)
    if implementation is None:
        raise ConfigError(
            "this version of openai-agents builds function tools in a way aegis-otel does not know: "
            "pin openai-agents to a version named in the README"
        )
    inside = copy.copy(invoker)
    run = watched(receiving(implementation), sync=is_sync(invoker))
    setattr(inside, _SDK_IMPLEMENTATION, GatedBody(implementation, gate, run, inspectable))
    return _GatedInvoker(invoker, gate, inside, inspectable)


def has_known_body(invoker: Invoke) -> bool:
    """Return whether `gated` knows where the body of an invoker is; else the gate stands outside of it."""
    return is_sdk_invoker(invoker) and hasattr(invoker, _SDK_IMPLEMENTATION)


@functools.cache
def _signature(kind: Any) -> inspect.Signature | None:
    """Return the signature of every invoker of a type, its annotations resolved.

    The SDK looks them up on each call, and parses them where they are text. A `__signature__` saves that.
    """
    try:
        signature = inspect.signature(kind.__call__, eval_str=True)
    except Exception:  # annotations that only a type checker can read: the SDK has its own way
        return None
    _, *parameters = signature.parameters.values()
    return signature.replace(parameters=parameters)


class GatedBody(GateProxy):
    """A body behind its gate.

    Args:
        body: What the gate stands before.
        gate: The gate of the same tool.
        run: Called in place of the body: itself, or what does the same and reports how it ends.
        inspectable: See `gated`.
    """

    _self_gate: Gate

    def __init__(self, body: Invoke, gate: Gate, run: Invoke, inspectable: bool = True) -> None:
        super().__init__(body)
        self._self_run = run
        self._self_gate = gate
        self._self_inspectable = inspectable

    def __call__(self, context: ToolContext[Any], arguments: str) -> Awaitable[Any]:
        return self._self_gate.invoke(self._self_run, context, arguments)

    def __getattr__(self, name: str) -> Any:
        if name == _PREPARE and not self._self_inspectable:
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def _self_copy(self, wrapped: Invoke) -> Invoke:
        return gated(wrapped, self._self_gate, inspectable=self._self_inspectable)


class _GatedInvoker(GatedBody):
    """The SDK's invoker of a function's tool, with the gate inside of its failure handling."""

    def __call__(self, context: ToolContext[Any], arguments: str) -> Awaitable[Any]:
        return self._self_run(context, arguments)

    @property
    def __signature__(self) -> inspect.Signature:
        kind: Any = type(self.__wrapped__)
        signature = _signature(kind)
        if signature is None:
            raise AttributeError("__signature__")
        return signature

    @property
    def prepare_arguments(self) -> Any:
        """Prepare arguments ahead of the call; an SDK that cannot has no such method."""
        inside: Any = self._self_run
        return inside.prepare_arguments

    def __agents_bind_function_tool__(self, tool: Any) -> Invoke:
        bound = self.__wrapped__.__agents_bind_function_tool__(tool)
        return self if bound is self.__wrapped__ else self._self_copy(bound)
