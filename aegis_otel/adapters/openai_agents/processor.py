"""`AegisTracingProcessor`: governance for a program that only registers tracing processors."""

from __future__ import annotations

import logging
from typing import Unpack

from aegis_otel.adapters.openai_agents.instrument import Instrumentation, PolicySource, Settings, govern
from aegis_otel.adapters.openai_agents.tracing.span_bridge import SpanBridge
from aegis_otel.config import MODE
from aegis_otel.model import Mode
from aegis_otel.runtime.runtime import Runtime

_log = logging.getLogger("aegis_otel")


class AegisTracingProcessor(SpanBridge):
    """Decides before each tool's body, and bridges the SDK's traces: for `agents.add_trace_processor(...)`.

    A processor cannot stop the SDK, so decisions are made at the same capture point as those of
    `instrument()`. It is in place from the moment this object is made, with tracing on or off.

    Args:
        policy: As for `instrument`.
        runtime: A Runtime of your own in place of `policy`; it has a mode of its own.
        settings: As for `instrument`, but that `mode` is `monitor` where it is not given: what would have
            happened is recorded, and nothing is blocked.

    Raises:
        AegisError: as `instrument` does; nothing is in place then.
    """

    def __init__(
        self,
        policy: PolicySource | None = None,
        *,
        runtime: Runtime | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if runtime is None:
            settings["mode"] = MODE._replace(default="monitor").value(settings.get("mode"))
        self.instrumentation: Instrumentation = govern(policy, runtime=runtime, **settings)
        super().__init__(*self.instrumentation.runtime.recorder.bridged)
        self.instrumentation.bridges.append(self)
        if self.instrumentation.runtime.mode is Mode.MONITOR:
            _log.warning("monitor mode: tool calls are decided on and recorded, and none is stopped")
