"""Calls as OpenTelemetry spans, events and metrics."""
