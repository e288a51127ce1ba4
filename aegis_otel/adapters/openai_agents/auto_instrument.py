"""Start governance for `AegisInstrumentor` once everything could be imported; fail closed."""

from __future__ import annotations

import logging
from typing import Any

from aegis_otel.adapters.openai_agents.capture.refused_runs import let_run, refuse_runs
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.adapters.openai_agents.instrument import PROVIDERS, Instrumentation, instrument
from aegis_otel.config import monitors
from aegis_otel.errors import AegisError
from aegis_otel.governance import refusal
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.model import Mode
from aegis_otel.policy import Policy
from aegis_otel.runtime.runtime import Runtime
from aegis_otel.telemetry.export_setup import configure_otlp
from aegis_otel.telemetry.recorder import Recorder

_log = logging.getLogger("aegis_otel")
_LONGEST_REASON = 300


def start(**settings: Any) -> None:
    """Govern tool calls; where that fails, refuse every call with the reason, except in monitor mode."""
    providers = {name: settings[name] for name in PROVIDERS if settings.get(name) is not None}
    if not providers:  # a program that gives some exports by itself
        try:
            configure_otlp()
        except Exception as error:
            _log.error("signals are not exported: %s", describe(error))
    try:
        instrument(**settings).by_loader = True
    except Exception as error:
        reason = safe_text(str(error)) if isinstance(error, AegisError) else describe(error)
        if monitors(settings.get("mode")):
            _log.error("tool calls are neither governed nor recorded: %s", reason)
        elif CapturePoint.installed is not None and CapturePoint.installed.mode is Mode.ENFORCE:
            _log.error("tool calls stay governed as they were: %s", reason)
        else:
            _log.critical("governance could not start, so every tool call is refused: %s", reason)
            _refuse_calls(reason.partition("\n")[0][:_LONGEST_REASON], providers)


def stop() -> None:
    """Stop governing, or refusing."""
    let_run()
    if Instrumentation.current is not None:
        Instrumentation.current.uninstrument()


def _refuse_calls(why: str, providers: dict[str, Any]) -> None:
    try:
        block_all = Policy.from_dict(
            {"version": "1", "defaults": {"risk_level": "critical", "approval": "block"}, "rules": []}
        )
        usable = {name: given for name, given in providers.items() if hasattr(given, PROVIDERS[name])}
        runtime = Runtime(policy=block_all, mode=Mode.ENFORCE, recorder=Recorder(**usable))
        runtime.governor.unavailable = refusal.unavailable(why)
        instrument(runtime=runtime).by_loader = True
    except Exception as worse:
        _log.critical("nor can calls be refused one by one, so every run is: %s", describe(worse))
        refuse_runs(why)
