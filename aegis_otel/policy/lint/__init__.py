"""The linter: what is probably not meant in a policy that loads.

Each family of checks is a module here. A check is a generator of findings: one `of_policy` gets the `Subject`
(the policy and, if they are known, its tools), one `of_rule` each rule as well. A new check

1. is added to the module of its family and named in `CHECKS` there; a new family is named in `FAMILIES`;
2. has the text of its finding in `data/findings.json`, and a row in the table of docs/policy.md;
3. tries an action with `Subject.runs` where that is possible, so that its message has a tried example;
4. has a policy in `tests/cases/lint/open/` with an attack that runs, and no error for those in `lint/sound/`;
5. compares pairs of rules only by an index of `glob_index`, and adds a `limits` finding where it gives up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegis_otel.policy.lint import (
    allowing_rules,
    blocking_rules,
    key_checks,
    rule_order,
    text_checks,
    tool_checks,
)
from aegis_otel.policy.lint.finding import Finding, Severity, finding
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.policy import Policy

__all__ = ["Finding", "Inventory", "Severity", "lint"]

FAMILIES = (
    rule_order.CHECKS,
    text_checks.CHECKS,
    key_checks.CHECKS,
    allowing_rules.CHECKS,
    blocking_rules.CHECKS,
    tool_checks.CHECKS,
)


def lint(policy: Policy, tools: Inventory | Mapping[str, Mapping[str, Any]] | None = None) -> list[Finding]:
    """Find what is probably not meant in `policy`, in the order of its files and lines.

    Args:
        tools: What is governed: an inventory, or the JSON Schema of the parameters of each tool by the
            tool's name; the policy is then also held against the tools.
    """
    known = tools if tools is None or isinstance(tools, Inventory) else Inventory.from_schemas(tools)
    subject = Subject(policy, known)
    found = dict.fromkeys(
        each for family in FAMILIES for check in family.of_policy for each in check(subject)
    )
    found |= dict.fromkeys(
        each
        for family in FAMILIES
        for check in family.of_rule
        for rule in subject.rules
        for each in check(subject, rule)
    )
    if (
        subject.is_exhausted or subject.left_out
    ):  # asked last: any check may be the one that found nothing left
        found[finding("limits", subject.rules[0].rule.place)] = None
    files = {source: number for number, source in enumerate(policy.sources)}
    return sorted(found, key=lambda each: (files.get(each.place.source, 0), each.place[1:]))
