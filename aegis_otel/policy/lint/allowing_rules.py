"""Rules that let calls run: inputs that they let through and that were hardly meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase
from typing import NamedTuple

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.tool_schema import properties_of
from aegis_otel.policy.lint.finding import Finding, Severity
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
from aegis_otel.policy.lint.subject import Example, Subject
from aegis_otel.policy.messages import quoted, shown
from aegis_otel.policy.rules import ParamTest

_EVIL = "evil.example"


class Attack(NamedTuple):
    """A value to be tried."""

    kind: str
    value: str
    why: str
    opens: bool
    """Whether it is an error where a block would hold without the rule."""


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
        why = "a shell runs a second command there; allow only the characters that are needed"
        yield from _inserted(pattern, WORDS["second commands"], Attack("shell-chain", "", why, True))
        yield from _arguments(pattern, texts)
    if content is Content.SQL:
        why = "a statement that reads can also write, or call a function that does; name tables and columns"
        yield from _inserted(pattern, WORDS["SQL effects"], Attack("sql-write", "", why, False))
    yield from _ends(texts, content)
    for text, before in lone_dots(pattern, "X"):
        why = f"the `.` after {quoted(before)} takes every character; write `\\.`"
        yield Attack("unescaped-dot", text, why, False)


def _inserted(pattern: str, payloads: Iterable[str], attack: Attack) -> Iterator[Attack]:
    """Yield the attack with each text that the pattern takes with a payload in one of its open places."""
    for payload in payloads:
        for text, _ in inserted(pattern, payload):
            yield attack._replace(value=text)


def _everything(pattern: str) -> Iterator[Attack]:
    """Yield texts for a pattern that says nothing, or only what may not be there."""
    if is_found(pattern, "") and is_found(pattern, "anything at all"):
        yield Attack("matches-all", "anything at all", "the pattern is found in every text", False)
        return
    for branch in branches(pattern):
        atoms = slots(branch)
        if not atoms or not all(atom.is_negated or atom.is_dot for atom in atoms):
            continue
        why = "the pattern says only what may not be there; name what may"
        # The letters that the classes exclude, in the other case where they take that.
        excluded = [each for each in ascii_lowercase if not all(atom.admits(each) for atom in atoms)]
        for text in ("".join(excluded).upper() or "x", "anything"):
            yield Attack("negated", text, why, False)


def _paths(pattern: str, texts: list[str]) -> Iterator[Attack]:
    why = "`..` leads out of the directory; block `..` in a rule before, or match whole names"
    for payload in WORDS["paths"]["traversals"]:
        for text in (
            *(text.rstrip("/") + payload if payload[0] == "/" else text + payload for text in texts),
            *(value for value, _ in inserted(pattern, payload)),
        ):
            yield Attack("traversal", text, why, True)
    why = "a `\\` separates directories on Windows; match only the characters that names have"
    yield from _inserted(pattern, WORDS["paths"]["backslashes"], Attack("traversal", "", why, False))
    why = "any file can be named so; begin the pattern with the directory"
    for payload in WORDS["paths"]["absolute"]:
        for text, _ in inserted(pattern, payload):
            if text.startswith(payload):
                yield Attack("absolute-path", text, why, False)
    why = "the pattern ends within a name; end it with `/`"
    for text in ends_within_a_name(pattern):
        yield Attack("path-prefix", f"{text}-secret/x", why, False)


def _hosts(pattern: str) -> Iterator[Attack]:
    for payload, why in WORDS["other hosts"]:
        for text, _ in inserted(pattern, payload):
            if host(text) == _EVIL:
                what = f"its host is `{_EVIL}`, because {why}; match the whole host, character by character"
                yield Attack("host", text, what, True)
    for text, _ in inserted(pattern, _EVIL):
        if host(text) == _EVIL:
            yield Attack("host", text, "the pattern takes every host; name those that are meant", False)


def host(url: str) -> str:
    """Return the host that a lenient client reaches with `url`, without port; empty where there is none."""
    _, found, rest = url.replace("\\", "/").partition("://")
    if not found:
        return ""
    for sign in "/?#":
        rest = rest.partition(sign)[0]
    return rest.rpartition("@")[2].partition(":")[0].lower().rstrip(".")


def _new_lines(pattern: str, content: Content) -> Iterator[Attack]:
    for payload in ("\ntouch x", "\n"):
        for text, atom in inserted(pattern, payload):
            if (
                "\n" in text
                and atom.admits("\n")
                and (content is Content.COMMAND or atom.is_negated or atom.is_dot)
            ):
                what = quoted(atom.source)
                if content is Content.COMMAND:
                    why = f"{what} matches the line break before another command; exclude `\\n` as well"
                else:
                    why = f"{what} matches a line break; exclude `\\n` as well"
                yield Attack("newline", text, why, content is Content.COMMAND)


def _arguments(pattern: str, texts: list[str]) -> Iterator[Attack]:
    """Yield arguments with which an allowed program does more than its name says."""
    for program in dict.fromkeys(text.split(" ")[0].rpartition("/")[2] for text in texts):
        for arguments in WORDS["programs"].get(program, ()):
            why = f"{quoted(program)} does more with these arguments; list those that are meant"
            yield Attack("arguments", f"{program} {arguments}", why, False)
            for payload in (arguments, f" {arguments}"):
                for text, _ in inserted(pattern, payload):
                    if text.startswith(f"{program} "):
                        yield Attack("arguments", text, why, False)


def _ends(texts: list[str], content: Content) -> Iterator[Attack]:
    """Yield texts with more before and after what the pattern looks for."""
    open_end = "the pattern does not say how the value ends: write `$` at its end, for each alternative"
    open_start = "the pattern does not say how the value begins: write `^` at its start, for each alternative"
    strict = content in (Content.COMMAND, Content.PATH)
    before, after = WORDS["before"][content.value], WORDS["after"][content.value]
    lines = "`^` and `$` hold at each line: drop the flag `m`"
    for text in texts:
        for other in (f"{text}\n{after.strip('; ')}", f"{before.strip('; ')}\n{text}"):
            yield Attack("multi-line", other, lines, strict)
        yield Attack("unanchored", before + text, open_start, strict)
        if content is Content.PATH or (content is Content.URL and text.count("/") > 2):
            continue  # what follows a directory, or a whole host, is meant to be open
        yield Attack("unanchored", text + after, open_end, strict)


_LARGE = 1_000_000_000
_WILD = re.compile(r"[*?]")


def allowing(subject: Subject) -> Iterator[Finding]:
    """Find what `auto` rules let through."""
    for rule in subject.rules:
        if rule.rule.approval is not Approval.AUTO:
            continue
        yield from _plain(rule, is_last=rule is subject.rules[-1])
        yield from _changing_tools(subject, rule)
        example = subject.example(rule) if rule.rule.tests or subject.tools_of(rule) else None
        if example is None:
            continue
        yield from _bounds(subject, rule, example)
        for test in rule.rule.tests:
            if test.operator == "contains":
                yield from _contains(subject, rule, test, example)
            elif test.operator == "matches":
                yield from _matches(subject, rule, test, example)
        yield from _other_paths(subject, rule, example)


def _plain(rule: CompiledRule, *, is_last: bool) -> Iterator[Finding]:
    written = rule.rule
    everything = all(
        each.text == "*" and each.place == written.place
        for each in (*written.types, *written.targets, *written.agents)
    )
    # Rules after one that matches everything are reported as shadowed.
    if everything and (is_last or written.is_conditional):
        message = (
            f"rule {quoted(rule.name)} is `auto` and has no `match`: it lets every tool run, also those that "
            "are added later; write `match`, or use `defaults` if that is meant"
        )
        yield Finding(Severity.WARNING, "no-match", message, written.place)
    if written.risk_level is RiskLevel.CRITICAL:
        message = (
            f"rule {quoted(rule.name)} is `auto` at `critical` risk: what it names runs unasked; write "
            "`approval: approve` or `block`, or a lower risk"
        )
        yield Finding(Severity.WARNING, "critical-auto", message, written.place)


def _contains(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    text = str(test.expected)
    values: dict[str, object] = {
        shown(f"{text} and anything else"): f"{text} and anything else",
        "a list with another item": [test.expected, "anything else"],
    }
    for name, value in values.items():
        if subject.runs(example.with_param(test.path, value), example.now, rule):
            message = (
                f"{test} lets more through than {shown(test.expected)}: {name} runs, too; use "
                "`param_eq`, or `param_matches` with `^` and `$`"
            )
            yield Finding(Severity.WARNING, "contains-allow", message, test.place)
            return


def _matches(subject: Subject, rule: CompiledRule, test: ParamTest, example: Example) -> Iterator[Finding]:
    seen: set[str] = set()
    flagged = re.search(r"\(\?[a-z]*m", str(test.expected)) is not None
    for attack in attacks(test):
        if attack.kind in seen or (attack.kind == "multi-line" and not flagged):
            continue
        action = example.with_param(test.path, attack.value)
        if not subject.runs(action, example.now, rule):
            continue
        seen.add(attack.kind)
        behind = subject.without(rule, action, example.now) if attack.opens else None
        blocked = behind is not None and behind.approval is Approval.BLOCK
        severity = Severity.ERROR if blocked else Severity.WARNING
        message = f"{test} of rule {quoted(rule.name)} lets {shown(attack.value)} run: {attack.why}"
        yield Finding(severity, attack.kind, message, test.place)


def _bounds(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Yield numbers that the rule bounds on one side only, and amounts that it does not look at."""
    tests = rule.rule.tests
    above = {test.path: test.place for test in tests if test.operator in ("lt", "lte")}
    below = {test.path: test.place for test in tests if test.operator in ("gt", "gte")}
    for path in numbers_of(example.action.schema):
        if is_amount(path) and all(test.path != path for test in tests):
            below[path] = rule.rule.place
    for places, side, value, key, fix in (
        (above, "lower", -1_000_000, "minimum", "param_gte: {{ {}: 0 }}`"),
        (below, "upper", _LARGE, "maximum", "param_lte: {{ {}: … }}` with what may run unasked"),
    ):
        for path, place in places.items():
            inner = properties_of(example.action.schema).get(path)
            found = (
                [inner.get(each) for each in (key, f"exclusive{key.title()}")]
                if isinstance(inner, Mapping)
                else []
            )
            bound = next((each for each in found if isinstance(each, (int, float))), None)
            if bound is not None and (side == "upper" or bound >= 0):
                continue
            if subject.runs(example.with_param(path, value), example.now, rule):
                message = (
                    f"rule {quoted(rule.name)} has no {side} bound for {quoted(path)}: {value} runs; add "
                )
                yield Finding(Severity.WARNING, f"no-{side}-bound", f"{message}`{fix.format(path)}", place)


def _changing_tools(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find tools that a glob matches and whose names, unlike the glob, say that they change something."""
    if rule.rule.is_conditional or not any(_WILD.search(glob.text) for glob in rule.types):
        return
    meant = {verb for glob in rule.types for verb in changing_verbs(glob.text)}
    for tool in subject.tools_of(rule):
        verbs = [verb for verb in changing_verbs(tool.name) if verb not in meant]
        if not verbs or any(glob.text == tool.name for glob in rule.types):
            continue
        if subject.runs_tool(rule, tool):
            message = (
                f"rule {quoted(rule.name)} lets {quoted(tool.name)} run, whose name says {quoted(verbs[0])}: "
                "name the tools that are meant, or block this one in a rule before"
            )
            yield Finding(Severity.WARNING, "wide-glob", message, rule.rule.types[0].place)


def _other_paths(subject: Subject, rule: CompiledRule, example: Example) -> Iterator[Finding]:
    """Find parameters with paths that a rule which looks at one path does not look at."""
    tested = {test.path for test in rule.rule.tests}
    looked = next((test for test in rule.rule.tests if content_of(test.path) is Content.PATH), None)
    if looked is None:
        return
    names = dict.fromkeys(["move_to"] if example.action.type == "apply_patch" else [])
    names |= dict.fromkeys(properties_of(example.action.schema))
    value = "../.bashrc"
    for name in names:
        if name in tested or content_of(name) is not Content.PATH:
            continue
        if not subject.runs(example.with_param(name, value), example.now, rule):
            continue
        message = (
            f"rule {quoted(rule.name)} looks at {quoted(looked.path)} and not at {quoted(name)}: "
            f"{shown(value)} runs there; ask about {quoted(name)} in a rule before"
        )
        yield Finding(Severity.WARNING, "untested-path", message, looked.place)
