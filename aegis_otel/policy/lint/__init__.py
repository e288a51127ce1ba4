"""The linter: what is probably not meant in a policy that loads.

Each family of checks is a module here, and `FAMILIES` lists them. A check is a generator from a `Subject`
(the policy and, if they are known, its tools) to findings. A new check

1. is added to the family that it belongs to, or is a new module that is named in `FAMILIES`;
2. tries an action with `Subject.runs` where that is possible, so that its message has a tried example;
3. has a policy in `tests/cases/lint/open/` with an attack that runs, and no error for those in `lint/sound/`;
4. compares pairs of rules only by an index of `glob_index`, and adds a `limits` finding where it gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aegis_otel.policy.lint.allowing_rules import allowing
from aegis_otel.policy.lint.blocking_rules import blocking
from aegis_otel.policy.lint.finding import Finding, Severity
from aegis_otel.policy.lint.rule_order import never, order
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.lint.text_checks import texts
from aegis_otel.policy.lint.tool_checks import tools as against_tools
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.lint.whole_policy import documents, times
from aegis_otel.policy.policy import Policy

__all__ = ["Finding", "Inventory", "Severity", "lint"]

FAMILIES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    order,
    never,
    texts,
    documents,
    times,
    allowing,
    blocking,
    against_tools,
)


def lint(policy: Policy, tools: Inventory | Mapping[str, Mapping[str, Any]] | None = None) -> list[Finding]:
    """Find what is probably not meant in `policy`, in the order of its files and lines.

    Args:
        tools: What is governed: an inventory, or the JSON Schema of the parameters of each tool by the
            tool's name; the policy is then also held against the tools.
    """
    known = tools if tools is None or isinstance(tools, Inventory) else Inventory.from_schemas(tools)
    subject = Subject(policy, known)
    found = dict.fromkeys(finding for family in FAMILIES for finding in family(subject))
    if subject.is_exhausted:  # asked last: any family may be the one that found nothing left
        message = (
            "the policy is too large for every rule to be tried with inputs: split it to have all checked"
        )
        found[Finding(Severity.WARNING, "limits", message, subject.rules[0].rule.place)] = None
    files = {source: number for number, source in enumerate(policy.sources)}
    return sorted(found, key=lambda finding: (files.get(finding.place.source, 0), finding.place[1:]))
