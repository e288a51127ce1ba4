"""`aegis demo`: agents at work, to have something to look at."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from aegis_otel.audit.location import address, locate
from aegis_otel.errors import AegisError, ConfigError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.demo.play import Load, Played


_DEFAULT = "aegis_demo_audit"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_ENVIRONMENT = {"OTEL_SERVICE_NAME": "aegis-demo", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
"""Where nothing else is set: a minute of metrics that came once a minute would be one point."""
_GRAFANA = 3000


@click.command(short_help="Make up agents at work.")
@click.option("--minutes", type=click.FloatRange(0, 10_000, min_open=True), default=1.0, show_default=True)
@click.option(
    "--rate",
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
@click.option("--path", metavar="DIR", help=f"The audit, a new directory.  [default: {_DEFAULT}]")
@click.option("--seed", type=int, default=1, show_default=True, help="Another one is another story.")
@click.pass_context
def demo(
    ctx: click.Context,
    /,
    *,
    minutes: float,
    rate: float,
    endpoint: str | None,
    path: str | None,
    seed: int,
) -> None:
    """Let four agents work for a while, under a policy, and say where to look at what they did.

    Everything is the real thing but the model, which is scripted, and the tools, which do nothing: searches
    run, refunds are approved, denied or left unanswered, tools fail, deletions are blocked, the policy is
    changed in the middle, a process dies. The same --seed is the same story. Ctrl-C ends it early.
    """
    audit = _new_directory(path)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if endpoint is not None:
        os.environ[_ENDPOINT] = endpoint

    from aegis_otel.demo.play import Load, trace_to_opentelemetry_alone
    from aegis_otel.telemetry.export_setup import configure_otlp

    signals = configure_otlp()
    trace_to_opentelemetry_alone()
    if signals:
        _look_at(os.environ.get(_ENDPOINT, ""))
    unsent = _Unsent()
    for name in ("opentelemetry", "aegis_otel.signals"):
        exporters = logging.getLogger(name)
        exporters.addHandler(unsent)
        exporters.propagate = False
    with TemporaryDirectory(prefix="aegis-demo-") as folder:
        load = Load(audit, Path(folder) / "policy.yaml", seed, minutes * 60, rate)
        played = _play(load, color=ctx.color is not False)
    _sum_up(load, played)
    _sum_up_signals(bool(signals), played.sent, unsent.last)


def _new_directory(path: str | None) -> Path:
    """Where the audit goes: never to where another one is, whose calls were real.

    Raises:
        ConfigError: there is something at the place that was given.
    """
    if path is not None:
        if address(path) is not None:
            raise ConfigError("the audit of a demo is a directory of this machine: give --path DIR")
        directory = locate(path)
        if not _is_free(directory):
            raise ConfigError(
                f"`{directory}` is there already, or may not be looked into: a demo needs a new directory "
                "for its audit"
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


def _look_at(endpoint: str) -> None:
    """See that somebody takes signals there; by a proxy, that cannot be told.

    Raises:
        AegisError: nobody does.
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
            f"nobody takes signals at `{endpoint}` ({why}): start a collector there first"
        ) from error


class _Unsent(logging.Handler):
    """Keeps what the exporters log, to be said once in the end and not all the while."""

    last: str | None = None
    """The first that they said, which has the cause."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and self.last is None:
            self.last = record.getMessage()[:300]


def _play(load: Load, *, color: bool) -> Played:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from aegis_otel.demo.play import play

    console = Console(stderr=True, highlight=False, color_system="auto" if color else None)
    columns = (TextColumn("Calls"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=load.calls)
        return asyncio.run(
            play(
                load,
                tell=lambda done: progress.update(task, completed=done),
                say=lambda sentence: console.print(sentence, markup=False, soft_wrap=True),
            )
        )


def _sum_up(load: Load, played: Played) -> None:
    """What came of it, and what to look at next."""
    from aegis_otel.audit.query.connection import connect
    from aegis_otel.audit.query.filters import compile_filters
    from aegis_otel.audit.query.stats import take_stats

    with connect(load.audit) as audit:
        stats = take_stats(audit, compile_filters(None, {}))
    results = ", ".join(f"{calls} {status}" for status, calls in stats.by["result_status"])
    early = " (ended early)" if played.stopped else ""
    click.echo(f"{stats.calls} calls of {len(stats.by['agent_name'])} agents{early}: {results}")
    where = shlex.quote(os.path.relpath(load.audit))
    click.echo("\nLook at what they did:")
    for command in (
        f"aegis audit --path {where}",
        f"aegis audit --path {where} --risk critical",
        f"aegis report --path {where} --verify --out report.html",
    ):
        click.echo(f"  {escape(command)}")


def _sum_up_signals(exported: bool, sent: bool, problem: str | None) -> None:
    if not exported:
        click.echo("\nNo OTLP endpoint was set, so the signals went nowhere: see --endpoint.")
        return
    endpoint = os.environ.get(_ENDPOINT, "")
    where = escape(endpoint or "the OTLP endpoints that are set")
    if problem is not None or not sent:
        click.echo(f"\nNot all signals arrived at {where}: {escape(problem or 'sending them took too long')}")
    else:
        click.echo(f"\nThe signals went to {where}.")
    if host := urlsplit(endpoint).hostname:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Grafana, where it runs beside the collector: http://{escape(shown)}:{_GRAFANA}")
