"""`opentelemetry-instrument python app.py`: governance without a line of code."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from aegis_otel.adapters.openai_agents.install import refuse_runs
from aegis_otel.adapters.openai_agents.instrumentation import Instrumentation, instrument
from aegis_otel.config import MODE
from aegis_otel.errors import AegisError
from aegis_otel.model import Mode
from aegis_otel.policy import Policy
from aegis_otel.runtime import refusal
from aegis_otel.runtime.describe import describe
from aegis_otel.runtime.runtime import Runtime
from aegis_otel.telemetry.otlp import configure_otlp

_log = logging.getLogger("aegis_otel")
_LONGEST_REASON = 300


class AegisInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """`instrument()` for OpenTelemetry's loader (entry point `aegis`); settings are environment variables.

    The loader swallows what an instrumentor raises, and the program would run ungoverned. So nothing is
    raised here: where governance cannot start, every tool call is refused with the reason, unless
    `AEGIS_MODE=monitor`.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the loader silently skips one whose dependencies conflict. The self-test looks instead."""
        return ()

    def _instrument(self, **settings: Any) -> None:
        try:
            configure_otlp()
        except Exception as error:
            _log.error("signals are not exported: %s", describe(error))
        try:
            instrument(**settings)
        except Exception as error:
            _fail_closed(error, settings.get("mode"))

    def _uninstrument(self, **settings: Any) -> None:  # noqa: ARG002
        if Instrumentation.current is not None:
            Instrumentation.current.uninstrument()


def _fail_closed(error: Exception, mode: Mode | str | None) -> None:
    reason = describe(error) if not isinstance(error, AegisError) else str(error)
    if _monitors(mode):
        _log.error("tool calls are neither governed nor recorded: %s", reason)
        return
    _log.critical("governance could not start, so every tool call is refused: %s", reason)
    why = reason.partition("\n")[0][:_LONGEST_REASON]
    try:
        nothing = Policy.from_dict(
            {"version": "1", "defaults": {"risk_level": "critical", "approval": "block"}, "rules": []}
        )
        runtime = Runtime(policy=nothing, mode=Mode.ENFORCE)
        runtime.governor.unavailable = refusal.unavailable(why)
        instrument(runtime=runtime)
    except Exception as worse:
        _log.critical("nor can calls be refused one by one, so every run is: %s", describe(worse))
        refuse_runs(why)


def _monitors(mode: Mode | str | None) -> bool:
    try:
        return MODE.value(mode) == Mode.MONITOR
    except AegisError:
        return False
