"""How the SDK validates the arguments of one tool, so that the policy is asked about what the body gets.

The validation runs once, before the decision, and its result is handed on to the SDK: the body gets the
very values that were judged, and validators of the user's do not run twice.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import CellType, FunctionType
from typing import Any, NamedTuple

from agents.function_schema import FuncSchema
from agents.tool_context import ToolContext
from pydantic import BaseModel, TypeAdapter

from aegis_otel.adapters.openai_agents.arguments.projection import (
    aliases_of,
    project,
    typed_dict_aliases,
)
from aegis_otel.model import FrozenDict

try:
    from agents._function_tool_arguments import PreparedFunctionArguments, can_prepare_without_user_code
except ImportError:  # before 0.24 the SDK prepared nothing ahead
    PreparedFunctionArguments = None  # type: ignore[assignment, misc]

Body = Callable[[ToolContext[Any], str], Awaitable[Any]]
_PREPARE = "_prepare_arguments"
_NAMED = "#/$named/{model}"


class Prepared(NamedTuple):
    """The validated arguments of one call."""

    arguments: str
    """As the model sent them."""
    plain: FrozenDict
    """As a policy reads them."""
    values: Any
    """As the SDK takes them; None where it cannot."""

    def hand_on(self, context: object) -> None:
        """Have the SDK use them in the call of `context`, which begins next in this task."""
        if PreparedFunctionArguments is not None and isinstance(self.values, PreparedFunctionArguments):
            if getattr(context, "_function_tool_arguments", self) is None:
                context._function_tool_arguments = self.values  # type: ignore[attr-defined]
        elif self.values is not None:
            _handed.set(self)


_handed: ContextVar[Prepared | None] = ContextVar("aegis_otel_handed", default=None)


class Validation:
    """What the SDK does to the arguments of one tool made by `function_tool`."""

    def __init__(self, schema: FuncSchema, owner: Callable[[str, str], Any] | None) -> None:
        """
        Args:
            schema: The SDK's own.
            owner: The SDK's function that prepares arguments, where it has one.
        """
        self._schema = schema
        self._owner = owner
        model = schema.params_pydantic_model
        self._names = aliases_of(model)
        self._typed_dicts = typed_dict_aliases(getattr(model, "__pydantic_core_schema__", None))
        self.runs_user_code = owner is None or not can_prepare_without_user_code(model)
        """Whether it may call code of the user's, such as a validator."""
        self.json_schema = accepted(model.model_json_schema)
        """JSON Schema of what it accepts; None where there is none."""

    def prepare(self, arguments: str, tool_name: str) -> Prepared:
        """Validate `arguments`, a JSON object. Raises whatever the SDK or the user's validators raise."""
        if self._owner is not None:
            values = self._owner(arguments, tool_name)
            return Prepared(arguments, self._plain(self._by_name(values.args, values.kwargs)), values)
        parsed = self._schema.params_pydantic_model(**_loaded(arguments))
        by_name = {name: vars(parsed)[name] for name in type(parsed).model_fields}
        return Prepared(arguments, self._plain(by_name), parsed)

    def _plain(self, values: Mapping[str, Any]) -> FrozenDict:
        return project(values, self._names, self._typed_dicts)

    def _by_name(self, positional: list[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Undo what `FuncSchema.to_call_args` does."""
        values: dict[str, Any] = {}
        rest, parameters = list(positional), list(self._schema.signature.parameters.items())
        nameable = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        own = {name for name, each in parameters if each.kind in nameable}
        for name, parameter in parameters[1:] if self._schema.takes_context else parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values[name], rest = rest, []
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                values[name] = {key: value for key, value in named.items() if key not in own}
            elif name in own and name in named:
                values[name] = named[name]
            else:
                values[name] = rest.pop(0)
        return values


class AgentInput:
    """What the SDK does to the arguments of an agent as a tool, whose input has a type of its own."""

    runs_user_code = True

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._typed_dicts = typed_dict_aliases(adapter.core_schema)
        self.json_schema = accepted(adapter.json_schema)

    def prepare(self, arguments: str, tool_name: str) -> Prepared:  # noqa: ARG002 - as `Validation`
        """Validate `arguments`. The SDK has no way to take the result, and validates again."""
        parsed = self._adapter.validate_python(_loaded(arguments))
        plain = project({"": parsed}, {}, self._typed_dicts).get("")
        if not isinstance(plain, FrozenDict):
            raise TypeError("the input of an agent is no object")
        return Prepared(arguments, plain, None)


def accepted(json_schema: Callable[..., dict[str, Any]]) -> Mapping[str, Any] | None:
    """Return the schema of what a type accepts: by alias, or by field name where that differs.

    Unlike the schema that the model is shown, it has every default, and requires only what is required.
    """
    try:
        by_alias = json_schema()
        if json_schema(by_alias=False) == by_alias:
            return by_alias
        by_name = json_schema(by_alias=False, ref_template=_NAMED)
    except Exception:  # a type without a schema
        return None
    aliased, named = by_alias.pop("$defs", {}), by_name.pop("$defs", {})
    return {"$defs": aliased, "$named": named, "anyOf": [by_alias, by_name]}


def validation_of(invoker: object) -> Validation | AgentInput | None:
    """Return how the SDK validates for this `on_invoke_tool`; None where that is not known."""
    body: Any = getattr(invoker, "_invoke_tool_impl", None)
    while body is not None and not isinstance(body, FunctionType):
        body = getattr(body, "__wrapped__", None)
    if body is None:
        return None
    cells = _cells(body)
    owner = cells.get(_PREPARE)
    schema = (_cells(owner) if isinstance(owner, FunctionType) else cells).get("schema")
    try:
        if isinstance(schema, FuncSchema) and issubclass(schema.params_pydantic_model, BaseModel):
            return Validation(schema, owner)
        adapter = cells.get("params_adapter")
        return AgentInput(adapter) if isinstance(adapter, TypeAdapter) else None
    except Exception:
        return None


def _loaded(arguments: str) -> Any:
    return json.loads(arguments) if arguments else {}


def _cells(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    return found


def receiving(body: Body) -> Body:
    """Return `body` such that it takes prepared arguments, where the SDK has no way of its own for that."""
    if not isinstance(body, FunctionType) or _PREPARE in body.__code__.co_freevars:
        return body
    schema = _cells(body).get("schema")
    if not isinstance(schema, FuncSchema):
        return body
    cells = tuple(
        CellType(_Receiving(schema)) if name == "schema" else cell
        for name, cell in zip(body.__code__.co_freevars, body.__closure__ or (), strict=True)
    )
    copied = FunctionType(body.__code__, body.__globals__, body.__name__, body.__defaults__, cells)
    copied.__kwdefaults__ = body.__kwdefaults__
    copied.__dict__.update(body.__dict__)
    return copied


class _Receiving:
    """A `FuncSchema` whose validation is done, where it was: it gives what was handed on, once."""

    def __init__(self, own: FuncSchema) -> None:
        self._own = own
        self.takes_context = own.takes_context
        self.to_call_args = own.to_call_args

    def params_pydantic_model(self, **data: Any) -> BaseModel:
        handed, model = _handed.get(), self._own.params_pydantic_model
        _handed.set(None)
        if handed is not None and type(handed.values) is model and _loaded(handed.arguments) == data:
            values: BaseModel = handed.values
            return values
        return model(**data)
