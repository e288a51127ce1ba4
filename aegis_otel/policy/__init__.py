"""Policies: documents are parsed, compiled and evaluated in three steps with three types."""

from aegis_otel.policy.policy import Policy, RuleSummary

__all__ = ["Policy", "RuleSummary"]
