"""Local tools: where a call of an executor, editor, invoker or computer meets the governor.

These tools have no guardrails. The SDK asks for approval where the user wants one, and then calls a part that
the user gave to the tool. It is handed a proxy of that part, which decides first; the part itself is never
changed. A proxy copies what the model asks for, so that nobody changes it between the decision and the body.

Local tools get no JSON arguments. Each kind has the JSON Schema of its parameters, so that a rule on a
parameter that no such call has counts against the call, as with every other tool. What the model leaves out
is left out.

To govern another kind of local tool, write its proxy and add a row to `LOCAL_TOOL_KINDS`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple, NoReturn

from agents import (
    ApplyPatchTool,
    AsyncComputer,
    ComputerTool,
    CustomTool,
    LocalShellTool,
    ShellTool,
    UserError,
)
from agents.editor import ApplyPatchResult
from agents.run_internal import tool_actions

from aegis_otel.adapters.openai_agents.gates.action_factory import (
    DEFAULT_TARGET,
    Targets,
    named_target,
)
from aegis_otel.adapters.openai_agents.gates.body_watch import returned_failure
from aegis_otel.adapters.openai_agents.gates.call_origin import origin_of
from aegis_otel.adapters.openai_agents.gates.gate_proxy import GateProxy
from aegis_otel.adapters.openai_agents.gates.runs import BodyOfRun
from aegis_otel.adapters.openai_agents.tracing.span_bridge import at_current_span
from aegis_otel.governance import refusal
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.recording import rough_size
from aegis_otel.model import Action

_log = logging.getLogger("aegis_otel")
Schema = Mapping[str, Any]
SELF_TEST = "aegis_self_test"
"""The name of the tools and of the agent of the self-test."""
COMPUTER = "computer"
"""The name of a computer's actions; the SDK's own name for it is that of an old preview."""


class LocalCall(NamedTuple):
    """The SDK's call that is carried out in this context; the user's part does not get it."""

    agent: str | None = None
    call_id: str | None = None
    run_config: Any = None
    context: Any = None
    """The context of the run."""


local_call: ContextVar[LocalCall | None] = ContextVar("aegis_otel_local_call", default=None)
self_test_output: ContextVar[str | None] = ContextVar("aegis_otel_self_test_output", default=None)
"""During the self-test, the output of every local tool: no body runs, and nothing is decided or recorded."""


@dataclasses.dataclass(eq=False)
class LocalGate:
    """What the proxies of local tools have in common: who decides, and on whose calls."""

    governor: Governor
    targets: Targets
    """What rules match as `match.target`, by tool name."""
    agent: str | None = None
    """The agent that has the tools, where the SDK's call is not known."""
    is_on_class: bool = False
    """True where the gate belongs to the SDK's classes, so that any copy of a tool has it, too."""
    retired: bool = False
    """True once the gate was taken away: calls by whoever still holds a proxy pass undecided."""

    def retire(self) -> None:
        """Let every call pass from now on."""
        self.retired = True


class ToolProxy(GateProxy):
    """A proxy of the user's part of a local tool: all attributes but the governed calls are of the part."""

    _self_gate: LocalGate
    _self_schema: ClassVar[Schema]
    """JSON Schema of the parameters that a rule sees."""

    def __init__(self, part: Any, gate: LocalGate, tool: str) -> None:
        super().__init__(part)
        self._self_gate = gate
        self._self_tool = tool

    async def _self_govern(
        self,
        params: Callable[[], Mapping[str, Any]],
        body: Callable[[], Any],
        refused: Callable[[str], Any] = str,
        call_id: str | None = None,
        context: object = None,
    ) -> Any:
        """Decide on a call; return what `body` returns, or what `refused` makes of the refusal.

        Args:
            params: Returns the parameters that a rule sees.
            body: Runs the user's part; it may return an awaitable. Its exceptions pass through.
            refused: Called with the text for the model.
            call_id: The id of the model's call, where the user's part is given it.
            context: The context of the run, where the user's part is given it.
        """
        if (output := self_test_output.get()) is not None:
            return output

        async def run() -> Any:
            value = body()
            return await value if inspect.isawaitable(value) else value

        gate, tool = self._self_gate, self._self_tool
        if gate.retired:
            return await run()
        current, fault = local_call.get() or LocalCall(gate.agent), None
        target = named_target(tool, gate.targets) or DEFAULT_TARGET
        agent, context = current.agent, current.context or context
        subject = gate.governor.subjects.find_in_run(context)
        try:
            action = Action(tool, target, params(), agent=agent, subject=subject, schema=self._self_schema)
        except Exception as error:
            _log.error("the call of `%s` could not be understood: %s", tool, traced(error))
            action, fault = Action(tool, target, agent=agent, subject=subject), refusal.UNAVAILABLE
        size = rough_size(action.params)
        call_id = call_id or current.call_id
        origin = origin_of(tool, call_id, size, context=context, run_config=current.run_config)
        with at_current_span():
            call = await gate.governor.authorize(action, origin, fault=fault)
            if call.refusal is not None:
                return refused(call.refusal)
            with BodyOfRun(origin, context):
                return await gate.governor.run(call, run, failed=returned_failure)

    def _self_copy(self, wrapped: Any) -> ToolProxy:
        return type(self)(wrapped, self._self_gate, self._self_tool)


_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_STRINGS = {"type": "array", "items": _STRING}
_POINTS = {"type": "array", "items": {"type": "object", "properties": {"x": _INTEGER, "y": _INTEGER}}}


def _schema(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _given(holder: Any, schema: Schema) -> dict[str, Any]:
    values = {name: getattr(holder, name, None) for name in schema["properties"]}
    return {name: value for name, value in values.items() if value is not None}


class ShellProxy(ToolProxy):
    """Proxy for the executor of a `ShellTool`; the parameter `command_line` is for regular expressions."""

    _self_schema = _schema(
        commands=_STRINGS, command_line=_STRING, timeout_ms=_INTEGER, max_output_length=_INTEGER
    )

    async def __call__(self, request: Any) -> Any:
        request = dataclasses.replace(request, data=copy.deepcopy(request.data))
        action = request.data.action
        return await self._self_govern(
            lambda: {**_given(action, self._self_schema), "command_line": self._self_command_line(action)},
            lambda: self.__wrapped__(request),
            call_id=request.data.call_id,
            context=request.ctx_wrapper,
        )

    def _self_command_line(self, action: Any) -> str:
        return "\n".join(action.commands)


class LocalShellProxy(ShellProxy):
    """Proxy for the executor of a `LocalShellTool`."""

    _self_schema = _schema(
        command=_STRINGS,
        command_line=_STRING,
        working_directory=_STRING,
        env={"type": "object"},
        timeout_ms=_INTEGER,
        user=_STRING,
    )

    def _self_command_line(self, action: Any) -> str:
        return " ".join(action.command)


class EditorProxy(ToolProxy):
    """Proxy for the editor of an `ApplyPatchTool`: each operation of a patch is decided on its own."""

    _self_schema = _schema(
        type={"enum": ["create_file", "update_file", "delete_file"]},
        path=_STRING,
        diff=_STRING,
        move_to=_STRING,
    )

    async def create_file(self, operation: Any) -> Any:
        return await self._self_apply(self.__wrapped__.create_file, operation)

    async def update_file(self, operation: Any) -> Any:
        return await self._self_apply(self.__wrapped__.update_file, operation)

    async def delete_file(self, operation: Any) -> Any:
        return await self._self_apply(self.__wrapped__.delete_file, operation)

    async def _self_apply(self, method: Callable[[Any], Any], operation: Any) -> Any:
        operation = dataclasses.replace(operation)
        return await self._self_govern(
            lambda: _given(operation, self._self_schema),
            lambda: method(operation),
            lambda text: ApplyPatchResult(status="failed", output=text),
            context=operation.ctx_wrapper,
        )


class CustomToolProxy(ToolProxy):
    """Proxy for the invoker of a `CustomTool`."""

    _self_schema = _schema(input=_STRING)

    async def __call__(self, context: Any, text: str) -> Any:
        return await self._self_govern(
            lambda: {"input": text},
            lambda: self.__wrapped__(context, text),
            call_id=getattr(context, "tool_call_id", None),
            context=context,
        )


class ComputerProxy(ToolProxy):
    """Proxy for a computer: each of its actions is decided on its own.

    A computer answers with pictures only, so there is no text by which a refusal could reach the model: a
    refusal ends the run. The screenshot that the SDK takes after a permitted action is that action's result.

    Args:
        part: The user's computer.
        gate: Decides.
        tool: The name of its actions.
        screenshots: How many screenshots the model asks for in this call. Where that is not known, the first
            one after another action is taken for that action's result.
    """

    _self_schema = _schema(
        type=_STRING,
        x=_INTEGER,
        y=_INTEGER,
        button=_STRING,
        keys=_STRINGS,
        path=_POINTS,
        scroll_x=_INTEGER,
        scroll_y=_INTEGER,
        text=_STRING,
        arguments={"type": "array"},
    )

    def __init__(
        self, part: Any, gate: LocalGate, tool: str = COMPUTER, *, screenshots: int | None = None
    ) -> None:
        super().__init__(part, gate, tool)
        self._self_screenshots = screenshots
        self._self_shown = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.__wrapped__, name)
        if name.startswith("_") or not callable(method):
            return method

        @functools.wraps(method)  # the SDK reads from the signature which keywords it takes
        async def act(*positional: Any, **named: Any) -> Any:
            if name == "screenshot" and self._self_is_result():
                shown = method()
                return await shown if inspect.isawaitable(shown) else shown
            positional, named = copy.deepcopy((positional, named))
            done = await self._self_govern(
                lambda: _computer_params(name, positional, named),
                lambda: method(*positional, **named),
                _end_the_run,
            )
            self._self_shown = name == "screenshot"
            return done

        return act

    def _self_is_result(self) -> bool:
        """Return whether the SDK takes this screenshot as the result of the action before it."""
        if self._self_screenshots is not None:
            self._self_screenshots -= 1
            return self._self_screenshots < 0
        is_result, self._self_shown = not self._self_shown, True
        return is_result


_POSITIONAL = {
    "click": ("x", "y", "button"),
    "double_click": ("x", "y"),
    "drag": ("path",),
    "keypress": ("keys",),
    "move": ("x", "y"),
    "scroll": ("x", "y", "scroll_x", "scroll_y"),
    "type": ("text",),
}
"""The arguments that the SDK passes to each method of a computer, in order."""


def _computer_params(method: str, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of one action; `arguments` are those of an action that is not known here."""
    names = _POSITIONAL.get(method, ())
    params = {"type": method, **dict(zip(names, positional, strict=False)), **named}
    if len(positional) > len(names):
        params["arguments"] = list(positional[len(names) :])
    return params


def _end_the_run(text: str) -> NoReturn:
    raise UserError(text)


async def _unreached(*_: Any) -> str:
    return "the body was reached"


_METHODS = ("create_file", "update_file", "delete_file", *AsyncComputer.__abstractmethods__)
_UNREACHED: Any = type("Unreached", (AsyncComputer,), dict.fromkeys(_METHODS, _unreached))()
"""An editor and a computer that answer that they were reached."""


class LocalToolKind(NamedTuple):
    """One kind of local tool."""

    name: str
    """The name that coverage shows."""
    tool: type[Any]
    """The SDK's class of the tool."""
    attribute: str
    """The field of the tool that holds the user's part."""
    proxy: type[ToolProxy]
    sdk_action: type[Any]
    """The SDK's class that carries out a call, by its class method `execute`."""
    self_test_call: dict[str, Any]
    """A call that the model of the self-test makes."""
    self_test_part: Any = _unreached
    """The part of the tool of the self-test: it answers that it was reached."""
    self_test_fields: Mapping[str, str] | None = None
    """Other fields that the tool of the self-test needs."""
    writes_files: bool = False

    @property
    def schema(self) -> Schema:
        """Return the JSON Schema of what a rule sees of a call."""
        return self.proxy._self_schema


LOCAL_TOOL_KINDS = (
    LocalToolKind(
        name="shell",
        tool=ShellTool,
        attribute="executor",
        proxy=ShellProxy,
        sdk_action=tool_actions.ShellAction,
        self_test_call={"type": "shell_call", "action": {"commands": ["true"]}},
        writes_files=True,
    ),
    LocalToolKind(
        name="local shell",
        tool=LocalShellTool,
        attribute="executor",
        proxy=LocalShellProxy,
        sdk_action=tool_actions.LocalShellAction,
        self_test_call={
            "type": "local_shell_call",
            "action": {"type": "exec", "command": ["true"], "env": {}},
        },
        writes_files=True,
    ),
    LocalToolKind(
        name="apply_patch",
        tool=ApplyPatchTool,
        attribute="editor",
        proxy=EditorProxy,
        sdk_action=tool_actions.ApplyPatchAction,
        self_test_call={
            "type": "apply_patch_call",
            "operation": {"type": "delete_file", "path": "none"},
        },
        self_test_part=_UNREACHED,
        writes_files=True,
    ),
    LocalToolKind(
        name="custom",
        tool=CustomTool,
        attribute="on_invoke_tool",
        proxy=CustomToolProxy,
        sdk_action=tool_actions.CustomToolAction,
        self_test_fields={"name": SELF_TEST, "description": ""},
        self_test_call={"type": "custom_tool_call", "name": SELF_TEST, "input": ""},
    ),
    # A factory may make a computer for each run, so it gets its proxy where the SDK acts on it.
    LocalToolKind(
        name=COMPUTER,
        tool=ComputerTool,
        attribute="computer",
        proxy=ComputerProxy,
        sdk_action=tool_actions.ComputerAction,
        self_test_call={
            "type": "computer_call",
            "pending_safety_checks": [],
            "actions": [{"type": "screenshot"}],
        },
        self_test_part=_UNREACHED,
    ),
)
