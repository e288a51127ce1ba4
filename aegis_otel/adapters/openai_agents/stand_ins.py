"""What the SDK calls in place of the user's executors, editors, invokers and computers.

Each takes a copy of what the model asked for: nobody can change it between the verdict and the body.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from agents import UserError
from agents.editor import ApplyPatchResult

from aegis_otel.adapters.openai_agents import local_actions
from aegis_otel.adapters.openai_agents.local_gate import LocalGate, StandIn

COMPUTER = "computer"
"""What a computer's actions are called; the SDK's own name for it is that of a preview long gone."""
_OURS = "_aegis_"


class Shell(StandIn):
    """The executor of a `ShellTool`."""

    async def __call__(self, request: Any) -> Any:
        request = dataclasses.replace(request, data=copy.deepcopy(request.data))
        return await self._aegis_gate.through(
            self._aegis_tool,
            local_actions.SHELL,
            lambda: local_actions.of_shell(request),
            lambda: self._aegis_own(request),
            str,
            call_id=request.data.call_id,
        )


class LocalShell(StandIn):
    """The executor of a `LocalShellTool`."""

    async def __call__(self, request: Any) -> Any:
        request = dataclasses.replace(request, data=copy.deepcopy(request.data))
        return await self._aegis_gate.through(
            self._aegis_tool,
            local_actions.LOCAL_SHELL,
            lambda: local_actions.of_local_shell(request),
            lambda: self._aegis_own(request),
            str,
            call_id=request.data.call_id,
        )


class Custom(StandIn):
    """The invoker of a `CustomTool`."""

    async def __call__(self, context: Any, text: str) -> Any:
        return await self._aegis_gate.through(
            self._aegis_tool,
            local_actions.CUSTOM,
            lambda: {"input": text},
            lambda: self._aegis_own(context, text),
            str,
            call_id=getattr(context, "tool_call_id", None),
        )


class _Delegating(StandIn):
    """Stands in for an object whose other attributes, and whose class, stay to be seen."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith(_OURS):  # of an instance that is only half made, such as a copy
            raise AttributeError(name)
        return getattr(self._aegis_own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith(_OURS):
            super().__setattr__(name, value)
        else:
            setattr(self._aegis_own, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # the SDK tells computers by their class
        return type(self._aegis_own)


class Editor(_Delegating):
    """The editor of an `ApplyPatchTool`: each operation of a patch is decided on its own."""

    async def create_file(self, operation: Any) -> Any:
        return await self._apply(self._aegis_own.create_file, operation)

    async def update_file(self, operation: Any) -> Any:
        return await self._apply(self._aegis_own.update_file, operation)

    async def delete_file(self, operation: Any) -> Any:
        return await self._apply(self._aegis_own.delete_file, operation)

    async def _apply(self, method: Callable[[Any], Any], operation: Any) -> Any:
        operation = dataclasses.replace(operation)
        return await self._aegis_gate.through(
            self._aegis_tool,
            local_actions.APPLY_PATCH,
            lambda: local_actions.of_patch(operation),
            lambda: method(operation),
            lambda text: ApplyPatchResult(status="failed", output=text),
        )


class Computer(_Delegating):
    """A computer: each of its actions is decided on its own.

    A computer answers with pictures only, so there is no text by which a refusal could reach the model:
    it ends the run. The screenshot that the SDK takes after a permitted action is that action's result.
    """

    def __init__(self, own: Any, gate: LocalGate) -> None:
        super().__init__(own, gate, COMPUTER)
        self._aegis_shown = True

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name.startswith("_") or not callable(method):
            return method

        @functools.wraps(method)  # the SDK looks which keywords it takes
        async def act(*positional: Any, **named: Any) -> Any:
            if name == "screenshot" and not self._aegis_shown:
                self._aegis_shown = True
                shown = method()
                return await shown if inspect.isawaitable(shown) else shown
            positional, named = copy.deepcopy((positional, named))
            done = await self._aegis_gate.through(
                self._aegis_tool,
                local_actions.COMPUTER,
                lambda: local_actions.of_computer(name, positional, named),
                lambda: method(*positional, **named),
                _end_the_run,
            )
            self._aegis_shown = name == "screenshot"
            return done

        return act


def _end_the_run(text: str) -> NoReturn:
    raise UserError(text)
