"""Governance for the tools of the OpenAI Agents SDK."""

# ruff: noqa: E402  (an SDK that is too old is named before its imports fail)

from aegis_otel.adapters.openai_agents.sdk_version import check_sdk

check_sdk()

from aegis_otel.adapters.openai_agents.capture.approval_answers import answered_by
from aegis_otel.adapters.openai_agents.governed_tool import governed_tool
from aegis_otel.adapters.openai_agents.guardrail import governance_guardrail

__all__ = ["answered_by", "governance_guardrail", "governed_tool"]
