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

from aegis_otel.adapters.openai_agents.gates import local_actions
from aegis_otel.adapters.openai_agents.gates.local_gate import LocalGate, StandIn

COMPUTER = "computer"
"""What a computer's actions are called; the SDK's own name for it is that of a preview long gone."""


class Shell(StandIn):
    """The executor of a `ShellTool`."""

    async def __call__(self, request: Any) -> Any:
        request = dataclasses.replace(request, data=copy.deepcopy(request.data))
        return await self._self_gate.through(
            self._self_tool,
            local_actions.SHELL,
            lambda: local_actions.of_shell(request),
            lambda: self.__wrapped__(request),
            str,
            call_id=request.data.call_id,
        )


class LocalShell(StandIn):
    """The executor of a `LocalShellTool`."""

    async def __call__(self, request: Any) -> Any:
        request = dataclasses.replace(request, data=copy.deepcopy(request.data))
        return await self._self_gate.through(
            self._self_tool,
            local_actions.LOCAL_SHELL,
            lambda: local_actions.of_local_shell(request),
            lambda: self.__wrapped__(request),
            str,
            call_id=request.data.call_id,
        )


class Custom(StandIn):
    """The invoker of a `CustomTool`."""

    async def __call__(self, context: Any, text: str) -> Any:
        return await self._self_gate.through(
            self._self_tool,
            local_actions.CUSTOM,
            lambda: {"input": text},
            lambda: self.__wrapped__(context, text),
            str,
            call_id=getattr(context, "tool_call_id", None),
        )


class Editor(StandIn):
    """The editor of an `ApplyPatchTool`: each operation of a patch is decided on its own."""

    async def create_file(self, operation: Any) -> Any:
        return await self._apply(self.__wrapped__.create_file, operation)

    async def update_file(self, operation: Any) -> Any:
        return await self._apply(self.__wrapped__.update_file, operation)

    async def delete_file(self, operation: Any) -> Any:
        return await self._apply(self.__wrapped__.delete_file, operation)

    async def _apply(self, method: Callable[[Any], Any], operation: Any) -> Any:
        operation = dataclasses.replace(operation)
        return await self._self_gate.through(
            self._self_tool,
            local_actions.APPLY_PATCH,
            lambda: local_actions.of_patch(operation),
            lambda: method(operation),
            lambda text: ApplyPatchResult(status="failed", output=text),
        )


class Computer(StandIn):
    """A computer: each of its actions is decided on its own.

    A computer answers with pictures only, so there is no text by which a refusal could reach the model:
    it ends the run. The screenshot that the SDK takes after a permitted action is that action's result.
    """

    def __init__(
        self, own: Any, gate: LocalGate, tool: str = COMPUTER, *, screenshots: int | None = None
    ) -> None:
        """
        Args:
            own: The user's computer.
            gate: Before it.
            tool: What its actions are called.
            screenshots: How many the model asks for in this call. Where that is not known, the first one
                after another action is taken for that action's result.
        """
        super().__init__(own, gate, tool)
        self._self_asked = screenshots
        self._self_shown = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.__wrapped__, name)
        if name.startswith("_") or not callable(method):
            return method

        @functools.wraps(method)  # the SDK looks which keywords it takes
        async def act(*positional: Any, **named: Any) -> Any:
            if name == "screenshot" and self._self_is_result():
                shown = method()
                return await shown if inspect.isawaitable(shown) else shown
            positional, named = copy.deepcopy((positional, named))
            done = await self._self_gate.through(
                self._self_tool,
                local_actions.COMPUTER,
                lambda: local_actions.of_computer(name, positional, named),
                lambda: method(*positional, **named),
                _end_the_run,
            )
            self._self_shown = name == "screenshot"
            return done

        return act

    def _self_is_result(self) -> bool:
        """Return whether the screenshot that comes now is the SDK's, of what was done before."""
        if self._self_asked is None:
            is_result = not self._self_shown
            self._self_shown = True
            return is_result
        self._self_asked -= 1
        return self._self_asked < 0


def _end_the_run(text: str) -> NoReturn:
    raise UserError(text)
