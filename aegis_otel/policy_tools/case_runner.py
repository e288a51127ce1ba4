"""Run cases against the policies that they are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from aegis_otel.errors import CasesError, Problem
from aegis_otel.model import DEFAULT_RULE, Action, Approval, Approvers, Mode, Past, Verdict
from aegis_otel.policy.explain import Explanation, explain
from aegis_otel.policy.history.ledger import Ledger
from aegis_otel.policy.history.series_queries import marks_of, queries_of
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.messages import closest, quoted
from aegis_otel.policy.policy import Policy, RuleSummary
from aegis_otel.policy_tools.cases import Case, CaseFile

_NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""The time of cases for which no rule looks at the time."""


def _in_order(approvers: Approvers | None) -> list[Any] | None:
    """Return what can be compared of approvers, whose order says nothing."""
    if approvers is None:
        return None
    users, roles, *rest = approvers.content
    return [sorted(users), sorted(roles), *rest]


class CaseResult(NamedTuple):
    """What came of one case."""

    case: Case
    verdict: Verdict
    policy: Policy

    @property
    def differences(self) -> list[str]:
        """The keys of `expect` that the verdict does not meet."""
        expected, verdict = self.case.expected, self.verdict
        pairs = {
            "approval": (expected.approval, verdict.approval),
            "rule": (expected.rule, verdict.matched_rule),
            "risk_level": (expected.risk_level, verdict.risk_level),
            "mode": (self._expected_mode, verdict.mode),
            "approvers": (_in_order(expected.approvers), _in_order(verdict.approvers)),
        }
        return [key for key, (wanted, came) in pairs.items() if wanted is not None and wanted != came]

    @property
    def _expected_mode(self) -> Mode | None:
        """A call that must be blocked or asked about is not, where the rule is only monitored."""
        expected = self.case.expected
        is_stopped = expected.approval not in (None, Approval.AUTO)
        return Mode.ENFORCE if expected.mode is None and is_stopped else expected.mode

    @property
    def is_passed(self) -> bool:
        return not self.differences

    @property
    def is_certain(self) -> bool:
        """Whether the rule matched; else it decided because it is unknown whether it does."""
        rule = self.verdict.matched_rule
        return not any(error.startswith(f"rule `{rule}`: ") for error in self.verdict.errors)

    def absent_parameters(self) -> list[str]:
        """Return the parameters without which a rule does not match, if the tool's defaults are not known."""
        action = self.case.action
        if action.schema is not None or not self.policy.reads_arguments(action.type):
            return []
        checks = (check for trace in self.explain().rules for check in trace.checks)
        return [check.lacks for check in checks if check.lacks is not None]

    def explain(self) -> Explanation:
        """Return why the policy decided so, rule by rule."""
        return explain(self.policy, action_of_case(self.policy, self.case), self.case.at or _NO_TIME)


def action_of_case(policy: Policy, case: Case) -> Action:
    """Return the action of a case with the calls before it, as the policy counts them."""
    if not policy.has_history:
        return case.action
    now = case.at or _NO_TIME
    ledger = Ledger()
    for number, call in enumerate(case.before):
        then = now - call.ago
        marks = marks_of(policy, call.action, call.where, then)
        for _ in range(call.times):
            ledger.add(str(number), marks, then)
        if call.result:
            ledger.settle(str(number), call.result)
    answers = ledger.answers(queries_of(policy, case.action, case.where), now)
    return case.action.with_past(Past(case.where, answers))


class Report(NamedTuple):
    """What came of all cases."""

    results: tuple[CaseResult, ...]
    rules: tuple[RuleSummary, ...]
    """The rules of all policies."""
    unreached: tuple[RuleSummary, ...]
    """Those that decided no case."""
    unknown: tuple[RuleSummary, ...]
    """Those of them that decided a case only because it is unknown whether they match."""
    policies: tuple[tuple[Policy, Inventory | None], ...]
    """The policies, and the tools of the first file with cases for each."""
    warnings: tuple[Problem, ...]
    """What the cases may not show of the program's calls."""

    @property
    def failed(self) -> list[CaseResult]:
        return [result for result in self.results if not result.is_passed]


def run_cases(files: Sequence[CaseFile], policies: Sequence[Path] = ()) -> Report:
    """Run the cases of all files.

    Args:
        policies: The policy's files, instead of those that the files with cases name.

    Raises:
        PolicyError: a policy is not valid.
        CasesError: a file names no policy, a case expects a rule that its policy does not have, or it has no
            time where a rule looks at the time.
    """
    loaded: dict[tuple[Path, ...], Policy] = {}
    tools: dict[tuple[Path, ...], Inventory | None] = {}
    pairs: list[tuple[Case, Policy]] = []
    problems: list[Problem] = []
    for file in files:
        paths = tuple(policies) or file.policies
        if not paths:
            message = "no policy is named: write `policy: policy.yaml` into it, or give --policy"
            problems.append(Problem(message, *file.place))
            continue
        key = tuple(path.resolve() for path in paths)
        if key not in loaded:
            loaded[key] = Policy.from_yaml_files(*paths)
            tools[key] = file.tools
        pairs += ((case, loaded[key]) for case in file.cases)
        problems += _problems(file.cases, loaded[key])
    if problems:
        raise CasesError(problems)
    results = tuple(
        CaseResult(
            case, policy.evaluate(action_of_case(policy, case), now=case.at or _NO_TIME).verdict, policy
        )
        for case, policy in pairs
    )
    decided = {(result.policy, result.verdict.matched_rule) for result in results}
    reached = {(result.policy, result.verdict.matched_rule) for result in results if result.is_certain}
    rules = [(policy, rule) for policy in loaded.values() for rule in policy.rules]
    unreached = [(policy, rule) for policy, rule in rules if (policy, rule.name) not in reached]
    return Report(
        results,
        tuple(rule for _, rule in rules),
        tuple(rule for _, rule in unreached),
        tuple(rule for policy, rule in unreached if (policy, rule.name) in decided),
        tuple((policy, tools[key]) for key, policy in loaded.items()),
        tuple(_warnings(results)),
    )


def _warnings(results: Sequence[CaseResult]) -> Iterator[Problem]:
    """Yield what is odd about the calls, and for each file that defaults of its tools are not known."""
    lacking: dict[str, dict[str, None]] = {}
    for result in results:
        place = result.case.place
        for oddity in result.case.oddities:
            yield Problem(oddity, *place)
        names = result.absent_parameters()
        if names:
            lacking.setdefault(place.source, {}).update(dict.fromkeys(names))
    for source, looked_at in lacking.items():
        which = ", ".join(map(quoted, looked_at))
        message = (
            f"`tools` is missing: rules look at {which}, which cases leave out, and a default of the tool "
            "would count"
        )
        yield Problem(message, source)


def _problems(cases: Sequence[Case], policy: Policy) -> Iterator[Problem]:
    """Yield what makes cases meaningless for the policy."""
    names = [DEFAULT_RULE, *(rule.name for rule in policy.rules)]
    known = frozenset(names)
    for case in cases:
        rule = case.expected.rule
        if rule is not None and rule not in known:
            message = f"the policy has no rule {quoted(rule)}"
            yield Problem(message, *case.rule_place, closest(rule, names))
        forms = (case.action, *case.action.forms)
        earlier = [call.action.type for call in case.before]
        if case.at is None and (
            any(policy.compiled.plan(form.type)[1] for form in forms)
            or any(
                rule.rule.conditions.reads_time for each in earlier for rule in policy.compiled.marking(each)
            )
        ):
            message = f"`at` is missing: a rule for {quoted(case.action.type)} looks at the time"
            yield Problem(message, *case.place)
