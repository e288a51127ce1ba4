"""The record of a call as OpenTelemetry spans, events and metrics. Only `otlp` touches the SDK."""
