"""`aegis policy test`: hold a policy against cases, and say which rules no case reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.explanation import explanation_report, print_rules, rule_lines
from aegis_otel.cli.policy.inventory import chosen_inventory, tools_option
from aegis_otel.cli.policy_files import split_paths
from aegis_otel.cli.rendering import echo_wrapped, plural
from aegis_otel.errors import CasesError, PolicyError, Problem
from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.model import Approvers
    from aegis_otel.policy.policy import RuleSummary
    from aegis_otel.policy_tools.case_runner import CaseResult, Report
    from aegis_otel.policy_tools.cases import CaseFile

_INDENT = "      "


@click.command(short_help="Test a policy with cases.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    multiple=True,
    help="The policy to test. Repeat it, or separate files by `:`, to merge several.  [default: what each "
    "FILE names as `policy`]",
)
@click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to FILE as JUnit XML.",
)
@tools_option("The program's tools, as for `check`, instead of those that each FILE names as `tools`.")
@click.option(
    "--agent",
    metavar="MODULE:AGENT",
    help="Take the tools of this agent, as it is now; this runs MODULE's code.",
)
@click.option(
    "--case", "names", metavar="NAME", multiple=True, help="Run only this case. Repeat it for more."
)
@click.option("--suggest", is_flag=True, help="Print a case for each rule that no case reaches.")
@click.option("--require-coverage", is_flag=True, help="Exit with 1 where no case reaches a rule.")
@text_or_json_option
@click.pass_context
def test(
    ctx: click.Context,
    /,
    *,
    files: tuple[Path, ...],
    policies: tuple[str, ...],
    junit: Path | None,
    tools: Any,
    agent: str | None,
    names: tuple[str, ...],
    suggest: bool,
    require_coverage: bool,
    form: str,
) -> None:
    """Run the cases in FILE: calls, and what the policy must decide about each. No tool runs.

    For each case that fails it prints what was expected, what the policy decided, and why, rule by rule.
    Then it names the rules that decided no case, or only where it was unknown whether they match.
    docs/policy-testing.md shows how to write cases.

    \b
    Exit codes:
      0  every case passed
      1  a case failed, or with --require-coverage no case reaches a rule
      2  wrong usage, or a FILE that cannot be run
      3  a policy is not valid
    """
    from aegis_otel.policy_tools.case_runner import run_cases
    from aegis_otel.policy_tools.cases import read_case_files

    known = chosen_inventory(tools, agent)
    try:
        read = read_case_files(files, known)
        report = run_cases(_only(read, names) if names else read, split_paths(policies))
    except (CasesError, PolicyError) as error:
        _print_problems(error.problems, form)
        ctx.exit(3 if isinstance(error, PolicyError) else 2)
    if junit is not None:
        _write_junit(report, junit)
    if form == "json":
        click.echo(json.dumps(_document(report), indent=2))
    else:
        _print(report)
        if suggest:
            _print_suggestions(report)
    ctx.exit(1 if report.failed or (require_coverage and report.unreached) else 0)


def _only(files: Sequence[CaseFile], names: Sequence[str]) -> list[CaseFile]:
    """Return the files with only the cases of these names.

    Raises:
        click.UsageError: there is no case of a name.
    """
    from aegis_otel.policy.messages import closest, quoted

    known = [case.name for file in files for case in file.cases]
    for name in names:
        if name not in known:
            meant = closest(name, known)
            hint = "" if meant is None else f" (did you mean {quoted(meant)}?)"
            raise click.UsageError(escape(f"there is no case {quoted(name)}{hint}"))
    chosen = (replace(file, cases=tuple(case for case in file.cases if case.name in names)) for file in files)
    return [file for file in chosen if file.cases]


def _print_problems(problems: list[Problem], form: str) -> None:
    if form == "json":
        click.echo(json.dumps({"valid": False, "problems": [asdict(each) for each in problems]}, indent=2))
    else:
        for problem in problems:
            echo_wrapped(escape(str(problem)))


def _print(report: Report) -> None:
    for result in report.failed:
        click.echo(f"FAIL  {escape(f'{result.case.name}  [{result.case.place}]')}")
        for line in _summary(result):
            echo_wrapped(f"{_INDENT}{escape(line)}")
        print_rules(result.explain(), result.verdict.matched_rule, indent=_INDENT)
        click.echo("")
    for problem in report.warnings:
        echo_wrapped(escape(str(replace(problem, message=f"warning: {problem.message}"))))
    for rule in report.unreached:
        echo_wrapped(escape(f"{rule.place}: {_not_reached(rule, report)}"))
    failed, reached = len(report.failed), len(report.rules) - len(report.unreached)
    click.echo(
        f"{plural(len(report.results), 'case')}: {len(report.results) - failed} passed, {failed} failed; "
        f"{reached} of {plural(len(report.rules), 'rule')} reached"
    )


def _print_suggestions(report: Report) -> None:
    """Print a case for each rule that no case reaches, to be read and added to `cases`."""
    from aegis_otel.policy_tools.drafts.case_draft import CaseDrafter

    for policy, known in report.policies:
        drafter = CaseDrafter(policy, known)
        for rule in policy.rules:
            if rule not in report.unreached:
                continue
            for line in drafter.draft(rule) or [f"# no call was found that rule `{rule.name}` decides"]:
                click.echo(f"  {escape(line)}")


def _not_reached(rule: RuleSummary, report: Report) -> str:
    if rule in report.unknown:
        return f"rule `{rule.name}` is reached only where it is unknown whether it matches"
    return f"no case reaches rule `{rule.name}`"


def _summary(result: CaseResult) -> list[str]:
    """Return what was expected and what came, a line each."""
    expected, verdict, differences = result.case.expected, result.verdict, result.differences
    wanted = _words(
        None if expected.approval is None else expected.approval.value,
        expected.rule,
        None if expected.risk_level is None else expected.risk_level.name,
        _mode("mode" in differences and expected.mode is None, expected.mode),
        expected.approvers if "approvers" in differences else None,
    )
    came = _words(
        verdict.approval.value,
        verdict.matched_rule,
        verdict.risk_level.name if "risk_level" in differences else None,
        _mode("mode" in differences and verdict.mode is Mode.ENFORCE, verdict.mode),
        verdict.approvers if "approvers" in differences else None,
    )
    return [f"expected {wanted}", f"decided {came}: {verdict.reason}"]


def _mode(is_enforced: bool, mode: Mode | None) -> str:
    return "enforced" if is_enforced else "only monitored" if mode is Mode.MONITOR else ""


def _words(
    approval: str | None,
    rule: str | None,
    risk_level: str | None,
    mode: str,
    approvers: Approvers | None,
) -> str:
    from aegis_otel.policy.messages import approvers_in_words

    parts = [
        approval or "",
        "" if rule is None else f"by `{rule}`",
        "" if risk_level is None else f"at {risk_level.lower()} risk",
        mode,
        "" if approvers is None else f"asking {approvers_in_words(approvers)}",
    ]
    return " ".join(part for part in parts if part)


def _write_junit(report: Report, file: Path) -> None:
    from aegis_otel.policy_tools.junit import junit_case, junit_xml

    file.write_bytes(junit_xml([junit_case(result, _failure(result)) for result in report.results]))


def _failure(result: CaseResult) -> list[str]:
    """Return why a case failed: on the first line what was expected and what came. No lines if it passed."""
    if result.is_passed:
        return []
    first = "; ".join(_summary(result))
    return [first, *rule_lines(result.explain(), result.verdict.matched_rule)]


def _document(report: Report) -> dict[str, Any]:
    return {
        "valid": True,
        "passed": len(report.results) - len(report.failed),
        "failed": len(report.failed),
        "rules": len(report.rules),
        "unreached": [
            {"rule": rule.name, **rule.place._asdict(), "unknown": rule in report.unknown}
            for rule in report.unreached
        ],
        "warnings": [asdict(each) for each in report.warnings],
        "cases": [_case(result) for result in report.results],
    }


def _case(result: CaseResult) -> dict[str, Any]:
    case, verdict = result.case, result.verdict
    expected = case.expected
    return {
        "name": case.name,
        **case.place._asdict(),
        "passed": result.is_passed,
        "expected": {
            "approval": expected.approval and expected.approval.value,
            "rule": expected.rule,
            "risk_level": expected.risk_level and expected.risk_level.name.lower(),
            "mode": expected.mode and expected.mode.value,
            **({} if expected.approvers is None else {"approvers": expected.approvers.as_written}),
        },
        "decided": {
            "approval": verdict.approval.value,
            "rule": verdict.matched_rule,
            "risk_level": verdict.risk_level.name.lower(),
            "mode": verdict.mode.value,
            **({} if verdict.approvers is None else {"approvers": verdict.approvers.as_written}),
            "reason": verdict.reason,
        },
        "explanation": None if result.is_passed else explanation_report(result.explain())["rules"],
    }
