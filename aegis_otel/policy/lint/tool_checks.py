"""Checks of a policy against the tools it governs: their names, targets, agents and parameters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.look_alikes import skeleton
from aegis_otel.policy.evaluation.path_steps import schema_location
from aegis_otel.policy.evaluation.schema_paths import Location, Presence, SchemaReader, schemas_at
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.lint.finding import Finding, Severity, finding, severity_for
from aegis_otel.policy.lint.subject import Family, Subject, falls_under
from aegis_otel.policy.lint.text_checks import as_globs
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.messages import closest, listed
from aegis_otel.policy.operators.table import Meaning, compared_types, meaning
from aegis_otel.policy.patterns import Glob, compile_glob
from aegis_otel.policy.rules import CALL_FACTS, HistoryTest, ParamTest, Patterns, Place, Step, path_of

_TOOLS = Place("<tools>")


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
            yield finding("uncovered", _TOOLS, tool=tool.name, approval=subject.policy.default.approval.value)
    for number, rule in enumerate(subject.rules):
        yield from _nothing_to_match(rule, inventory, matched.get(number, []))
        # Each tool once, though several agents have it.
        once = {(tool.name, id(tool.schema)): tool for tool in subject.tools_of(rule)}
        for test in rule.rule.conditions.all_tests:
            for tool in once.values():
                yield from _parameter(rule, test, tool)
        for earlier, is_negated in rule.rule.conditions.history_with_sign():
            for tool in once.values():
                yield from _read_for_history(rule, earlier, tool)
            yield from _earlier_tools(rule, earlier, is_negated, inventory)


def _nothing_to_match(
    rule: CompiledRule, inventory: Inventory, matched: Sequence[KnownTool]
) -> Iterator[Finding]:
    place = rule.rule.types[0].place
    near = list(_near_misses(rule, rule.rule.types, inventory.names, "tool"))
    yield from near
    if not matched:
        if inventory.is_complete and not near:
            meant = _meant(rule.types, inventory.names) if rule.rule.approval is Approval.BLOCK else None
            severity = Severity.WARNING if meant is None else Severity.ERROR
            yield finding("no-tool", place, rule, severity=severity, suggestion=meant)
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
            yield finding(
                *(f"no-{what}", patterns[0].place, rule),
                severity=severity_for(rule) if meant else Severity.WARNING,
                suggestion=meant,
                known=f": there are {listed(sorted(known)[:5])}" if known else "",
            )
    if not found and not any(falls_under(tool, rule) for tool in matched):
        yield finding("no-call", place, rule)


def _near_misses(
    rule: CompiledRule, patterns: Patterns, names: Iterable[str], what: str
) -> Iterator[Finding]:
    """Find patterns that match nothing, and would match if written a little otherwise."""
    names = list(dict.fromkeys(names))
    for pattern in patterns:
        text = pattern.text
        if any(map(compile_glob(text, pattern.ignores_case).matches, names)):
            continue
        if any(sign in text for sign in "|,;{^$!\\%(") or ".*" in text:
            globs = [compile_glob(each) for each in as_globs(text)]
            missed = [name for name in names if any(glob.matches(name) for glob in globs)]
            why = "everything but `*` and `?` is literal"
        else:
            folded = compile_glob(_folded(text))
            missed = [name for name in names if folded.matches(_folded(name))]
            why = "case, separators and look-alike letters count"
        if missed:
            words: dict[str, Any] = {"text": text, "what": what, "name": missed[0], "why": why}
            yield finding("near-miss", pattern.place, rule, suggestion=missed[0], **words)


def _folded(text: str) -> str:
    alike = skeleton(text)
    return re.sub(r"[./:]+", "", text if alike is None else alike)


def _meant(globs: Sequence[Glob], names: Iterable[str]) -> str | None:
    """Return the name that a glob without a match is closest to."""

    def is_close(one: str, other: str) -> bool:
        """Return whether at most two letters differ, in words of which most are the same."""
        return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio() >= 0.8

    for glob in globs:
        literal = glob.text.strip("*")
        for name in names if len(literal) > 2 else ():
            part = name[: len(literal)] if not glob.text.startswith("*") else name[-len(literal) :]
            if "*" in glob.text and closest(literal, [part.lower()]) and is_close(literal, part):
                return name
            if "*" not in glob.text and is_close(literal, name):
                return name
    return None


_TAKES: Mapping[Step, Sequence[str]] = {
    Step.ANY: ("array",),
    Step.ALL: ("array",),
    Step.COUNT: ("array",),
    Step.NUMBER: ("string", "number", "integer"),
    Step.JSON: ("string", "object", "array"),
    Step.LOWER: ("string",),
}
"""The JSON Schema types of the values that a step can be taken on."""
_STEP_NAMES = {
    "any": Step.ANY,
    "all": Step.ALL,
    **dict.fromkeys(("count", "length", "size", "len"), Step.COUNT),
}
"""The names that are steps where they stand behind a list and a dot."""


def _parameter(rule: CompiledRule, test: ParamTest, tool: KnownTool) -> Iterator[Finding]:
    if tool.schema is None or not test.keys:
        return
    names = list(properties_of(tool.schema))
    meant = closest(test.path, names)
    words: dict[str, Any] = {"test": test, "tool": tool.name}
    reader = SchemaReader(tool.schema)
    presence = reader.presence(test.plain_path)
    if presence in (Presence.HAS, Presence.HAS_NULLABLE) and test.steps:
        literal = (test.plain_path,)
        origin = literal if reader.at(literal).is_listed else test.keys
        misfit = _misfit(test, origin, tool.schema)
        if misfit is not None:
            yield finding("type/step", test.place, rule, step=misfit[0], types=misfit[1], **words)
            return
        behind = reader.at((*origin, *schema_location(test.steps))).presence
        presence = behind if behind in (Presence.LACKS, Presence.UNREADABLE) else presence
    match presence:
        case Presence.LACKS:
            meant = _into_a_list(rule, test, tool.schema) or meant
            yield finding("parameter/lacks", test.place, rule, suggestion=meant, **words)
        case Presence.UNREADABLE:
            yield finding("parameter/unreadable", test.place, rule, **words)
        case Presence.OPEN if names and test.keys[:1] and test.keys[0] not in names:
            severity = severity_for(rule) if meant else Severity.WARNING
            yield finding("parameter/open", test.place, rule, severity=severity, suggestion=meant, **words)
        case _:
            yield from _type(rule, test, tool, words)


def _read_for_history(rule: CompiledRule, earlier: HistoryTest, tool: KnownTool) -> Iterator[Finding]:
    """Find parameters that a condition on earlier calls reads and the tool of the call does not have."""
    for test in earlier.params:
        if tool.schema is None:
            return
        by = "" if test is earlier.amount else f" by `{test.path}`"
        words: dict[str, Any] = {"test": f"{earlier}{by}", "tool": tool.name}
        reader, names = SchemaReader(tool.schema), list(properties_of(tool.schema))
        presence = reader.presence(test.plain_path)
        if presence is Presence.LACKS:
            meant = closest(test.path, [*names, *(CALL_FACTS if test is not earlier.amount else ())])
            yield finding("parameter/lacks", test.place, rule, suggestion=meant, **words)
        elif presence is Presence.UNREADABLE:
            yield finding("parameter/unreadable", test.place, rule, **words)
        elif misfit := _misfit(test, test.keys, tool.schema) if test.steps else None:
            yield finding("type/step", test.place, rule, step=misfit[0], types=misfit[1], **words)
        elif not test.steps:
            wanted = _AMOUNTS if test is earlier.amount else _TOLD_APART
            types = _types_at(tool.schema, test.keys)
            if types and types.isdisjoint(wanted):
                meant = f"{test.path}[number]" if wanted is _AMOUNTS and types == {"string"} else None
                words |= {"wanted": "a number" if wanted is _AMOUNTS else "text, a number or a boolean"}
                words |= {"types": " or ".join(sorted(types))}
                yield finding("type", test.place, rule, suggestion=meant, **words)


def _earlier_tools(
    rule: CompiledRule, earlier: HistoryTest, is_negated: bool, inventory: Inventory
) -> Iterator[Finding]:
    """Find an `after` whose calls no tool makes, or whose tools lack what calls are counted apart by."""
    if not earlier.types:
        return
    globs = [compile_glob(each.text, each.ignores_case) for each in earlier.types]
    found = [tool for tool in inventory.tools if any(glob.matches(n) for glob in globs for n in tool.names)]
    place = earlier.types[0].place
    if not found and inventory.is_complete:
        meant = _meant(globs, inventory.names)
        misses = rule.rule.approval is Approval.BLOCK and not is_negated
        yield finding(
            *("no-tool/after", place, rule),
            severity=Severity.ERROR if meant and misses else Severity.WARNING,
            suggestion=meant,
            test=earlier,
            answer="true" if is_negated else "false",
        )
    for tool in {(each.name, id(each.schema)): each for each in found}.values():
        for test in earlier.params if tool.schema is not None else ():
            if SchemaReader(tool.schema or {}).presence(test.plain_path) is Presence.LACKS:
                words: dict[str, Any] = {"test": earlier, "path": test.path, "tool": tool.name}
                yield finding("parameter/uncounted", test.place, rule, **words)


_AMOUNTS = frozenset({"number", "integer"})
_TOLD_APART = frozenset({"string", "number", "integer", "boolean"})
"""The JSON Schema types of values by which calls can be counted apart."""


def _misfit(test: ParamTest, origin: Location, schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first step that no value of the tool's type fits, and that type."""
    for number, step in enumerate(test.steps):
        types = _types_at(schema, (*origin, *schema_location(test.steps[:number])))
        if isinstance(step, Step) and step in _TAKES and types and not types & set(_TAKES[step]):
            return f"[{step.value}]", " or ".join(sorted(types))
        if step not in (Step.ANY, Step.ALL) and isinstance(step, Step):
            break  # the schema does not say what such a step gives
    return None


def _into_a_list(rule: CompiledRule, test: ParamTest, schema: Mapping[str, Any]) -> str | None:
    """Return the path that was meant where a plain one leads into a list."""
    for number in range(1, len(test.keys)):
        if _types_at(schema, test.keys[:number]) == {"array"}:
            name, rest = test.keys[number], test.keys[number + 1 :]
            item = Step.ALL if rule.rule.approval is Approval.AUTO else Step.ANY
            step = item if name.isdigit() else _STEP_NAMES.get(name)
            behind: Location = (item, name, *rest) if step is None else (step, *rest)
            return path_of((*test.keys[:number], *behind, *test.steps))
    return None


def _types_at(schema: Mapping[str, Any], where: Location) -> set[str]:
    """Return the types of the value at `where`, without null; none where the schema does not say."""
    schemas = schemas_at(schema, where)
    if not all("type" in each for each in schemas):
        return set()
    return {str(type_) for each in schemas for type_ in _types(each.get("type"))}


def _type(rule: CompiledRule, test: ParamTest, tool: KnownTool, words: dict[str, Any]) -> Iterator[Finding]:
    """Find an expected value that no value of the parameter compares with."""
    where = schema_location(test.steps)
    if len(where) < len(test.steps):
        return  # the schema does not say what the last step gives
    schemas = schemas_at(tool.schema or {}, (*test.keys, *where))
    types = _types_at(tool.schema or {}, (*test.keys, *where))
    wanted = compared_types(test)
    if types and not types & set(wanted):
        words |= {"wanted": " or ".join(wanted), "types": " or ".join(sorted(types))}
        yield finding("type", test.place, rule, suggestion=_converted(test, types), **words)
    enums = [schema["enum"] for schema in schemas if isinstance(schema.get("enum"), (list, tuple))]
    if meaning(test) is Meaning.EQUAL and enums and len(enums) == len(schemas):
        choices = [each for enum in enums for each in enum]
        if not any(type(each) is type(test.expected) and each == test.expected for each in choices):
            hint = closest(str(test.expected), [each for each in choices if isinstance(each, str)])
            yield finding("enum", test.place, rule, suggestion=hint, expected=test.expected, **words)


def _converted(test: ParamTest, types: set[str]) -> str | None:
    """Return the expected value in the parameter's own type."""
    if isinstance(test.expected, str) and types & {"number", "integer"}:
        return test.expected if re.fullmatch(r"-?\d+(\.\d+)?", test.expected) else None
    if meaning(test) is Meaning.EQUAL and types == {"string"}:
        return f'"{str(test.expected).lower() if isinstance(test.expected, bool) else test.expected}"'
    return None


def _types(value: Any) -> Sequence[Any]:
    """Return the types of the keyword `type`, without null."""
    return [
        each
        for each in (value if isinstance(value, (list, tuple)) else [value])
        if each not in ("null", None)
    ]


CHECKS = Family(of_policy=(tools,))
