"""`aegis doctor`: whether governance could start here, and what it would govern of an agent."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.audit.location import locate
from aegis_otel.cli.doctor.check import FAILED, INVALID, OK, WARNING, Check
from aegis_otel.cli.doctor.program import (
    check_approvals,
    check_audit,
    check_keys,
    check_placement,
    compare,
    judge,
    looks_at,
    own_governance,
)
from aegis_otel.cli.doctor.signals import look_at_export
from aegis_otel.cli.load_agent import load_agent
from aegis_otel.config import APPROVALS, MODE, ON_UNGOVERNED, POLICY, SETTINGS, unknown_variables
from aegis_otel.errors import AegisError, ConfigError, PolicyError
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.coverage.coverage import Coverage
    from aegis_otel.adapters.openai_agents.instrument import Instrumentation


_WORST_FIRST = [INVALID, FAILED, WARNING, OK]
_PACKAGES = ("openai-agents", "opentelemetry-api", "opentelemetry-sdk", "duckdb")


@click.command(short_help="Look whether calls can be governed here.")
@click.argument("target", metavar="[MODULE:AGENT]", required=False)
@click.option(
    "--policy",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"The policy; repeat it to merge several.  [default: {POLICY.env}]",
)
@click.option(
    "--health", metavar="URL", help="The collector's health check.  [default: port 13133 of its host]"
)
@click.option(
    "--arrives-in",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What the collector writes of events (OTLP/JSON): see that one arrives there.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    *,
    target: str | None,
    files: tuple[Path, ...],
    health: str | None,
    file: Path | None,
    form: str,
) -> None:
    """Look whether tool calls can be governed here, with the environment's settings.

    The capture point is installed for a moment and tried on a scripted model, offline. The audit
    directory is made if there is none. Where an OTLP endpoint is set, an event that is no decision is sent
    there, and the collector is asked whether it is well.

    With MODULE:AGENT, such as `shop.agents:clerk`, it also says for each tool that the agent can reach
    whether it is enforced, observed or not governable. That imports MODULE, and so runs its code. Where
    that calls `instrument()`, what it set up is looked at instead of the environment's settings.

    \b
    Exit codes:
      0  all is well; there may be warnings
      1  something failed, or the agent has tools that are not governed
      2  wrong usage
      3  the policy is not valid
    """
    agent = None if target is None else load_agent(target)
    program = None if target is None else own_governance()
    tools = list(getattr(agent, "tools", None) or ())
    checks = [_tried(name, look) for name, look in _looks(files, program, tools)]
    if agent is not None:
        checks += _tools(agent, files, program)
    try:
        checks += look_at_export(health, file, target and target.partition(":")[0])
    except AegisError as error:
        checks.append(Check("export", FAILED, str(error)))
    with _capture_point() as check:
        checks.append(check)
        rows = None if target is None else _coverage(agent)
    checks.sort(key=lambda each: _WORST_FIRST.index(each.status))
    if form == "json":
        click.echo(json.dumps(_report(checks, rows), indent=2))
    else:
        for check in checks:
            first, *more = redact_text(check.detail).splitlines() or [""]
            click.echo(f"{check.status:<8} {check.name}: {escape(first)}")
            for line in more:
                click.echo(f"{'':<8} {escape(line)}")
        if rows is not None:
            click.echo(f"\n{redact_text(str(rows))}")
    worst = checks[0].status
    ctx.exit(3 if worst == INVALID else 1 if worst == FAILED or (rows is not None and rows.gaps) else 0)


def _looks(
    files: tuple[Path, ...], program: Instrumentation | None, tools: list[object]
) -> Iterator[tuple[str, Callable[[], Check]]]:
    yield "versions", _versions
    if program is None:
        yield "settings", _settings
        yield "policy", lambda: _policy(files)
        yield "audit", _audit
        yield "placement", lambda: _placement(files, tools)
        yield from check_keys(locate())
        yield "approvals", _approvals
        return
    for name, look in looks_at(program, tools):
        yield name, (lambda: _policy(files)) if name == "policy" and files else look


def _tried(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except PolicyError as error:
        return Check(name, INVALID, str(error))
    except AegisError as error:
        return Check(name, FAILED, str(error))


def _versions() -> Check:
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Check("versions", FAILED, f"not installed: {', '.join(missing)}; install `aegis-otel` anew")
    return Check("versions", OK, ", ".join(found))


def _settings() -> Check:
    changed = [setting.env for setting in SETTINGS if setting.value() != setting.default]
    mode = f"mode `{MODE.value()}`, on_ungoverned `{ON_UNGOVERNED.value()}`"
    unknown = "".join(f"{each}; " for each in unknown_variables())
    status = WARNING if unknown else OK
    return Check("settings", status, f"{unknown}{mode}; set by environment: {', '.join(changed) or 'none'}")


def _policy(files: tuple[Path, ...]) -> Check:
    from aegis_otel.policy import Policy

    named = _policy_files(files)
    if not named:
        raise ConfigError(f"no policy: set `{POLICY.env}`, or pass `--policy FILE`")
    return judge(Policy.from_yaml_files(*named))


def _tools(agent: Any, files: tuple[Path, ...], program: Instrumentation | None) -> Iterator[Check]:
    """What the linter finds when it holds the policy against the agent's tools."""
    from aegis_otel.policy import Policy

    named = _policy_files(files)
    try:
        if named and (files or program is None):
            policy = Policy.from_yaml_files(*named)
        elif program is not None:
            policy = program.runtime.policy
        else:
            return
    except PolicyError:
        return  # reported by the check of the policy itself
    yield from compare(policy, agent)


def _audit() -> Check:
    from aegis_otel.runtime.audit import AuditLogger

    return check_audit(AuditLogger())


def _placement(files: tuple[Path, ...], tools: list[object]) -> Check:
    return check_placement(_policy_files(files), locate(), tools)


def _policy_files(files: tuple[Path, ...]) -> tuple[Path, ...]:
    return files or tuple(Path(each) for each in POLICY.value().split(os.pathsep) if each)


def _approvals() -> Check:
    from aegis_otel.runtime.approval import default_handler

    return check_approvals(APPROVALS.value(), default_handler())


@contextlib.contextmanager
def _capture_point() -> Iterator[Check]:
    """The result of the self-test, with the capture point installed for as long as this lasts."""
    from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
    from aegis_otel.config import APPROVALS
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


def _coverage(agent: Any) -> Coverage:
    from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
    from aegis_otel.adapters.openai_agents.coverage.coverage import coverage

    return coverage(agent, installed=CapturePoint.installed)


def _report(checks: list[Check], rows: Coverage | None) -> dict[str, Any]:
    report: dict[str, Any] = {
        "checks": [{**check._asdict(), "detail": redact_text(check.detail)} for check in checks]
    }
    if rows is not None:
        report["coverage"] = [
            {name: redact_text(value) for name, value in row._asdict().items()} for row in rows
        ]
    return report
