"""Governance for the tools of the OpenAI Agents SDK."""

from aegis_otel.adapters.openai_agents.governed_tool import governed_tool

__all__ = ["governed_tool"]
