"""Policy, audit and OpenTelemetry for the tool calls of AI agents.

Importing this package starts nothing and opens nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aegis_otel.semconv import __version__

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.govern_agent import govern_agent
    from aegis_otel.adapters.openai_agents.instrument import (
        AegisTracingProcessor,
        Instrumentation,
        instrument,
    )
    from aegis_otel.audit.query.connection import connect
    from aegis_otel.errors import AegisError, AuditError, ConfigError, PolicyError
    from aegis_otel.governance.hooks import RuntimeHooks
    from aegis_otel.governance.subject import acting_for
    from aegis_otel.instrumentor import AegisInstrumentor
    from aegis_otel.model import Action, Approval, PolicyDecision, Result, ResultStatus, RiskLevel, Subject
    from aegis_otel.policy import Policy
    from aegis_otel.runtime.plan import ExecutionPlan
    from aegis_otel.runtime.policy_reload import PolicyWatcher
    from aegis_otel.runtime.runtime import Runtime
    from aegis_otel.telemetry.export_setup import configure_otlp

_NAMES = {
    "adapters.openai_agents.govern_agent": ("govern_agent",),
    "adapters.openai_agents.instrument": ("AegisTracingProcessor", "Instrumentation", "instrument"),
    "audit.query.connection": ("connect",),
    "errors": ("AegisError", "AuditError", "ConfigError", "PolicyError"),
    "governance.hooks": ("RuntimeHooks",),
    "runtime.plan": ("ExecutionPlan",),
    "governance.subject": ("acting_for",),
    "instrumentor": ("AegisInstrumentor",),
    "model": ("Action", "Approval", "PolicyDecision", "Result", "ResultStatus", "RiskLevel", "Subject"),
    "policy": ("Policy",),
    "runtime.policy_reload": ("PolicyWatcher",),
    "runtime.runtime": ("Runtime",),
    "telemetry.export_setup": ("configure_otlp",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Action",
    "AegisError",
    "AegisInstrumentor",
    "AegisTracingProcessor",
    "Approval",
    "AuditError",
    "ConfigError",
    "ExecutionPlan",
    "Instrumentation",
    "Policy",
    "PolicyDecision",
    "PolicyError",
    "PolicyWatcher",
    "Result",
    "ResultStatus",
    "RiskLevel",
    "Runtime",
    "RuntimeHooks",
    "Subject",
    "__version__",
    "acting_for",
    "configure_otlp",
    "connect",
    "govern_agent",
    "instrument",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
