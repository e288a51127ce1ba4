"""Checks of `auto` rules: the inputs that they let through and that were probably not meant.

A pattern below `not` in a `block` rule lets inputs through as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase
from typing import Any, NamedTuple

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.lint.finding import Finding, Severity, finding
from aegis_otel.policy.lint.parameter_content import (
    WORDS,
    Content,
    changing_verbs,
    content_of,
    is_amount,
    numbers_of,
)
from aegis_otel.policy.lint.regex_samples import (
    branches,
    ends_within_a_name,
    inserted,
    is_found,
    lone_dots,
    samples,
    slots,
)
from aegis_otel.policy.lint.subject import Example, Family, Subject
from aegis_otel.policy.messages import shown
from aegis_otel.policy.operators.table import Meaning, judge, meaning
from aegis_otel.policy.rules import ParamTest, Step

_EVIL = "evil.example"
_OPENING = {"host", "newline/command", "shell-chain", "traversal"}
"""Attacks that are errors where a block would hold without the rule."""
_OPENING_FOR = {Content.COMMAND, Content.PATH}
"""What a parameter holds where text before, after or on another line is such an attack as well."""


class Attack(NamedTuple):
    """A value to be tried."""

    what: str
    """Its finding."""
    value: str
    words: Mapping[str, str] = {}
    """What the text of the finding leaves open."""

    def opens(self, content: Content) -> bool:
        """Return whether it is an error where a block would hold without the rule."""
        strict = self.what.startswith(("multi-line", "unanchored")) and content in _OPENING_FOR
        return strict or self.what in _OPENING


def attacks(test: ParamTest) -> Iterator[Attack]:
    """Yield values that the pattern of `test` may take and should not, the most telling first."""
    pattern, content = str(test.expected), content_of(test.path)
    texts = list(samples(pattern))
    yield from _everything(pattern)
    if content is Content.PATH:
        yield from _paths(pattern, texts)
    if content is Content.URL:
        yield from _hosts(pattern)
    yield from _new_lines(pattern, content)
    if content is Content.COMMAND:
        yield from _inserted(pattern, "shell-chain", WORDS["second commands"])
        yield from _arguments(pattern, texts)
    if content is Content.SQL:
        yield from _inserted(pattern, "sql-write", WORDS["SQL effects"])
    yield from _ends(texts, content)
    for text, before in lone_dots(pattern, "X"):
        yield Attack("unescaped-dot", text, {"before": before})


def _inserted(pattern: str, what: str, payloads: Iterable[str]) -> Iterator[Attack]:
    """Yield each text that the pattern takes with a payload in one of its open places."""
    for payload in payloads:
        for text, _ in inserted(pattern, payload):
            yield Attack(what, text)


def _everything(pattern: str) -> Iterator[Attack]:
    """Yield texts for a pattern that says nothing, or only what may not be there."""
    if is_found(pattern, "") and is_found(pattern, "anything at all"):
        yield Attack("matches-all", "anything at all")
        return
    for branch in branches(pattern):
        atoms = slots(branch)
        if atoms and all(atom.is_negated or atom.is_dot for atom in atoms):
            # The letters that the classes exclude, in the other case where they take that.
            excluded = [each for each in ascii_lowercase if not all(atom.admits(each) for atom in atoms)]
            yield Attack("negated", "".join(excluded).upper() or "x")
            yield Attack("negated", "anything")


def _paths(pattern: str, texts: list[str]) -> Iterator[Attack]:
    for payload in WORDS["paths"]["traversals"]:
        for text in texts:
            yield Attack("traversal", text.rstrip("/") + payload if payload[0] == "/" else text + payload)
        yield from _inserted(pattern, "traversal", [payload])
    yield from _inserted(pattern, "traversal/backslash", WORDS["paths"]["backslashes"])
    for payload in WORDS["paths"]["absolute"]:
        for attack in _inserted(pattern, "absolute-path", [payload]):
            if attack.value.startswith(payload):
                yield attack
    for text in ends_within_a_name(pattern):
        yield Attack("path-prefix", f"{text}-secret/x")


def _hosts(pattern: str) -> Iterator[Attack]:
    for payload, reason in [*WORDS["other hosts"], (_EVIL, None)]:
        for text, _ in inserted(pattern, payload):
            if host(text) == _EVIL:
                yield Attack("host", text, {"reason": reason}) if reason else Attack("host/any", text)


def host(url: str) -> str:
    """Return the host that a lenient client reaches with `url`, without port; empty where there is none."""
    _, found, rest = url.replace("\\", "/").partition("://")
    rest = re.split("[/?#]", rest)[0]
    return rest.rpartition("@")[2].partition(":")[0].lower().rstrip(".") if found else ""


def _new_lines(pattern: str, content: Content) -> Iterator[Attack]:
    is_command = content is Content.COMMAND
    for payload in ("\ntouch x", "\n"):
        for text, atom in inserted(pattern, payload):
            if "\n" in text and atom.admits("\n") and (is_command or atom.is_negated or atom.is_dot):
                yield Attack("newline/command" if is_command else "newline", text, {"atom": atom.source})


def _arguments(pattern: str, texts: list[str]) -> Iterator[Attack]:
    """Yield arguments with which an allowed program does more than its name says."""
    for program in dict.fromkeys(text.split(" ")[0].rpartition("/")[2] for text in texts):
        for arguments in WORDS["programs"].get(program, ()):
            words = {"program": program}
            yield Attack("arguments", f"{program} {arguments}", words)
            for attack in _inserted(pattern, "arguments", (arguments, f" {arguments}")):
                if attack.value.startswith(f"{program} "):
                    yield attack._replace(words=words)


def _ends(texts: list[str], content: Content) -> Iterator[Attack]:
    """Yield texts with more before and after what the pattern looks for."""
    before, after = WORDS["before"][content.value], WORDS["after"][content.value]
    for text in texts:
        yield Attack("multi-line", f"{text}\n{after.strip('; ')}")
        yield Attack("multi-line", f"{before.strip('; ')}\n{text}")
        yield Attack("unanchored/start", before + text)
        # What follows a directory, or a whole host, is meant to be open.
        if content is not Content.PATH and not (content is Content.URL and text.count("/") > 2):
            yield Attack("unanchored/end", text + after)


_LARGE = 1_000_000_000
_WILD = re.compile(r"[*?]")


def allowing(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find what an `auto` rule lets through, or what a `block` rule excepts by `not`."""
    if rule.rule.approval is Approval.AUTO:
        yield from _auto(subject, rule)
    for test, is_negated in rule.rule.conditions.tests_with_sign():
        if rule.rule.approval is not (Approval.BLOCK if is_negated else Approval.AUTO):
            continue
        example = subject.example(rule, None if is_negated else test)
        if example is None:
            continue
        if not is_negated and subject.runs_with_another_item(rule, example, test, Step.ANY):
            yield finding("any-allow", test.place, rule, test=test)
        if meaning(test) is Meaning.PART:
            yield from _part(subject, rule, test, example)
        elif meaning(test) is Meaning.PATTERN:
            yield from _pattern(subject, rule, test, example)
        elif meaning(test) is Meaning.COMMANDS:
            yield from _commands(subject, rule, test, example)


def _auto(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    yield from _plain(rule, is_last=rule is subject.rules[-1])
    yield from _changing_tools(subject, rule)
    for test, is_negated in rule.rule.conditions.history_with_sign():
        if test.key != "after" and not is_negated:
            yield finding("over-allow", test.place, rule, test=test, key=test.key)
    example = subject.example(rule) if any(rule.rule.conditions.all_tests) or subject.tools_of(rule) else None
    if example is not None:
        yield from _bounds(subject, rule, example)
        yield from _other_paths(subject, rule, example)


def _passes(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example, value: object) -> bool:
    """Return whether the example runs unasked with `value` for the parameter of `test`, and because of it."""
    by_rule = rule if rule.rule.approval is Approval.AUTO else None
    is_sure = test in rule.rule.tests or judge(test, value) is True
    return is_sure and subject.runs(example.with_param(test.path, value), example.now, by_rule)


def _plain(rule: CompiledRule, *, is_last: bool) -> Iterator[Finding]:
    written = rule.rule
    everything = all(
        each.text == "*" and each.place == written.place
        for each in (*written.types, *written.targets, *written.agents)
    )
    # Rules after one that matches everything are reported as shadowed.
    if everything and (is_last or written.is_conditional):
        yield finding("no-match", written.place, rule)
    if written.risk_level is RiskLevel.CRITICAL:
        yield finding("critical-auto", written.place, rule)


def _part(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    """Find a value that holds more than the part which the rule asks for."""
    text = f"{test.expected} and anything else"
    values: dict[str, object] = {
        shown(text): text,
        "a list with another item": [test.expected, "anything else"],
    }
    for name, value in values.items():
        if _passes(subject, rule, test, example, value):
            yield finding("contains-allow", test.place, rule, test=test, expected=test.expected, value=name)
            return


def _pattern(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    seen: set[str] = set()
    if re.search(r"\(\?[a-z]*m", str(test.expected)) is None:
        seen.add("multi-line")
    for attack in attacks(test):
        kind = attack.what.partition("/")[0]
        action = example.with_param(test.path, attack.value)
        if kind in seen or not _passes(subject, rule, test, example, attack.value):
            continue
        seen.add(kind)
        opens = attack.opens(content_of(test.path))
        behind = subject.without(rule, action, example.now) if opens else None
        is_blocked = behind is not None and behind.approval is Approval.BLOCK
        severity = Severity.ERROR if is_blocked else Severity.WARNING
        words: dict[str, Any] = {"test": test, "value": attack.value, **attack.words}
        yield finding(attack.what, test.place, rule, severity=severity, **words)


def _commands(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    """Find a `*` behind a program that its words can make run another one."""
    seen: set[str] = set()
    for command in map(str, test.values):
        words, _, is_open = command.strip().rpartition(" ")
        program = words.split(" ")[0].rpartition("/")[2]
        found = WORDS["runs others"]["anywhere"].get(program)
        if found is None and " " not in words.strip():
            found = WORDS["runs others"]["directly after its name"].get(program)
        if is_open != "*" or found is None or program in seen:
            continue
        line = f"{words} {found}"
        if _passes(subject, rule, test, example, line):
            seen.add(program)
            yield finding("arguments", test.place, rule, test=test, value=line, program=program)


def _bounds(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Find numbers that the rule bounds on one side only, and amounts that it does not test."""
    tests = rule.rule.tests
    above = {test.path: test.place for test in tests if meaning(test) is Meaning.UPPER_BOUND}
    below = {test.path: test.place for test in tests if meaning(test) is Meaning.LOWER_BOUND}
    properties = properties_of(example.action.schema)
    for path in numbers_of(example.action.schema):
        if is_amount(path) and all(test.path != path for test in rule.rule.conditions.all_tests):
            below[path] = rule.rule.place
    for places, what, value, key in (
        (above, "no-lower-bound", -1_000_000, "minimum"),
        (below, "no-upper-bound", _LARGE, "maximum"),
    ):
        for path, place in places.items():
            inner = properties.get(path)
            limits = (
                [inner.get(key), inner.get(f"exclusive{key.title()}")] if isinstance(inner, Mapping) else []
            )
            bound = next((each for each in limits if isinstance(each, (int, float))), None)
            if bound is not None and (key == "maximum" or bound >= 0):
                continue
            if subject.runs(example.with_param(path, value), example.now, rule):
                yield finding(what, place, rule, path=path, value=value)


def _changing_tools(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find tools that a glob matches and whose names, unlike the glob, say that they change something."""
    if rule.rule.is_conditional or not any(_WILD.search(glob.text) for glob in rule.types):
        return
    meant = {verb for glob in rule.types for verb in changing_verbs(glob.text)}
    for tool in subject.tools_of(rule):
        verbs = [verb for verb in changing_verbs(tool.name) if verb not in meant]
        if verbs and all(glob.text != tool.name for glob in rule.types) and subject.runs_tool(rule, tool):
            yield finding("wide-glob", rule.rule.types[0].place, rule, tool=tool.name, verb=verbs[0])


def _other_paths(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Find parameters that hold paths and are not tested, where the rule tests another such parameter."""
    tested = {test.path for test in rule.rule.conditions.all_tests}
    one = next((test for test in rule.rule.tests if content_of(test.path) is Content.PATH), None)
    names = dict.fromkeys(["move_to"] if example.action.type == "apply_patch" else [])
    names |= dict.fromkeys(properties_of(example.action.schema))
    value = "../.bashrc"
    for name in names if one is not None else ():
        if name in tested or content_of(name) is not Content.PATH:
            continue
        if one is not None and subject.runs(example.with_param(name, value), example.now, rule):
            yield finding("untested-path", one.place, rule, path=one.path, other=name, value=value)


CHECKS = Family(of_rule=(allowing,))
