"""Policy, audit and OpenTelemetry for the tool calls of AI agents.

Importing this package starts nothing and opens nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aegis_otel.version import __version__

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
    from aegis_otel.governance.plan import ExecutionPlan
    from aegis_otel.instrumentor import AegisInstrumentor
    from aegis_otel.model import Action, Approval, PolicyDecision, Result, ResultStatus, RiskLevel
    from aegis_otel.policy import Policy
    from aegis_otel.runtime.policy_reload import PolicyWatcher
    from aegis_otel.runtime.runtime import Runtime
    from aegis_otel.telemetry.export_setup import configure_otlp

_HOME = {
    "Action": "model",
    "AegisError": "errors",
    "AegisInstrumentor": "instrumentor",
    "AegisTracingProcessor": "adapters.openai_agents.instrument",
    "Approval": "model",
    "AuditError": "errors",
    "ConfigError": "errors",
    "ExecutionPlan": "governance.plan",
    "Instrumentation": "adapters.openai_agents.instrument",
    "Policy": "policy",
    "PolicyDecision": "model",
    "PolicyError": "errors",
    "PolicyWatcher": "runtime.policy_reload",
    "Result": "model",
    "ResultStatus": "model",
    "RiskLevel": "model",
    "Runtime": "runtime.runtime",
    "RuntimeHooks": "governance.hooks",
    "configure_otlp": "telemetry.export_setup",
    "connect": "audit.query.connection",
    "govern_agent": "adapters.openai_agents.govern_agent",
    "instrument": "adapters.openai_agents.instrument",
}

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
    "__version__",
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
