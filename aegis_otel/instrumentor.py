"""`opentelemetry-instrument python app.py`: governance without a line of code.

OpenTelemetry's loader passes over an instrumentor that cannot be imported, and stops loading when another
one raises; either way the program would run ungoverned. So nothing is imported here that could be missing,
and runs are refused from before the first instrumentor is loaded until governance stands.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from aegis_otel.config import monitors
from aegis_otel.errors import AegisError

NAME = "aegis"
"""The name of the entry point; in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS it switches governance off."""

_NOT_RUN = "governance could not start, so the program is not run"
_log = logging.getLogger("aegis_otel")


class AegisInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Calls `instrument()` for OpenTelemetry's loader; settings are environment variables.

    Nothing is raised here: where governance cannot start, every tool call is refused with the reason, or
    every run where not even that can be had, unless `AEGIS_MODE=monitor`.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return none: the loader skips an instrumentor with a conflict in silence. The self-test checks."""
        return ()

    def _instrument(self, **settings: Any) -> None:
        try:
            from aegis_otel.adapters.openai_agents import auto_instrument  # noqa: PLC0415

            _let_run()  # the self-test is a run
            auto_instrument.start(**settings)
        except Exception as error:
            if monitors(settings.get("mode")):
                _log.error("tool calls are neither governed nor recorded", exc_info=True)
                return
            if isinstance(error, AegisError):  # it says itself what is wrong, and where
                raise SystemExit(f"aegis-otel: {_NOT_RUN}: {error}") from None
            _refuse_runs(f"{type(error).__name__} when it was to start")
            _log.critical("governance could not start, so every run is refused", exc_info=True)

    def _uninstrument(self, **settings: Any) -> None:  # noqa: ARG002
        from aegis_otel.adapters.openai_agents import auto_instrument  # noqa: PLC0415

        auto_instrument.stop()


def before_instrumentors() -> None:
    """Refuse runs until the turn of `AegisInstrumentor` (entry point `opentelemetry_pre_instrument`)."""
    switched_off = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    if not {NAME, "*"} & {name.strip() for name in switched_off} and not monitors(None):
        try:
            _refuse_runs("the loading of instrumentors broke off before it could start")
        except AegisError as error:
            _end(str(error))


def _end(why: str) -> None:
    """End the process before the program begins: with this SDK not even its runs can be refused.

    The loader passes over exceptions, and the program would run ungoverned.
    """
    sys.stderr.write(f"aegis-otel: {_NOT_RUN}: {why}\n")
    sys.stderr.flush()
    os._exit(1)


def _refuse_runs(why: str) -> None:
    try:
        from aegis_otel.adapters.openai_agents.capture.refused_runs import refuse_runs  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "agents":
            raise
        return  # no SDK, no agents: nothing can run ungoverned
    refuse_runs(why)


def _let_run() -> None:
    from aegis_otel.adapters.openai_agents.capture.refused_runs import let_run  # noqa: PLC0415

    let_run()
