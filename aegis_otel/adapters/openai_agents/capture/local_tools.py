"""The capture point on the classes of local tools: shell, local shell, apply_patch, custom, computer.

As with function tools, what the user set stays in the instance, and what the SDK reads is the stand-in
with the gate. A computer may be made for each run by a factory and never be read from its tool, so it is
met where the SDK acts on it. Who asks, and with which call, is known only to the SDK's own classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from agents import ApplyPatchTool, CustomTool, LocalShellTool, ShellTool
from agents.run_internal import tool_actions

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.per_tool_cache import Kept
from aegis_otel.adapters.openai_agents.capture.proxies import Computer, Custom, Editor, LocalShell, Shell
from aegis_otel.adapters.openai_agents.gates.actions import Targets
from aegis_otel.adapters.openai_agents.gates.local_gate import (
    LocalGate,
    Part,
    StandIn,
    Turn,
    gate_of,
    own_of,
    turn,
)
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor

Execute = Callable[..., Awaitable[Any]]


class Local(NamedTuple):
    """Where the part is that a kind of local tool runs, and what stands in for it."""

    attribute: str
    stand_in: Part


LOCAL: dict[type, Local] = {
    ShellTool: Local("executor", Shell),
    LocalShellTool: Local("executor", LocalShell),
    ApplyPatchTool: Local("editor", Editor),
    CustomTool: Local("on_invoke_tool", Custom),
}
"""Every local kind but the computer."""

_EXECUTE = "execute"
_EXECUTES = (
    tool_actions.ShellAction,
    tool_actions.LocalShellAction,
    tool_actions.ApplyPatchAction,
    tool_actions.CustomToolAction,
    tool_actions.ComputerAction,
)
_ACT = "_execute_action_and_capture"


def install(governor: Governor, targets: Targets, patches: Patches) -> None:
    """Put the capture point on the local tools.

    Raises:
        ConfigError: this SDK keeps their parts somewhere else.
    """
    gate = InstalledGate(governor, targets)
    patches.afterwards(gate.retire)
    for owner, local in LOCAL.items():
        if local.attribute not in getattr(owner, "__dataclass_fields__", ()):
            raise _moved(owner, local.attribute)
        part = _Part(owner, local, gate)
        patches.set(owner, local.attribute, part)
        patches.afterwards(part.made.clear)
    for action in _EXECUTES:
        execute = _own_classmethod(action, _EXECUTE)
        patches.set(action, _EXECUTE, classmethod(_telling(execute)))
    act = _own_classmethod(tool_actions.ComputerAction, _ACT)
    patches.set(tool_actions.ComputerAction, _ACT, classmethod(_governing(act, gate)))


class InstalledGate(LocalGate):
    """The gate of the capture point: stands aside once that was taken away."""

    is_on_class = True

    def retire(self) -> None:
        """Let by whoever still holds a stand-in."""
        self.retired = True


class _Part:
    """The attribute of a local tool that holds its part."""

    def __init__(self, owner: type, local: Local, gate: LocalGate) -> None:
        self._name = local.attribute
        self._make = local.stand_in
        self._gate = gate
        self.made: Kept[StandIn] = Kept()
        self._default = (local.attribute in vars(owner), vars(owner).get(local.attribute))

    def __get__(self, tool: Any, owner: type) -> Any:
        has_default, default = self._default
        own = default if tool is None else vars(tool).get(self._name, default)
        if own is None and not has_default:
            raise AttributeError(self._name)
        own = _unless_governed(own)
        if own is None or isinstance(own, StandIn):  # nothing runs here; or it has a gate of its own
            return own
        name, known = str(tool.name), self.made.get(tool)
        if known is not None and known.__wrapped__ is own and known._self_tool == name:
            return known  # the same object each time
        return self.made.put(tool, self._make(own, self._gate, name))

    def __set__(self, tool: Any, part: Any) -> None:
        vars(tool)[self._name] = _unless_governed(part)


def _unless_governed(part: Any) -> Any:
    """What the user gave, without the gate of a capture point: that may be an old one."""
    return own_of(part) if isinstance(gate_of(part), InstalledGate) else part


def _telling(execute: Execute) -> Execute:
    """`execute`, with the agent and the call known to the gate for as long as it lasts."""

    @functools.wraps(execute)
    async def told(cls: type, **given: Any) -> Any:
        asked = getattr(given.get("call") or given.get("action"), "tool_call", None)
        call_id = asked.get("call_id") if isinstance(asked, dict) else getattr(asked, "call_id", None)
        name = getattr(given.get("agent"), "name", None)
        token = turn.set(Turn(name, call_id, given.get("config")))
        try:
            return await execute(cls, **given)
        finally:
            turn.reset(token)

    return told


def _governing(act: Execute, gate: LocalGate) -> Execute:
    """The SDK's way to act on a computer, on its stand-in."""

    @functools.wraps(act)
    async def governed(cls: type, computer: Any, tool_call: Any) -> Any:
        computer = _unless_governed(computer)
        if gate_of(computer) is None:
            computer = Computer(computer, gate, screenshots=_screenshots(tool_call))
        return await act(cls, computer, tool_call)

    return governed


def _screenshots(tool_call: Any) -> int:
    """How many screenshots the model asks for in one call."""
    actions = getattr(tool_call, "actions", None) or [getattr(tool_call, "action", None)]
    kinds = [each.get("type") if isinstance(each, dict) else getattr(each, "type", None) for each in actions]
    return kinds.count("screenshot")


def _own_classmethod(owner: type, name: str) -> Execute:
    found = vars(owner).get(name)
    if not isinstance(found, classmethod) or not inspect.iscoroutinefunction(found.__func__):
        raise _moved(owner, name)
    return found.__func__


def _moved(owner: type, name: str) -> ConfigError:
    return ConfigError(
        f"this version of openai-agents has no `{owner.__name__}.{name}`, where aegis-otel governs it: "
        "pin openai-agents to a version named in the README"
    )
