"""Put a gate before every local tool of the SDK, by way of the SDK's classes.

What the user set stays in the instance of the tool, and the SDK reads the proxy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.per_tool_cache import PerToolCache
from aegis_otel.adapters.openai_agents.gates import local_tool_kinds
from aegis_otel.adapters.openai_agents.gates.action_factory import Targets
from aegis_otel.adapters.openai_agents.gates.body_watch import member
from aegis_otel.adapters.openai_agents.gates.gate_proxy import gate_of, unwrap
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import (
    LOCAL_TOOL_KINDS,
    LocalGate,
    LocalToolKind,
    ToolProxy,
)
from aegis_otel.adapters.openai_agents.gates.runs import run_of
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor

Execute = Callable[..., Awaitable[Any]]


def install(governor: Governor, targets: Targets, patches: Patches) -> None:
    """Put the gate before all local tools.

    Raises:
        ConfigError: this version of the SDK keeps the parts of a tool somewhere else.
    """
    gate = LocalGate(governor, targets, is_on_class=True)
    patches.on_undo(gate.retire)

    def wrap(owner: type, name: str, wrapper: Callable[[Execute], Execute]) -> None:
        found = vars(owner).get(name)
        if not isinstance(found, classmethod) or not inspect.iscoroutinefunction(found.__func__):
            raise _unknown_sdk(owner, name)
        patches.set(owner, name, classmethod(functools.wraps(found.__func__)(wrapper(found.__func__))))

    for kind in LOCAL_TOOL_KINDS:
        if kind.attribute not in getattr(kind.tool, "__dataclass_fields__", ()):
            raise _unknown_sdk(kind.tool, kind.attribute)
        if kind.proxy is local_tool_kinds.ComputerProxy:
            # A factory may make a computer for each run, so the proxy is put where the SDK acts on it.
            wrap(kind.sdk_action, "_execute_action_and_capture", lambda act: _govern_computer(act, gate))
        else:
            attribute = _PartAttribute(kind, gate)
            patches.set(kind.tool, kind.attribute, attribute)
            patches.on_undo(attribute.proxies.clear)
        # Only this method knows the agent and the id of the call; the user's part gets neither.
        wrap(kind.sdk_action, "execute", _note_call)


class _PartAttribute:
    """The attribute of a local tool that holds the user's part."""

    def __init__(self, kind: LocalToolKind, gate: LocalGate) -> None:
        self._kind = kind
        self._gate = gate
        self.proxies: PerToolCache[ToolProxy] = PerToolCache()
        name, fields = kind.attribute, vars(kind.tool)
        self._has_default, self._default = name in fields, fields.get(name)

    def __get__(self, tool: Any, owner: type) -> Any:
        name = self._kind.attribute
        part = self._default if tool is None else vars(tool).get(name, self._default)
        if part is None and not self._has_default:
            raise AttributeError(name)
        part = _without_class_gate(part)
        if part is None or isinstance(part, ToolProxy):  # nothing runs here; or it has a gate of its own
            return part
        tool_name, known = str(tool.name), self.proxies.get(tool)
        if known is not None and known.__wrapped__ is part and known._self_tool == tool_name:
            return known  # the same object each time
        return self.proxies.put(tool, self._kind.proxy(part, self._gate, tool_name))

    def __set__(self, tool: Any, part: Any) -> None:
        vars(tool)[self._kind.attribute] = _without_class_gate(part)


def _without_class_gate(part: Any) -> Any:
    """Return the part without a gate of the SDK's classes, which may be that of an earlier installation."""
    gate = gate_of(part, ToolProxy)
    return unwrap(part, ToolProxy) if gate is not None and gate.is_on_class else part


def _note_call(execute: Execute) -> Execute:
    """Wrap `execute` so that the gate knows the agent and the call for as long as it lasts."""

    async def noted(cls: type, **given: Any) -> Any:
        tool_call = getattr(given.get("call") or given.get("action"), "tool_call", None)
        context = given.get("context_wrapper")
        if context is not None:
            run_of(context)  # begins one where this is the first call, so that the origin has its id
        call = local_tool_kinds.LocalCall(
            getattr(given.get("agent"), "name", None),
            member(tool_call, "call_id"),
            given.get("config"),
            context,
        )
        token = local_tool_kinds.local_call.set(call)
        try:
            return await execute(cls, **given)
        finally:
            local_tool_kinds.local_call.reset(token)

    return noted


def _govern_computer(act: Execute, gate: LocalGate) -> Execute:
    """Wrap the SDK's way to act on a computer so that it acts on a proxy."""

    async def governed(cls: type, computer: Any, tool_call: Any) -> Any:
        computer = _without_class_gate(computer)
        if gate_of(computer, ToolProxy) is None:
            actions = getattr(tool_call, "actions", None) or [getattr(tool_call, "action", None)]
            screenshots = [member(each, "type") for each in actions].count("screenshot")
            computer = local_tool_kinds.ComputerProxy(computer, gate, screenshots=screenshots)
        return await act(cls, computer, tool_call)

    return governed


def _unknown_sdk(owner: type, name: str) -> ConfigError:
    return ConfigError(
        f"this version of openai-agents has no `{owner.__name__}.{name}`, where aegis-otel governs it: "
        "pin openai-agents to a version named in the README"
    )
