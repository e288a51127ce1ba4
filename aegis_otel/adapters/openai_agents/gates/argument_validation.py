"""Validate the arguments of a call as the SDK does, so that the policy is asked about what the body gets.

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

from aegis_otel.adapters.openai_agents.gates.argument_projection import (
    aliases_of,
    parameter_names,
    project,
    typed_dict_aliases,
)
from aegis_otel.model import FrozenDict
from aegis_otel.policy.evaluation.schema_paths import schemas_at
from aegis_otel.policy.evaluation.schema_walk import properties_of

try:
    from agents._function_tool_arguments import PreparedFunctionArguments, can_prepare_without_user_code
except ImportError:  # before 0.24 the SDK prepared nothing ahead
    PreparedFunctionArguments = None  # type: ignore[assignment, misc]

Body = Callable[[ToolContext[Any], str], Awaitable[Any]]
SDK_INVOKER = "_FailureHandlingFunctionToolInvoker"
_PREPARE = "_prepare_arguments"
_NAMED = "#/$named/{model}"
_NAMEABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Prepared(NamedTuple):
    """What came of validating the arguments of one call."""

    arguments: str
    """As the model sent them."""
    owner: object
    """What validated them: the SDK's function for that, or else its schema or its adapter."""
    plain: FrozenDict | None = None
    """As a policy reads them; None where it cannot."""
    values: Any = None
    """As the SDK takes them."""
    error: Exception | None = None
    """What validation raised, if it did."""

    def run(self, body: Body, context: ToolContext[Any]) -> Awaitable[Any]:
        """Start the body with them; where validation raised, it ends with that error.

        Nothing validates twice: a validator that changed its mind would run the body with what nobody judged.
        """
        if not isinstance(self.owner, FunctionType):
            _handed.set(self)
        elif self.error is not None:
            return _raised(self.error)
        self.hand_on(context)
        return body(context, self.arguments)

    def hand_on(self, context: ToolContext[Any]) -> None:
        """Leave them for the body, where the SDK (0.24 or newer) takes them and validates no second time."""
        is_taken = isinstance(self.owner, FunctionType)
        if is_taken and getattr(context, "_function_tool_arguments", self) is None:
            values: Any = self.values if self.error is None else _Refused(self.error)
            context._function_tool_arguments = values


class _Refused:
    """Stands for arguments that validation refused: whoever takes them meets its error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def owner(self) -> object:
        raise self._error


async def _raised(error: Exception) -> Any:
    raise error


_handed: ContextVar[Prepared | None] = ContextVar("aegis_otel_handed", default=None)


class Validation:
    """What the SDK does to the arguments of one tool made by `function_tool`.

    Args:
        schema: The SDK's own.
        owner: The SDK's function that prepares arguments; None before 0.24, which has none.
    """

    def __init__(self, schema: FuncSchema, owner: Callable[[str, str], Any] | None) -> None:
        self._schema = schema
        self._owner = owner
        kinds = [(name, each.kind) for name, each in schema.signature.parameters.items()]
        self._parameters = kinds[1:] if schema.takes_context else kinds
        self._nameable = frozenset(name for name, kind in kinds if kind in _NAMEABLE)
        model = schema.params_pydantic_model
        self._names = aliases_of(model)
        self.parameter_names = parameter_names(model.model_fields, self._names)
        """The names of `Prepared.plain` at the top that are the tool's own."""
        self._typed_dicts = typed_dict_aliases(getattr(model, "__pydantic_core_schema__", None))
        self.shows_text = schema.takes_context
        """Whether the body has the text of the arguments too, in its context."""
        self.runs_user_code = owner is None or not can_prepare_without_user_code(model)
        """Whether it may call code of the user's, such as a validator."""
        self.json_schema = accepted(model.model_json_schema)
        """JSON Schema of what it accepts; None where there is none."""

    def prepare(self, arguments: str, tool_name: str) -> Prepared:
        """Validate `arguments`, a JSON object."""
        owner = self._owner or self._schema
        try:
            if self._owner is not None:
                values = self._owner(arguments, tool_name)
            else:
                values = self._schema.params_pydantic_model(**_loaded(arguments))
        except Exception as error:
            return Prepared(arguments, owner, error=error)
        try:
            if self._owner is not None:
                by_name = self._by_name(values.args, values.kwargs)
            else:
                by_name = {name: vars(values)[name] for name in type(values).model_fields}
            plain = project(by_name, self._names, self._typed_dicts)
        except Exception:
            plain = None
        return Prepared(arguments, owner, plain, values)

    def _by_name(self, positional: list[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Undo what `FuncSchema.to_call_args` does."""
        values: dict[str, Any] = {}
        rest, own = list(positional), self._nameable
        for name, kind in self._parameters:
            if kind is inspect.Parameter.VAR_POSITIONAL:
                values[name], rest = rest, []
            elif kind is inspect.Parameter.VAR_KEYWORD:
                values[name] = {key: value for key, value in named.items() if key not in own}
            elif name in own and name in named:
                values[name] = named[name]
            else:
                values[name] = rest.pop(0)
        return values


class AgentInput:
    """What the SDK does to the arguments of an agent as a tool, whose input has a type of its own."""

    runs_user_code = True
    shows_text = False

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._typed_dicts = typed_dict_aliases(adapter.core_schema)
        self.json_schema = accepted(adapter.json_schema)
        shapes = [] if self.json_schema is None else schemas_at(self.json_schema, ())
        self.parameter_names = parameter_names({name for each in shapes for name in properties_of(each)}, {})

    def prepare(self, arguments: str, tool_name: str) -> Prepared:  # noqa: ARG002 - as `Validation`
        """Validate `arguments`, a JSON object."""
        try:
            values = self._adapter.validate_python(_loaded(arguments))
        except Exception as error:
            return Prepared(arguments, self._adapter, error=error)
        plain = project({"": values}, {}, self._typed_dicts).get("")
        return Prepared(arguments, self._adapter, plain if isinstance(plain, FrozenDict) else None, values)


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


def is_sdk_invoker(invoker: object) -> bool:
    """Return whether an `on_invoke_tool` is the SDK's own, which parses the arguments, and no wrapper."""
    return type(invoker).__name__ == SDK_INVOKER  # a proxy says that it is of the class of what it wraps


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
    """Return `body` such that it takes prepared arguments, where the SDK (before 0.24) cannot itself."""
    if type(body) is not FunctionType or _PREPARE in body.__code__.co_freevars:
        return body
    kinds = {"schema": FuncSchema, "params_adapter": TypeAdapter}
    cells = _cells(body)
    validating = [name for name, kind in kinds.items() if isinstance(cells.get(name), kind)]
    return with_cells(body, dict.fromkeys(validating, _Receiving)) if validating else body


def with_cells(function: Any, changes: Mapping[str, Callable[[Any], Any]]) -> Any:
    """Return a copy of `function` in which some variables of its closure are changed.

    Args:
        function: A FunctionType with a closure.
        changes: By the name of the variable, what makes its new value of the old one.
    """
    names = function.__code__.co_freevars
    cells = tuple(
        CellType(changes[name](cell.cell_contents)) if name in changes else cell
        for name, cell in zip(names, function.__closure__ or (), strict=True)
    )
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    vars(copied).update(vars(function))
    return copied


class _Receiving:
    """What validates in the SDK's function, where that was done before: it gives what was handed on, once."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def params_pydantic_model(self, **data: Any) -> Any:
        """Validate the arguments of a function, as a `FuncSchema` does."""
        return _received(self._own, data, lambda: self._own.params_pydantic_model(**data))

    def validate_python(self, data: Any) -> Any:
        """Validate the input of an agent as a tool, as a `TypeAdapter` does."""
        return _received(self._own, data, lambda: self._own.validate_python(data))


def _received(owner: object, data: Any, validate: Callable[[], Any]) -> Any:
    """Return what `owner` made of `data` before the decision, or raise what it raised; else validate now."""
    handed = _handed.get()
    _handed.set(None)
    # By their text: NaN equals nothing.
    if handed is None or handed.owner is not owner or repr(_loaded(handed.arguments)) != repr(data):
        return validate()
    if handed.error is not None:
        raise handed.error
    return handed.values
