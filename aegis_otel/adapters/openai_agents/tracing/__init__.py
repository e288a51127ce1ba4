"""Bring the SDK's own spans to OpenTelemetry, beside other packages that do."""
