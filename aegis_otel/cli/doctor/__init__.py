"""`aegis doctor`: check whether governance can start here, and what it governs of an agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.doctor.checks import FAILED, INVALID, OK, WARNING, Check, Subject, run_checks
from aegis_otel.cli.load_agent import load_agent
from aegis_otel.config import APPROVALS, POLICY
from aegis_otel.errors import AegisError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.coverage.coverage import Coverage

_WORST_FIRST = [INVALID, FAILED, WARNING, OK]


@click.command(short_help="Check that tool calls can be governed here.")
@click.argument("target", metavar="[MODULE:AGENT]", required=False)
@click.option(
    "--policy",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"The policy. Repeat it to merge several.  [default: {POLICY.env}]",
)
@click.option(
    "--health", metavar="URL", help="The collector's health check.  [default: port 13133 of its host]"
)
@click.option(
    "--arrives-in",
    "events",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Check that an event arrives in this file of the collector (OTLP/JSON).",
)
@text_or_json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    *,
    target: str | None,
    files: tuple[Path, ...],
    health: str | None,
    events: Path | None,
    form: str,
) -> None:
    """Check that tool calls can be governed here, with the settings of the environment.

    Checks versions, settings, policy, audit, keys and approvals, and the state that limits are counted in, if
    the policy has any or AEGIS_STATE is set. Governance is installed for a moment and tried on a scripted
    model, offline. The audit directory is made if there is none, and so is the state. If an OTLP endpoint is
    set, a test event is sent there, and the collector's health is checked.

    With MODULE:AGENT, such as `shop.agents:clerk`, it also prints for each tool of the agent whether calls
    are enforced, only observed, or cannot be governed. This imports MODULE, which runs its code. If that
    calls `instrument()`, its settings are checked instead of those of the environment.

    \b
    Exit codes:
      0  all is well; there may be warnings
      1  something failed, or the agent has tools that are not governed
      2  wrong usage
      3  the policy is not valid
    """
    from aegis_otel.redaction.redactor import redact_text

    subject = Subject(files, health=health, events=events)
    if target is not None:
        subject.agent = load_agent(target)
        subject.module = target.partition(":")[0]

        from aegis_otel.adapters.openai_agents.instrument import Instrumentation

        subject.program = Instrumentation.current
    checks = list(run_checks(subject))
    coverage: Coverage | None = None
    with _capture_point() as check:
        checks.append(check)
        if target is not None:
            from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
            from aegis_otel.adapters.openai_agents.coverage.coverage import coverage as coverage_of

            coverage = coverage_of(subject.agent, installed=CapturePoint.installed)
    checks.sort(key=lambda each: _WORST_FIRST.index(each.status))
    if form == "json":
        click.echo(json.dumps(_report(checks, coverage), indent=2))
    else:
        for check in checks:
            first, *more = redact_text(check.detail).splitlines() or [""]
            click.echo(f"{check.status:<8} {check.name}: {escape(first)}")
            for line in more:
                click.echo(f"{'':<8} {escape(line)}")
        if coverage is not None:
            click.echo(f"\n{redact_text(str(coverage))}")
    worst = checks[0].status
    has_gaps = coverage is not None and coverage.gaps
    ctx.exit(3 if worst == INVALID else 1 if worst == FAILED or has_gaps else 0)


@contextmanager
def _capture_point() -> Iterator[Check]:
    """Yield the result of the self-test. The capture point is installed for as long as this lasts."""
    from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
    from aegis_otel.policy import Policy
    from aegis_otel.runtime.runtime import Runtime

    name = "capture point"
    if CapturePoint.installed is not None:
        yield Check(name, OK, "installed by the program, its self-test passed")
        return
    try:
        runtime = Runtime(policy=Policy.from_dict({"version": "1", "rules": []}))
        point = CapturePoint(runtime.governor, {}, approvals=APPROVALS.value())
        point.install()
    except AegisError as error:
        yield Check(name, FAILED, str(error))
        return
    try:
        yield Check(name, OK, "its self-test passed")
    finally:
        point.uninstall()


def _report(checks: list[Check], coverage: Coverage | None) -> dict[str, Any]:
    from aegis_otel.redaction.redactor import redact_text

    report: dict[str, Any] = {
        "checks": [{**check._asdict(), "detail": redact_text(check.detail)} for check in checks]
    }
    if coverage is not None:
        report["coverage"] = [
            {name: redact_text(value) for name, value in row._asdict().items()} for row in coverage
        ]
    return report
