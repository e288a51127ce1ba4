"""Names, globs and values that read as something else: invisible characters, look-alikes, regex in globs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.patterns import compile_glob
from aegis_otel.policy.lint.finding import Finding, Severity, severity_for
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.rules import Pattern, Place

# Characters without a shape of their own that are not format characters (Cf) to Unicode.
_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
)
_JOINER, _EMOJI_STYLE = "\u200d", "\ufe0f"
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")

_STRONG = re.compile(r"^\^|\$$|\.[*+]\??$|_\.[*+]|\\[wdsWDSbB.]|\(\?|^/.*/[a-z]*$|\)[*+?]")
_WEAK = re.compile(r"\.[*+]|\||\{[^}]*\}|^!|[()\\]|\s*[,;]\s*|%")
_SPLIT = re.compile(r"\s*[|,;]\s*")
_BRACES = re.compile(r"^(.*)\{([^{}]*)\}(.*)$", re.DOTALL)


class _Text(NamedTuple):
    what: str
    text: str
    place: Place
    is_value: bool


def texts(subject: Subject) -> Iterator[Finding]:
    """Texts of rules that an eye reads as other ones, and globs that are written as something else."""
    for rule in subject.rules:
        for each in _texts(rule):
            if message := _invisible(each.text):
                severity = severity_for(rule.rule) if each.what != "name" else Severity.WARNING
                message = f"{each.what} {quoted(each.text)} of rule {quoted(rule.name)} {message}"
                yield Finding(severity, "invisible", message, each.place, _plain(each.text))
            elif each.is_value and (message := _mixed(each.text)):
                message = f"{each.what} {quoted(each.text)} of rule {quoted(rule.name)} {message}"
                yield Finding(Severity.WARNING, "look-alike", message, each.place)
        for pattern, of_type, names in _patterns(rule, subject.inventory):
            if message := _deceptive(pattern):
                message = f"pattern {quoted(pattern.text)} {message}"
                yield Finding(severity_for(rule.rule), "pattern", message, pattern.place)
            elif finding := _foreign_syntax(rule, pattern, of_type, names):
                yield finding


def _texts(rule: CompiledRule) -> Iterator[_Text]:
    written = rule.rule
    if written.name is not None:
        yield _Text("name", written.name, written.place, False)
    for pattern in (*written.types, *written.targets, *written.agents):
        yield _Text("pattern", pattern.text, pattern.place, False)
    for test in written.tests:
        yield _Text("parameter", test.path, test.place, True)
        if isinstance(test.expected, str):
            yield _Text("value", test.expected, test.place, test.operator != "matches")


def _patterns(
    rule: CompiledRule, inventory: Inventory | None
) -> Iterator[tuple[Pattern, bool, Iterable[str] | None]]:
    """Each glob, whether it is for tools, and the texts that it is matched against, as far as known."""
    names = None if inventory is None else [name for tool in inventory.tools for name in tool.names]
    targets = None if inventory is None else inventory.targets
    agents = None if inventory is None else inventory.agents
    for patterns, of_type, known in (
        (rule.rule.types, True, names),
        (rule.rule.targets, False, targets),
        (rule.rule.agents, False, agents),
    ):
        for pattern in patterns:
            yield pattern, of_type, known


def _invisible(text: str) -> str | None:
    if text.isascii():
        return None
    for number, character in enumerate(text):
        hidden = unicodedata.category(character) in ("Cf", "Cc") and character not in "\t\n\r"
        if not hidden and not _SHAPELESS.match(character) and not _SPACES.match(character):
            continue
        if (
            character in (_JOINER, _EMOJI_STYLE)
            and number
            and unicodedata.category(text[number - 1]) in ("So", "Sk")
        ):
            continue  # part of an emoji
        name = unicodedata.name(character, "unnamed").lower()
        what = f"U+{ord(character):04X} ({name})"
        return f"has an invisible character, {what}: what reads like it does not match"
    return None


def _plain(text: str) -> str:
    spaced = _SPACES.sub(" ", text)
    return "".join(c for c in spaced if unicodedata.category(c) != "Cf" and not _SHAPELESS.match(c))


def _mixed(text: str) -> str | None:
    """A word that mixes ASCII letters with Cyrillic or Greek ones."""
    if text.isascii():
        return None
    for word in re.findall(r"\w+", text):
        foreign = [c for c in word if unicodedata.name(c, "").startswith(("CYRILLIC", "GREEK", "ARMENIAN"))]
        if foreign and any(c.isascii() and c.isalpha() for c in word):
            named = f"{quoted(foreign[0])} ({unicodedata.name(foreign[0]).lower()})"
            return f"mixes ASCII letters with {named}, which may look like one of them"
    return None


def _deceptive(pattern: Pattern) -> str | None:
    text = pattern.text
    if "[" in text:
        return "has a `[`, which is literal: only `*` and `?` are wild"
    if text != text.strip():
        return "begins or ends with a space"
    if text.isascii():
        return None
    if unicodedata.normalize("NFKC", text) != text:
        return "has characters that look like plainer ones and do not match them"
    foreign = [c for c in text if c.isalpha() and not unicodedata.name(c, "").startswith("LATIN")]
    if foreign and any(c.isascii() and c.isalpha() for c in text):
        named = f"`{foreign[0]}` ({unicodedata.name(foreign[0], 'unnamed').lower()})"
        return f"mixes ASCII letters with {named}, which may look like one of them"
    return None


def _foreign_syntax(
    rule: CompiledRule, pattern: Pattern, of_type: bool, names: Iterable[str] | None
) -> Finding | None:
    """A glob that is written as a regular expression, or as a list in one text."""
    text = pattern.text
    strong = _STRONG.search(text)
    found = strong or _WEAK.search(text) or (of_type and re.search(r"\s", text.strip()))
    if not found:
        return None
    if names is not None and any(_matches(pattern.text, name) for name in names):
        return None
    lists = bool(re.search(r"[|,;{]", text))
    sure = of_type and (bool(strong) or lists or text.startswith("!") or bool(re.search(r"[\s%]", text)))
    meant = as_globs(text)
    if text.startswith("!"):
        what = "begins with `!`, which is literal: put what is to be excluded into a rule before"
    elif lists and not strong:
        what = "is one text, in which everything but `*` and `?` is literal: write several as a list"
    else:
        what = (
            f"looks like a regular expression: {quoted(found[0])} is literal here, only `*` and `?` are wild"
        )
    example = (
        f", so {quoted(meant[0].replace('*', 'x'))} is not matched" if meant and meant[0] != text else ""
    )
    severity = severity_for(rule.rule) if sure else Severity.WARNING
    message = f"pattern {quoted(text)} {what}{example}"
    suggestion = meant[0] if len(meant) == 1 else "[" + ", ".join(f'"{each}"' for each in meant) + "]"
    return Finding(severity, "glob-syntax", message, pattern.place, suggestion if meant != [text] else None)


def _matches(glob: str, name: str) -> bool:

    return compile_glob(glob).matches(name)


def as_globs(text: str) -> list[str]:
    """What was probably meant, as globs."""
    plain = re.sub(
        r"^\^|\$$|\(\?[a-z]*:?|[()]|\\b|^/|/[a-z]*$"
        if text.startswith("/")
        else r"^\^|\$$|\(\?[a-z]*:?|[()]|\\b",
        "",
        text,
    )
    plain = re.sub(r"\.[*+]\??|\\[wdsS][*+]?|%", "*", plain).replace("\\", "")
    if braces := _BRACES.match(plain):
        plain = "|".join(f"{braces[1]}{part.strip()}{braces[3]}" for part in braces[2].split(","))
    parts = [part for part in _SPLIT.split(plain.lstrip("!")) if part]
    return list(dict.fromkeys(parts))[:10]
