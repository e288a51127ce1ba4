"""Check the path of signals for `aegis doctor`: the endpoint, the collector, and whether an event arrives."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aegis_otel import semconv
from aegis_otel.cli.doctor.checks import FAILED, OK, WARNING, Check
from aegis_otel.cli.exporter_messages import exporters_quiet

_ENDPOINT = re.compile(r"OTEL_EXPORTER_OTLP_((TRACES|METRICS|LOGS)_)?ENDPOINT")
_HEALTH_PORT = 13133
"""The port of the collector's `health_check` extension."""
_PATIENCE_S = 15.0
_HEALTH_S = _EXPORT_S = 3.0


def check_export(health: str | None, file: Path | None, program: str | None) -> Iterator[Check]:
    """Check that signals have somewhere to go, and send one there.

    Args:
        health: The URL of a collector's health check; by default the usual port beside the endpoint.
        file: The file that the collector writes events to (OTLP/JSON); the probe must arrive in it.
        program: The module that was imported, whose providers are checked.
    """
    names = sorted(name for name, value in os.environ.items() if _ENDPOINT.fullmatch(name) and value.strip())
    if names:
        yield _sender(f"OTLP, by {', '.join(names)}", program)
        yield from _health(health)
        yield _probe(file)
    elif health or file:
        option = "--arrives-in" if file else "--health"
        detail = f"no OTLP endpoint: `{option}` needs one, set OTEL_EXPORTER_OTLP_ENDPOINT"
        yield Check("export", FAILED, detail)
    else:
        detail = "no OTLP endpoint: signals go nowhere unless the program installs providers"
        yield Check("export", WARNING, detail)


def _sender(way: str, program: str | None) -> Check:
    """Check that something sends signals: an endpoint does nothing by itself."""
    from aegis_otel.telemetry.export_setup import provided

    start = "opentelemetry-instrument"
    if program is None:
        detail = f"{way}: a program sends there once it calls configure_otlp(), or is started by {start}"
        return Check("export", OK, detail)
    if signals := provided():
        return Check("export", OK, f"{way}: `{program}` has providers for {', '.join(signals)}")
    detail = (
        f"an endpoint is set, but `{program}` installs no provider: call configure_otlp(), "
        f"or start it with {start}"
    )
    return Check("export", WARNING, detail)


def _health(given: str | None) -> Iterator[Check]:
    """Ask the collector for its health; if no URL was given, a missing answer is not reported."""
    url = given or _beside_the_endpoint()
    if url is None:
        return
    import httpx2

    try:
        status = httpx2.get(url, timeout=_HEALTH_S, trust_env=False).status_code
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError):
        detail = f"`{url}` is no URL: write it as `http://localhost:{_HEALTH_PORT}`"
        yield Check("collector", FAILED, detail)
    except httpx2.HTTPError as error:
        if given is not None:
            yield Check("collector", FAILED, f"`{url}` does not answer: {type(error).__name__}")
    else:
        if status == httpx2.codes.OK:
            yield Check("collector", OK, f"`{url}` says that it is well")
        else:
            yield Check("collector", FAILED, f"`{url}` answers {status}: see the collector's own log")


def _beside_the_endpoint() -> str | None:
    for name in ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if text := os.environ.get(name, "").strip():
            try:
                host = urlsplit(text if "//" in text else f"//{text}").hostname
            except ValueError:
                return None
            return f"http://{f'[{host}]' if host and ':' in host else host}:{_HEALTH_PORT}/" if host else None
    return None


def _probe(file: Path | None) -> Check:
    """Send a test event, and wait until it is in the file, if one was given."""
    from aegis_otel.telemetry.export_setup import log_exporter, may_be_meant_for_grpc
    from aegis_otel.telemetry.outbox import Outbox
    from aegis_otel.telemetry.resend import send_probe

    if file is not None and not file.parent.is_dir():
        return Check("probe", FAILED, f"nothing can arrive in `{file}`: its directory does not exist")
    decision = str(uuid.uuid4())
    with exporters_quiet() as messages:
        taken = send_probe(Outbox(log_exporter(patience_s=_EXPORT_S)), decision)
    if not taken:
        why = f": {messages.why}" if messages.why else ""
        hint = "is the collector up?"
        if may_be_meant_for_grpc():
            grpc = "port 4317 is usually gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL to `grpc`, or try port 4318"
            hint = f"{grpc}; else {hint}"
        return Check("probe", FAILED, f"the endpoint did not take an event{why}; {hint}")
    if file is None:
        return Check("probe", OK, "the endpoint took an event")
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        if _is_in(file, decision):
            return Check("probe", OK, f"an event arrived in `{file}`")
        time.sleep(0.1)
    detail = (
        f"the endpoint took an event, and after {_PATIENCE_S:g} s it is not in `{file}`: "
        "see that the collector's pipeline of logs ends there"
    )
    return Check("probe", FAILED, detail)


def _is_in(file: Path, decision: str) -> bool:
    from aegis_otel.audit.verify.witness import read_events

    if not file.exists():
        return False
    found = (event for _, event in read_events(file, semconv.EVENT_PROBE) if event)
    return any(event.get(semconv.DECISION_ID) == decision for event in found)
