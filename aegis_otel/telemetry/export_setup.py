"""OTLP export from the standard `OTEL_*` variables.

The SDK's own reading of these variables can be had only through `opentelemetry-instrument` or private names.
Read here is which signals go out and how; the rest (headers, timeouts, certificates, compression, batching,
sampling, resource) the SDK's classes read themselves.
"""

# ruff: noqa: PLC0415  (the SDK is imported where there is something to export)

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.metrics import get_meter_provider, set_meter_provider
from opentelemetry.trace import get_tracer_provider, set_tracer_provider

from aegis_otel.errors import ConfigError
from aegis_otel.telemetry.exporters import ExportWatch, http_session

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider


_log = logging.getLogger("aegis_otel")

Signal = Literal["traces", "logs", "metrics"]

_GRPC_PORT = 4317
_SESSION_VARIABLES = tuple(
    f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{of}CREDENTIAL_PROVIDER" for of in ("", "LOGS_", "TRACES_", "METRICS_")
)
"""Variables that name a session of the user's own, which an exporter that is given one would not read."""
_TRANSPORTS = {"": "http", "http/protobuf": "http", "grpc": "grpc"}


def configure_otlp() -> tuple[Signal, ...]:
    """Export over OTLP every signal that has an endpoint and no provider yet.

    An endpoint is `OTEL_EXPORTER_OTLP_ENDPOINT`, or a signal's own, such as
    `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; the protocol is `OTEL_EXPORTER_OTLP_PROTOCOL` or a signal's own,
    `http/protobuf` when neither is set. `OTEL_TRACES_EXPORTER` and its like must name `otlp`, where set.
    `OTEL_SDK_DISABLED=true` turns everything off. `OTEL_TRACES_SAMPLER` may also be `aegis_traceidratio`
    (`telemetry.sampler`). What is buffered is sent when the interpreter exits, for three seconds at most.

    Returns:
        The signals exported from now on because of this call.

    Raises:
        ConfigError: a variable has a value that cannot work. Nothing was installed.
    """
    if not _is_disabled():
        for signal in _WAYS:
            _report_other_exporters(signal)
    return set_up_export()


def set_up_export() -> tuple[Signal, ...]:
    """Do what `configure_otlp` does, without a word about exporters that are not OTLP's: for commands."""
    if _is_disabled():
        return ()
    transports = {signal: _transport(signal) for signal in _WAYS if _is_wanted(signal)}
    if not transports:
        return ()
    from opentelemetry.sdk.resources import Resource

    providers: list[Any] = []
    exports = ExportWatch()
    try:
        resource = Resource.create()  # one for all signals: its instance id may be random
        for signal, transport in transports.items():
            exporter = _exporter(transport, _WAYS[signal].exporter)
            exports.watch(exporter, signal, *_of_signal_or_general(signal, "ENDPOINT"))
            providers.append(_WAYS[signal].make(exporter, resource))
    except Exception as error:  # whatever the SDK's classes make of their variables
        for provider in providers:
            provider.shutdown()
        raise _unusable(error) from error
    for signal, provider in zip(transports, providers, strict=True):
        _WAYS[signal].install(provider)
    exports.finish_at_exit(providers)
    return tuple(transports)


def log_exporter(endpoint: str | None = None, *, patience_s: float | None = None) -> LogRecordExporter:
    """Return an exporter for log records, as the `OTEL_*` variables say.

    Args:
        endpoint: As `OTEL_EXPORTER_OTLP_ENDPOINT`, and in place of it.
        patience_s: Seconds after which it gives up, its retries included; else as the variables say.

    Raises:
        ConfigError: there is no endpoint, or a variable has a value that cannot work.
    """
    if endpoint is None and not _of_signal_or_general("logs", "ENDPOINT")[1]:
        raise ConfigError("no endpoint: set OTEL_EXPORTER_OTLP_ENDPOINT, or give `--endpoint URL`")
    transport = _transport("logs", endpoint)
    options: dict[str, Any] = {} if patience_s is None else {"timeout": patience_s}
    if endpoint is not None:
        options["endpoint"] = f"{endpoint.rstrip('/')}/v1/logs" if transport == "http" else endpoint
    try:
        exporter: LogRecordExporter = _exporter(transport, _WAYS["logs"].exporter, **options)
    except Exception as error:  # whatever the SDK's classes make of their variables
        raise _unusable(error) from error
    return exporter


def provided() -> tuple[Signal, ...]:
    """Return the signals that somebody in this process has installed a provider for."""
    return tuple(signal for signal in _WAYS if _is_installed(signal))


def may_be_meant_for_grpc() -> bool:
    """Return whether log records go by HTTP to the port that is usually gRPC's."""
    try:
        port = urlsplit(_of_signal_or_general("logs", "ENDPOINT")[1]).port
    except ValueError:
        return False
    return port == _GRPC_PORT and _of_signal_or_general("logs", "PROTOCOL")[1] != "grpc"


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(f"OTLP export cannot be set up: {error}; correct the `OTEL_*` variables")


def _is_disabled() -> bool:
    return _read("OTEL_SDK_DISABLED").lower() == "true"


def _report_other_exporters(signal: Signal) -> None:
    """Log each exporter that the signal's variable names and that nobody in this process sets up."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in _read(variable).split(",")]
    others = sorted(name for name in names if name.lower() not in ("", "otlp", "none"))
    if others and not _is_installed(signal):
        _log.warning(
            "`%s` in %s is not set up: aegis-otel knows `otlp` and `none`; with opentelemetry-distro "
            "installed, `opentelemetry-instrument` knows more",
            ", ".join(others),
            variable,
        )


def _is_wanted(signal: Signal) -> bool:
    exporters = _read(f"OTEL_{signal.upper()}_EXPORTER") or "otlp"
    named = "otlp" in [name.strip() for name in exporters.split(",")]
    return named and _of_signal_or_general(signal, "ENDPOINT")[1] != "" and not _is_installed(signal)


def _is_installed(signal: Signal) -> bool:
    # What the API holds until somebody installs a provider; two of the three types are private.
    return not type(_WAYS[signal].current()).__name__.lstrip("_").startswith("Proxy")


def _transport(signal: Signal, given_endpoint: str | None = None) -> str:
    """Return `http` or `grpc`; refuse what the exporters would only find out when they export."""
    variable, protocol = _of_signal_or_general(signal, "PROTOCOL")
    transport = _TRANSPORTS.get(protocol)
    if transport is None:
        raise ConfigError(f"`{protocol}` in {variable} is not supported; use `http/protobuf` or `grpc`")
    variable, endpoint = "--endpoint", given_endpoint
    if endpoint is None:
        variable, endpoint = _of_signal_or_general(signal, "ENDPOINT")
    if transport == "http" and not _is_url(endpoint):
        raise ConfigError(
            f"`{endpoint}` in {variable} is no URL; write it as `http://localhost:4318`, or set "
            "OTEL_EXPORTER_OTLP_PROTOCOL to `grpc`"
        )
    return transport


def _is_url(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _of_signal_or_general(signal: Signal, setting: str) -> tuple[str, str]:
    """Return the name and value of the variable that holds for a signal; an empty one counts as not set."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}"
    variable = own if _read(own) else f"OTEL_EXPORTER_OTLP_{setting}"
    return variable, _read(variable)


def _read(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _exporter(transport: str, path: str, **options: Any) -> Any:
    module, _, name = path.partition(".")
    if transport == "http" and not any(map(_read, _SESSION_VARIABLES)):
        options["session"] = http_session()
    return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{transport}.{module}"), name)(**options)


def _traces(exporter: Any, resource: Resource) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from aegis_otel.telemetry import sampler

    # The SDK's provider knows its own samplers only: `opentelemetry-instrument` looks at entry points.
    ours = _read("OTEL_TRACES_SAMPLER").lower() == sampler.NAME
    chosen = sampler.from_argument(_read("OTEL_TRACES_SAMPLER_ARG")) if ours else None
    provider = TracerProvider(chosen, resource, shutdown_on_exit=False)  # `ExportWatch` ends it
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _logs(exporter: Any, resource: Resource) -> LoggerProvider:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider


def _metrics(exporter: Any, resource: Resource) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return MeterProvider([PeriodicExportingMetricReader(exporter)], resource, shutdown_on_exit=False)


class _Way(NamedTuple):
    """How one signal goes out: by the global provider, one that is made, and a class of the exporters'."""

    current: Callable[[], object]
    install: Callable[[Any], None]
    make: Callable[[Any, Resource], Any]
    exporter: str


_WAYS: dict[Signal, _Way] = {
    "traces": _Way(get_tracer_provider, set_tracer_provider, _traces, "trace_exporter.OTLPSpanExporter"),
    "logs": _Way(get_logger_provider, set_logger_provider, _logs, "_log_exporter.OTLPLogExporter"),
    "metrics": _Way(get_meter_provider, set_meter_provider, _metrics, "metric_exporter.OTLPMetricExporter"),
}
