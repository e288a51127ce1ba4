"""A policy held against the tools it governs: their names, targets and agents, and their parameters."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.look_alikes import skeleton
from aegis_otel.policy.evaluation.operators import OPERATORS
from aegis_otel.policy.evaluation.patterns import Glob, compile_glob
from aegis_otel.policy.evaluation.tool_schema import FAILURES, Presence, SchemaWalk, look_up, properties_of
from aegis_otel.policy.lint.finding import Finding, Severity, severity_for
from aegis_otel.policy.lint.subject import Subject, falls_under
from aegis_otel.policy.lint.text_checks import as_globs
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.messages import closest, listed, quoted, shown
from aegis_otel.policy.rules import ParamTest, Patterns, Place

_TOOLS = Place("<tools>")
_MAX_STEPS = 200


def tools(subject: Subject) -> Iterator[Finding]:
    """Find tools without a rule, rules without a call, and parameters that tools do not have."""
    inventory = subject.inventory
    if inventory is None:
        return
    matched: dict[int, list[KnownTool]] = {}
    for tool in inventory.tools:
        numbers = {number for name in tool.names for number in subject.policy.compiled.matching(name)}
        for number in numbers:
            matched.setdefault(number, []).append(tool)
        if not numbers:
            verdict = subject.policy.default.approval.value
            message = f"tool {quoted(tool.name)} is covered by no rule: the default decides, {verdict}"
            yield Finding(Severity.WARNING, "uncovered", message, _TOOLS)
    for number, rule in enumerate(subject.rules):
        yield from _nothing_to_match(rule, inventory, matched.get(number, []))
        # Each tool once, though several agents have it.
        once = {(tool.name, id(tool.schema)): tool for tool in subject.tools_of(rule)}
        for test in rule.rule.tests:
            for tool in once.values():
                yield from _parameter(rule, test, tool)


def _nothing_to_match(
    rule: CompiledRule, inventory: Inventory, matched: Sequence[KnownTool]
) -> Iterator[Finding]:
    names = [name for tool in inventory.tools for name in tool.names]
    near = list(_near_misses(rule, rule.rule.types, names, "tool"))
    yield from near
    if not inventory.is_complete and not matched:
        return
    if not matched:
        if not near:
            message = f"rule {quoted(rule.name)} matches the name of no tool"
            meant = _meant(rule.types, names) if rule.rule.approval is Approval.BLOCK else None
            severity = Severity.WARNING if meant is None else Severity.ERROR
            yield Finding(severity, "no-tool", message, rule.rule.types[0].place, meant)
        return
    found = False
    for patterns, globs, known, what in (
        (rule.rule.targets, rule.targets, inventory.targets, "target"),
        (rule.rule.agents, rule.agents, inventory.agents, "agent"),
    ):
        if known is None or any(glob.matches(each) for glob in globs for each in known):
            continue
        found = True
        near = list(_near_misses(rule, patterns, known, what))
        yield from near
        if not near:
            meant = _meant(globs, known)
            severity = severity_for(rule.rule) if meant else Severity.WARNING
            listing = f": there are {listed(sorted(known)[:5])}" if known else ""
            message = f"rule {quoted(rule.name)} matches no {what} that occurs{listing}"
            yield Finding(severity, f"no-{what}", message, patterns[0].place, meant)
    if not found and not any(falls_under(tool, rule) for tool in matched):
        message = f"rule {quoted(rule.name)} matches no call: no tool of its type has its target and agent"
        yield Finding(Severity.WARNING, "no-call", message, rule.rule.types[0].place)


def _near_misses(
    rule: CompiledRule, patterns: Patterns, names: Iterable[str], what: str
) -> Iterator[Finding]:
    """Find patterns that match nothing, and would match if written a little otherwise."""
    names = list(dict.fromkeys(names))
    for pattern in patterns:
        if any(compile_glob(pattern.text).matches(name) for name in names):
            continue
        if any(sign in pattern.text for sign in "|,;{^$!\\%(") or ".*" in pattern.text:
            missed = [
                name
                for name in names
                if any(compile_glob(each).matches(name) for each in as_globs(pattern.text))
            ]
            why = "everything but `*` and `?` is literal"
        else:
            folded = compile_glob(_folded(pattern.text))
            missed = [name for name in names if folded.matches(_folded(name))]
            why = "case, separators and look-alike letters count"
        if missed:
            message = (
                f"pattern {quoted(pattern.text)} of rule {quoted(rule.name)} does not match the {what} "
                f"{quoted(missed[0])}: {why}"
            )
            yield Finding(severity_for(rule.rule), "near-miss", message, pattern.place, missed[0])


def _folded(text: str) -> str:
    return re.sub(r"[./:]+", "", skeleton(text))


def _meant(globs: Sequence[Glob], names: Iterable[str]) -> str | None:
    """Return the name that a glob without a match is closest to."""

    def is_close(one: str, other: str) -> bool:
        """Return whether at most two letters differ, in words of which most are the same."""
        return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio() >= 0.8

    for glob in globs:
        literal = glob.text.strip("*")
        if len(literal) < 3:
            continue
        for name in names:
            part = name[: len(literal)] if not glob.text.startswith("*") else name[-len(literal) :]
            if "*" in glob.text and closest(literal, [part.lower()]) and is_close(literal, part):
                return name
            if "*" not in glob.text and is_close(literal, name):
                return name
    return None


def _parameter(rule: CompiledRule, test: ParamTest, tool: KnownTool) -> Iterator[Finding]:
    if tool.schema is None:
        return
    names = list(properties_of(tool.schema))
    named = f"{test} of rule {quoted(rule.name)}: "
    match look_up(tool.schema, test.path):
        case Presence.LACKS:
            why = f"tool {quoted(tool.name)} has no such parameter, so it is always unknown"
            yield Finding(Severity.WARNING, "parameter", named + why, test.place, closest(test.path, names))
        case Presence.UNREADABLE:
            why = f"the schema of tool {quoted(tool.name)} cannot be read"
            yield Finding(Severity.WARNING, "parameter", named + why, test.place)
        case Presence.OPEN if names and test.path.partition(".")[0] not in names:
            meant = closest(test.path, names)
            why = (
                f"tool {quoted(tool.name)} lists no such parameter and allows others, so it is false where "
                "the model leaves it out"
            )
            severity = severity_for(rule.rule) if meant else Severity.WARNING
            yield Finding(severity, "parameter", named + why, test.place, meant)
        case _:
            yield from _type(rule, test, tool)


def _type(rule: CompiledRule, test: ParamTest, tool: KnownTool) -> Iterator[Finding]:
    """Find an expected value that no value of the parameter compares with."""
    assert tool.schema is not None
    inner = list(_schemas_at(tool.schema, test.path.split(".")))
    types = {str(each) for schema in inner for each in _listed(schema.get("type"))}
    if not inner or any("type" not in schema for schema in inner):
        types = set()
    wanted = OPERATORS[test.operator].compares or _kinds(test.expected)
    if types and not types & set(wanted):
        message = (
            f"{test} of rule {quoted(rule.name)} asks for {' or '.join(wanted)}: the parameter of tool "
            f"{quoted(tool.name)} is {' or '.join(sorted(types))}, so the condition is always unknown"
        )
        yield Finding(Severity.WARNING, "type", message, test.place, _converted(test, types))
    enums = [schema["enum"] for schema in inner if isinstance(schema.get("enum"), (list, tuple))]
    if test.operator == "eq" and enums and len(enums) == len(inner):
        choices = [each for enum in enums for each in enum]
        if not any(type(each) is type(test.expected) and each == test.expected for each in choices):
            message = (
                f"{test} of rule {quoted(rule.name)} is never true: {shown(test.expected)} is no value that "
                f"tool {quoted(tool.name)} takes there"
            )
            texts = [each for each in choices if isinstance(each, str)]
            yield Finding(
                severity_for(rule.rule), "enum", message, test.place, closest(str(test.expected), texts)
            )


def _kinds(expected: object) -> tuple[str, ...]:
    if isinstance(expected, bool):
        return ("boolean",)
    return ("string",) if isinstance(expected, str) else ("number", "integer")


def _converted(test: ParamTest, types: set[str]) -> str | None:
    """Return the expected value in the parameter's own type."""
    if isinstance(test.expected, str) and types & {"number", "integer"}:
        return test.expected if re.fullmatch(r"-?\d+(\.\d+)?", test.expected) else None
    if test.operator == "eq" and types == {"string"}:
        return f'"{str(test.expected).lower() if isinstance(test.expected, bool) else test.expected}"'
    return None


def _schemas_at(schema: Mapping[str, Any], path: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the alternative schemas of the value at `path`, without null; none where that is unknown."""
    walk = SchemaWalk(schema, _MAX_STEPS)
    waiting: list[tuple[Any, Sequence[str]]] = [(schema, path)]
    with contextlib.suppress(*FAILURES):
        while waiting:
            inner, steps = waiting.pop(0)
            walk.step()
            if not isinstance(inner, Mapping):
                continue
            if "$ref" in inner:
                waiting.append((walk.resolve(inner["$ref"]), steps))
            elif choices := [each for key in ("anyOf", "oneOf") for each in _listed(inner.get(key))]:
                waiting += [(each, steps) for each in choices]
            elif steps and steps[0] in properties_of(inner):
                waiting.append((inner["properties"][steps[0]], steps[1:]))
            elif not steps and inner.get("type") != "null":
                yield inner


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return [each for each in value if each != "null"]
    return [] if value is None else [value]
