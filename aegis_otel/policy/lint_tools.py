"""A policy held against the tools it governs: their names and the JSON Schemas of their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aegis_otel.policy.compiler import CompiledPolicy, CompiledRule
from aegis_otel.policy.findings import Finding, Severity
from aegis_otel.policy.rules import ParamTest, Place
from aegis_otel.policy.tool_schema import Presence, look_up
from aegis_otel.policy.wording import closest, quoted

_TOOLS = Place("<tools>")


def lint_tools(policy: CompiledPolicy, tools: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Parameters that tools do not have, rules no tool falls under, tools no rule covers."""
    governed: dict[int, list[str]] = {}
    for tool in tools:
        numbers = policy.matching(tool)
        for number in numbers:
            governed.setdefault(number, []).append(tool)
        if not numbers:
            verdict = policy.defaults.approval.value
            message = f"tool {quoted(tool)} is covered by no rule: the default decides, {verdict}"
            yield Finding(Severity.WARNING, "uncovered", message, _TOOLS)
    for number, rule in enumerate(policy.rules):
        names = governed.get(number)
        if names is None:
            message = f"rule {quoted(rule.name)} matches the name of no tool"
            yield Finding(Severity.WARNING, "no-tool", message, rule.rule.types[0].place)
            continue
        for test in rule.rule.tests:
            yield from _parameter(rule, test, {name: tools[name] for name in names})


def _parameter(
    rule: CompiledRule, test: ParamTest, tools: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    for tool, schema in tools.items():
        match look_up(schema, test.path):
            case Presence.LACKS:
                properties = schema.get("properties", {})
                meant = closest(test.path, map(str, properties)) if isinstance(properties, Mapping) else None
                why = f"tool {quoted(tool)} has no such parameter, so it is always unknown"
            case Presence.UNREADABLE:
                meant, why = None, f"the schema of tool {quoted(tool)} cannot be read"
            case _:
                continue
        message = f"{test} of rule {quoted(rule.name)}: {why}"
        yield Finding(Severity.WARNING, "parameter", message, test.place, meant)
