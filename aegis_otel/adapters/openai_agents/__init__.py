"""Governance for the tools of the OpenAI Agents SDK."""

from aegis_otel.adapters.openai_agents.governed_tool import governed_tool
from aegis_otel.adapters.openai_agents.plain_guardrail import governance_guardrail
from aegis_otel.adapters.openai_agents.sdk_approvals import answered_by

__all__ = ["answered_by", "governance_guardrail", "governed_tool"]
