"""Refuse every run of an agent, where calls cannot be refused one by one. Imports only `agents`."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, NoReturn

import agents

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.errors import ConfigError

_TEXT = "[AEGIS ERROR] Action not run: governance is unavailable"
_patches = Patches()


def refuse_runs(why: str) -> None:
    """Make every way to start a run raise ConfigError with the reason, until `let_run`."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:  # noqa: ARG001
        raise ConfigError(f"{_TEXT}: {why}")

    let_run()
    starters: list[Any] = [agents.Runner]
    for module, name in (("agents.run", "AgentRunner"), ("agents.realtime", "RealtimeRunner")):
        with contextlib.suppress(ImportError, AttributeError):
            starters.append(getattr(importlib.import_module(module), name))
    for starter in starters:
        for name in ("run", "run_sync", "run_streamed"):
            if hasattr(starter, name):
                _patches.set(starter, name, staticmethod(refuse))


def let_run() -> None:
    """Let runs start again."""
    _patches.undo()
