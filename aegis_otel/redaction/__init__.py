"""Redact and serialize: nothing leaves the process, to disk, telemetry or a terminal, but through here."""
