"""Grafana as code: dashboards, alert rules and their provisioning, from the names that aegis-otel emits."""
