"""A tool's invoker with its gate as close to the body as it can be.

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

from aegis_otel.adapters.openai_agents.arguments.validation import receiving
from aegis_otel.adapters.openai_agents.bodies.watched import is_sync, watched
from aegis_otel.adapters.openai_agents.gate import Gate, Invoke
from aegis_otel.errors import ConfigError

_SDK_INVOKER = "_FailureHandlingFunctionToolInvoker"
_SDK_IMPLEMENTATION = "_invoke_tool_impl"
_PREPARE = "__agents_prepare_arguments__"
_SIGNATURE = "__signature__"


def gated(invoker: Invoke, gate: Gate, *, inspectable: bool = True) -> Invoke:
    """`invoker` with `gate` before its body. Everything else of it stays as it was.

    Args:
        invoker: The `on_invoke_tool` of a FunctionTool.
        gate: Of the same tool.
        inspectable: Whether the SDK may look at the arguments as the body's signature sees them. Where it
            may, it forces a manual approval instead of asking a callable `needs_approval` whenever
            arguments rely on defaults or coercion.

    Raises:
        ConfigError: this SDK's tools are built in a way not known here.
    """
    if type(invoker).__name__ != _SDK_INVOKER:
        return _Gated(invoker, gate, invoker)
    implementation = getattr(invoker, _SDK_IMPLEMENTATION, None)
    if implementation is None:
        raise ConfigError(
            "this version of openai-agents builds function tools in a way aegis-otel does not know: "
            "pin openai-agents to a version named in the README"
        )
    inside = copy.copy(invoker)
    body = _Gated(implementation, gate, watched(receiving(implementation), sync=is_sync(invoker)))
    if not inspectable:
        vars(body).pop(_PREPARE, None)
    setattr(inside, _SDK_IMPLEMENTATION, body)
    signature = _signature(type(invoker))  # type: ignore[arg-type]  # a class has a hash
    if signature is not None:
        vars(inside)[_SIGNATURE] = signature
    return inside


def has_known_body(invoker: Invoke) -> bool:
    """Whether the invoker of a function's tool is as `gated` knows it; any other has the gate outside."""
    return type(invoker).__name__ == _SDK_INVOKER and hasattr(invoker, _SDK_IMPLEMENTATION)


@functools.cache
def _signature(kind: type[object]) -> inspect.Signature | None:
    """Of every invoker of that type, its annotations resolved.

    The SDK looks them up on each call, and parses them where they are text. A `__signature__` saves that.
    """
    try:
        signature = inspect.signature(kind.__call__, eval_str=True)
    except Exception:  # annotations that only a type checker can read: the SDK has its own way
        return None
    _, *parameters = signature.parameters.values()
    return signature.replace(parameters=parameters)


def gate_of(invoker: Invoke) -> Gate | None:
    """The gate inside an invoker, if there is one."""
    body = getattr(invoker, _SDK_IMPLEMENTATION, invoker)
    return body.gate if isinstance(body, _Gated) else None


def ungated(invoker: Invoke) -> Invoke:
    """The invoker without its gate."""
    body = getattr(invoker, _SDK_IMPLEMENTATION, invoker)
    if not isinstance(body, _Gated):
        return invoker
    if body is invoker:
        return body.body
    outside = copy.copy(invoker)
    vars(outside).pop(_SIGNATURE, None)
    setattr(outside, _SDK_IMPLEMENTATION, body.body)
    return outside


class _Gated:
    """The body behind its gate; to the SDK it looks like the body."""

    def __init__(self, body: Invoke, gate: Gate, run: Invoke) -> None:
        """
        Args:
            body: What the gate stands before.
            gate: Of the same tool.
            run: Called in its place: the body, or what does the same and says how it ends.
        """
        functools.update_wrapper(self, body)
        self.body = body
        self.gate = gate
        self._run = run

    def __call__(self, context: ToolContext[Any], arguments: str) -> Awaitable[Any]:
        return self.gate.invoke(self._run, context, arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Gated) and self.body == other.body

    def __hash__(self) -> int:
        return hash(self.body)
