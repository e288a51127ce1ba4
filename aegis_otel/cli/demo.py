"""`aegis demo`: run governed agents, so that there is something to look at.

The demo's programs are in `examples/demo`; the wheel has them as `aegis_otel/_demo`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import sys
from importlib import import_module, util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from aegis_otel.audit.location import address, locate
from aegis_otel.cli.exporter_messages import ExporterMessages
from aegis_otel.cli.rendering import progress_bar
from aegis_otel.errors import AegisError, ConfigError
from aegis_otel.redaction.terminal import escape

_DEFAULT = "aegis_demo_audit"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_ENVIRONMENT = {"OTEL_SERVICE_NAME": "aegis-demo", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
"""Set unless the environment sets them: at the usual interval, a minute, a short demo would be one point."""
_GRAFANA = 3000
_PACKAGE = Path(__file__).parents[1]


@click.command(short_help="Run demo agents, to have something to look at.")
@click.option(
    "--minutes",
    metavar="N",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=1.0,
    show_default=True,
    help="How long to run.",
)
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(0, 200, min_open=True),
    default=5.0,
    show_default=True,
    help="Tool calls a second, on average.",
)
@click.option(
    "--endpoint",
    metavar="URL",
    help=f"Send the signals there over OTLP, such as http://localhost:4318.  [default: {_ENDPOINT}]",
)
@click.option("--path", metavar="DIR", help=f"A new directory for the audit.  [default: {_DEFAULT}]")
@click.option("--seed", metavar="N", type=int, default=1, show_default=True, help="Choose what happens.")
def demo(*, minutes: float, rate: float, endpoint: str | None, path: str | None, seed: int) -> None:
    """Run four agents under a policy for a while, and print where to look at what they did.

    All of it is real, except that the model is scripted and the tools do nothing. Searches run, refunds are
    approved, denied or left unanswered, tools fail, deletions are blocked, the policy is changed halfway,
    and a process dies. The same --seed gives the same story. Ctrl-C ends it early.
    """
    audit = _new_directory(path)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if endpoint is not None:
        os.environ[_ENDPOINT] = endpoint

    from aegis_otel.telemetry.export_setup import configure_otlp

    play = _load("play")
    is_exported = bool(configure_otlp())
    play.trace_to_opentelemetry_alone()
    if is_exported:
        _check_endpoint(os.environ.get(_ENDPOINT, ""))
    unsent = ExporterMessages()
    for name in ("opentelemetry", "aegis_otel.signals"):
        logger = logging.getLogger(name)
        logger.addHandler(unsent)
        logger.propagate = False
    with TemporaryDirectory(prefix="aegis-demo-") as folder, progress_bar("Calls") as progress:
        load = play.Load(audit, Path(folder) / "policy.yaml", seed, minutes * 60, rate)
        played = asyncio.run(
            play.play(
                load,
                on_progress=lambda done: progress(done, load.calls),
                say=lambda sentence: click.echo(sentence, err=True),
            )
        )
    _print_summary(audit, is_early=played.stopped)
    if is_exported:
        _print_signals(unsent.why or ("" if played.sent else "sending them took too long"))
    else:
        click.echo("\nNo OTLP endpoint was set, so the signals went nowhere: see --endpoint.")


def _load(name: str) -> ModuleType:
    """Import a module of the demo's programs, from the wheel or from a source checkout."""
    folder = _PACKAGE / "_demo"
    if not folder.is_dir():
        folder = _PACKAGE.parent / "examples" / "demo"
    spec = util.spec_from_file_location("aegis_demo", folder / "__init__.py")
    if spec is None or spec.loader is None or not folder.is_dir():
        raise AegisError(
            "the programs of the demo are not installed: install the wheel, or a source checkout"
        )
    sys.modules[spec.name] = package = util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return import_module(f"{spec.name}.{name}")


def _new_directory(path: str | None) -> Path:
    """Return the directory for the audit: never that of another audit, whose calls were real.

    Raises:
        ConfigError: there is something at the place that was given.
    """
    if path is not None:
        if address(path) is not None:
            raise ConfigError("the audit of a demo must be a directory on this machine: give --path DIR")
        directory = locate(path)
        if not _is_free(directory):
            raise ConfigError(
                f"`{directory}` exists already, or cannot be read: a demo needs a new directory for its audit"
            )
        return directory
    number = 1
    while not _is_free(directory := locate(_DEFAULT if number == 1 else f"{_DEFAULT}_{number}")):
        number += 1
    return directory


def _is_free(directory: Path) -> bool:
    try:
        return not os.listdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _check_endpoint(endpoint: str) -> None:
    """Check that something listens at the endpoint, unless a proxy is in between.

    Raises:
        AegisError: nothing does.
    """
    parts = urlsplit(endpoint)
    if not parts.hostname or (parts.scheme in getproxies() and not proxy_bypass(parts.hostname)):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=3).close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise AegisError(
            f"nothing receives signals at `{endpoint}` ({why}): start a collector there first"
        ) from error


def _print_summary(directory: Path, *, is_early: bool) -> None:
    """Print how the calls ended, and the commands that show more."""
    from aegis_otel.audit.query.connection import connect
    from aegis_otel.audit.query.filters import compile_filters
    from aegis_otel.audit.query.stats import take_stats

    with connect(directory) as audit:
        stats = take_stats(audit, compile_filters(None, {}))
    results = ", ".join(f"{calls} {status}" for status, calls in stats.by["result_status"])
    early = " (ended early)" if is_early else ""
    click.echo(f"{stats.calls} calls of {len(stats.by['agent_name'])} agents{early}: {results}")
    where = shlex.quote(os.path.relpath(directory))
    click.echo("\nLook at what they did:")
    for command in ("audit", "audit --risk critical", "report --verify --out report.html"):
        name, *options = command.split(maxsplit=1)
        click.echo(f"  {escape(' '.join(['aegis', name, '--path', where, *options]))}")


def _print_signals(problem: str) -> None:
    endpoint = os.environ.get(_ENDPOINT, "")
    where = escape(endpoint or "the OTLP endpoints that are set")
    if problem:
        click.echo(f"\nNot all signals arrived at {where}: {escape(problem[:300])}")
    else:
        click.echo(f"\nThe signals went to {where}.")
    if host := urlsplit(endpoint).hostname:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Grafana, where it runs beside the collector: http://{escape(shown)}:{_GRAFANA}")
