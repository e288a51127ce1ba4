"""The capture point, installed for one test and surely taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents import (
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    RunContextWrapper,
    ShellTool,
)
from agents.agent import AgentBase
from agents.run_internal import tool_actions

from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from tests.support.kit import Bench

_TOUCHED = (
    *(FunctionTool, ShellTool, LocalShellTool, ApplyPatchTool, CustomTool, ComputerTool),
    *(AgentBase, RunContextWrapper),
    *(getattr(tool_actions, name) for name in tool_actions.__all__),
)


def _state() -> dict[tuple[str, str], Any]:
    return {
        (owner.__name__, name): value
        for owner in _TOUCHED
        for name, value in vars(owner).items()
        if not name.startswith("__")
    }


@pytest.fixture
def installed(bench: Callable[..., Bench]) -> Iterator[Callable[..., Bench]]:
    """Makes a Runtime as `bench` does and installs it in the SDK's classes, which are restored afterwards."""
    before = _state()
    points: list[CapturePoint] = []

    def install(*answers: Any, targets: Any = None, approvals: str = "handler", **options: Any) -> Bench:
        settings = {"approvals": approvals, "on_ungoverned": options.pop("on_ungoverned", "warn")}
        made = bench(*answers, **options)
        points.append(CapturePoint(made.runtime.governor, targets or {}, **settings))
        points[-1].install()
        return made

    yield install
    for point in points:
        point.uninstall()
    assert _state() == before
