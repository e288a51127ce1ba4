"""Make the `Action` that the policy sees of what the model sent."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agents import FunctionTool
from agents.tool import get_function_tool_origin
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.gates.argument_comparison import reason_of, same
from aegis_otel.adapters.openai_agents.gates.argument_validation import (
    Prepared,
    is_sdk_invoker,
    validation_of,
)
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approval, FrozenDict, Subject, freeze
from aegis_otel.policy import Policy
from aegis_otel.policy.evaluation.look_alikes import folded
from aegis_otel.policy.evaluation.schema_defaults import fill_defaults, flat_defaults, has_defaults
from aegis_otel.policy.json_text import Ambiguous, read_alike, read_once
from aegis_otel.policy.patterns import compile_glob

Targets = Mapping[str, str]
"""By tool name, or a pattern with `*` and `?`: what rules match as `match.target`. The first match counts."""

DEFAULT_TARGET = "default"
_PLAIN = re.compile(r"[!-~]*")
_NO_OBJECT = "the arguments are not a JSON object"
_UNREAD = "what the tool makes of its arguments cannot be read"


class Caller(NamedTuple):
    """Who makes a call, and for whom."""

    agent: str | None
    """The name of the agent; None where it is not known."""
    subject: Subject | None = None
    """Whom the agent acts for; None where it is not known."""


class ToolRequest(NamedTuple):
    """What the model asks of a tool, as the policy is asked about it."""

    action: Action
    prepared: Prepared | None = None
    """The validated arguments, where the SDK can take them."""
    original_name: str | None = None
    """The tool's own name, where the model calls it by another."""
    fault: Refusal | None = None
    """Why the call must be refused, whatever the policy says."""


class ActionFactory:
    """Makes the Action of each call of one tool: arguments parsed as the SDK does, defaults filled in.

    A wrapper around the SDK's invoker (`dataclasses.replace(tool, on_invoke_tool=...)`) says nothing of what
    it calls. The gate before it judges the arguments as they were sent. With `instrument()` the SDK's invoker
    inside has a gate as well, which validates; with `governed_tool` alone it has none.

    Args:
        schema: JSON Schema of the tool's arguments, as the model is shown it.
        names: What rules match as type and target; a rule that matches one of several matches.
        description: The action's, for approvers.
        invoker: The tool's `on_invoke_tool`, where it is known.
        original_name: The tool's own name, where the model calls it by another.
        follows_names: Whether rules also match what the model calls the tool, where that is another name.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        names: Sequence[tuple[str, str]],
        description: str,
        *,
        invoker: object = None,
        original_name: str | None = None,
        follows_names: bool = True,
    ) -> None:
        self.original_name = original_name
        self._shown = schema
        self._names = names
        self._known = frozenset(name for name, _ in names) if follows_names else None
        self._description = description
        self._validation = None if invoker is None else validation_of(invoker)
        accepted = None if self._validation is None else self._validation.json_schema
        self._schema = schema if accepted is None else accepted
        # Walking a schema on each call costs more than deciding, and most tools need no walk.
        self._flat_defaults = flat_defaults(schema) if has_defaults(schema) else {}
        # Any other invoker gets the text, and may read it otherwise.
        self._is_sdks = is_sdk_invoker(invoker)
        self._read = json.loads if self._is_sdks else read_alike
        if self._is_sdks and self._validation is not None and self._validation.shows_text:
            self._read = read_once
        self.runs_user_code = self._validation is not None and self._validation.runs_user_code
        """Whether `validated` may run validators of the user's."""

    def make(self, arguments: str, caller: Caller, called: Sequence[str] = ()) -> Action:
        """Return the action as the model words it.

        Arguments that are not a JSON object stand under an empty name, as a text, and no condition on their
        parameters can be answered. So do those of which a tool that gets the text could make something else
        than is shown here.

        Args:
            arguments: As the model sent them.
            caller: Whose call it is.
            called: What the model calls the tool: a governed one may have another name since, or a namespace.
        """
        names = self._names_with(called)
        try:
            # The json module, as in the SDK: what is judged here is what the body is given.
            params = self._read(arguments) if arguments else {}
            if not isinstance(params, dict):
                raise TypeError
        except Ambiguous as error:
            return self._action({"": arguments}, caller, names, doubt=reason_of(error))
        except (ValueError, TypeError, RecursionError):
            return self._action({"": arguments}, caller, names, doubt=_NO_OBJECT)
        if self._flat_defaults is None:
            fill_defaults(params, self._shown)
        else:
            for name, default in self._flat_defaults.items():
                params.setdefault(name, default)
        return self._action(params, caller, names)

    def validated(
        self,
        action: Action,
        arguments: str,
        policy: Policy,
        called: Sequence[str],
        candidate: Policy | None = None,
    ) -> ToolRequest:
        """Return the action, with what the tool's validation makes of its arguments where a rule reads them.

        Call this where the SDK would validate: validators are the user's code. Where they refuse the
        arguments the body does not run, and the SDK says why. For a call that is blocked anyway none runs.

        Args:
            action: From `make`.
            arguments: As the model sent them.
            policy: In force.
            called: What the model calls the tool; the first is for messages of the SDK.
            candidate: Decides for the record alone, so that no code of the user's runs for it.
        """
        validation = self._validation
        if validation is None or action.doubt:
            return ToolRequest(action, None, self.original_name)
        names = self._names_with(called)
        types = [each for each, _ in names]
        if policy.reads_arguments(*types):
            is_due = (
                not validation.runs_user_code
                or policy.reads_history(*types)  # only the decision itself looks that up
                or policy.evaluate(action).enforced_approval is not Approval.BLOCK
            )
        else:
            is_due = (
                candidate is not None and not validation.runs_user_code and candidate.reads_arguments(*types)
            )
        if not is_due:
            return ToolRequest(action.leave_unvalidated(), None, self.original_name)
        prepared = validation.prepare(arguments, next(iter(called), self._names[0][0]))
        # A wrapper may call what it wraps with other arguments, or something else: there the SDK validates.
        handed = prepared if self._is_sdks else None
        if prepared.error is not None or (prepared.plain and same(prepared.plain, action.params)):
            return ToolRequest(action, handed, self.original_name)
        caller = Caller(action.agent, action.subject)
        plain, own = prepared.plain or FrozenDict(), validation.parameter_names
        forms = [each.name_parameters(own) for each in self._forms(plain, caller, names)]
        if prepared.plain is None:
            forms = [each.qualify(doubt=_UNREAD) for each in forms]
        return ToolRequest(action.qualify(forms), handed, self.original_name)

    def _names_with(self, called: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Return what rules match, with the names in `called` that are not among it."""
        if self._known is None or self._known.issuperset(called):
            return self._names
        targets = dict.fromkeys(target for _, target in self._names)
        more = with_look_alikes(name for name in called if name not in self._known)
        return [*self._names, *((name, target) for name in more for target in targets)]

    def _action(
        self,
        params: dict[str, Any],
        caller: Caller,
        names: Sequence[tuple[str, str]],
        *,
        doubt: str | None = None,
    ) -> Action:
        if len(names) == 1:
            ((type_, target),) = names
            action = Action(
                *(type_, target, params, self._description),
                agent=caller.agent,
                subject=caller.subject,
                schema=self._schema,
            )
            return action if doubt is None else action.qualify(doubt=doubt)
        first, *others = self._forms(freeze(params), caller, names, self._schema)
        return first.qualify([each.qualify(doubt=doubt) for each in others], doubt)

    def _forms(
        self,
        params: Mapping[str, Any],
        caller: Caller,
        names: Sequence[tuple[str, str]],
        schema: Mapping[str, Any] | None = None,
    ) -> list[Action]:
        """Return one action for each name."""
        agent, subject, what = caller.agent, caller.subject, self._description
        return [
            Action(type_, target, params, what, agent=agent, subject=subject, schema=schema)
            for type_, target in names
        ]


class LiveFactory:
    """Returns the factory for a tool as it is when it is called: it may be renamed, its schema replaced.

    Args:
        tool: Returns the tool; None where it is gone.
        targets: What rules match as `match.target`, by tool name.
    """

    def __init__(self, tool: Callable[[], FunctionTool | None], targets: Targets) -> None:
        self.tool = tool
        self._targets = targets
        self._made_for: tuple[str, int, int] | None = None
        self._factory: ActionFactory | None = None

    def __call__(self) -> ActionFactory:
        """Return the factory. Raises LookupError where the tool is gone and was never called."""
        tool = self.tool()
        if tool is not None:
            invoker = vars(tool).get("on_invoke_tool")
            now = (tool.name, id(tool.params_json_schema), id(invoker))
            if self._factory is None or self._made_for != now:
                self._factory = factory_of(tool, self._targets)
                self._made_for = now
        if self._factory is None:
            raise LookupError("the tool is gone")
        return self._factory


def factory_of(tool: FunctionTool, targets: Targets) -> ActionFactory:
    """Return the factory for `tool`: type is its name, target what `targets` or else `target_of` says."""
    names = names_of(tool)
    named = {named_target(name, targets) for name in names} - {None} or {target_of(tool)}
    return ActionFactory(
        tool.params_json_schema,
        [(name, str(target)) for name in names for target in sorted(map(str, named))],
        tool.description,
        invoker=vars(tool).get("on_invoke_tool"),
        original_name=original_name(tool),
    )


def names_of(tool: FunctionTool) -> list[str]:
    """Return what a tool is called: by the model, with its namespace, by itself, and what those look like."""
    return list(with_look_alikes((tool.name, tool.qualified_name, original_name(tool) or tool.name)))


def with_look_alikes(names: Iterable[str]) -> dict[str, None]:
    """Return names, once each, as plain text, and beside one that is not plain what it looks like.

    A server names its tools, and `delete\u200b_rows` must not pass a rule on `delete_*`.
    """
    found: dict[str, None] = {}
    for name in names:
        text = str.__str__(name)
        found[text] = None
        if not _PLAIN.fullmatch(text):
            alike = folded(text)
            found |= dict.fromkeys(each for each in (alike, alike.lower()) if each)
    return found


def original_name(tool: FunctionTool) -> str | None:
    """Return the name that an MCP server has for the tool, where the SDK shows the model another."""
    binding = getattr(tool, "_mcp_tool_binding", None)
    if isinstance(binding, tuple) and len(binding) > 1:
        name = binding[1]
    else:  # before 0.24
        body: Any = getattr(vars(tool).get("on_invoke_tool"), "_invoke_tool_impl", None)
        bound: Sequence[Any] = body.args if isinstance(body, functools.partial) else ()
        name = getattr(bound[1], "name", None) if len(bound) > 1 else None
    return name if isinstance(name, str) and name != tool.name else None


def target_of(tool: FunctionTool) -> str:
    """Return what rules match as `match.target` by default: the tool's namespace, MCP server or agent."""
    if tool.qualified_name != tool.name:
        return tool.qualified_name.removesuffix(f".{tool.name}")
    origin = get_function_tool_origin(tool)
    if origin is None:
        return DEFAULT_TARGET
    return origin.mcp_server_name or origin.agent_name or DEFAULT_TARGET


def named_target(name: str, targets: Targets) -> str | None:
    """Return the target of a tool of that name, if `targets` has one."""
    return next((target for glob, target in targets.items() if compile_glob(glob).matches(name)), None)


def called_by(context: ToolContext[Any]) -> Sequence[str]:
    """Return what the model calls the tool, without and with its namespace."""
    name = getattr(context, "tool_name", None)
    if type(context) is ToolContext and type(name) is str and getattr(context, "tool_namespace", "") is None:
        return (name,)  # most often; the qualified name of a tool without a namespace is its name
    names = (name, getattr(context, "qualified_tool_name", None))
    return [each for each in names if each is not None]
