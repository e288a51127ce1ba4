"""Checks of the texts in rules that read as something else: by look-alikes, or by regex in globs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.lint.finding import Finding, Severity, finding
from aegis_otel.policy.lint.subject import Family, Subject
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.operators.table import Meaning, meaning
from aegis_otel.policy.patterns import compile_glob
from aegis_otel.policy.rules import Pattern, Place, Rule
from aegis_otel.redaction.name_forms import normalized

# Characters without a shape of their own that are not format characters (Cf) to Unicode.
_SHAPELESS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff"
_SPACE = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SPACES, _UNSEEN = re.compile(f"[{_SPACE}]"), re.compile(f"[{_SHAPELESS}{_SPACE}]")
_JOINERS = "\u200d\ufe0f"
"""What joins emoji to one, and what asks for an emoji in colour."""

_STRONG = re.compile(r"^\^|\$$|\.[*+]\??$|_\.[*+]|\\[wdsWDSbB.]|\(\?|^/.*/[a-z]*$|\)[*+?]")
_WEAK = re.compile(r"\.[*+]|\||\{[^}]*\}|^!|[()\\]|\s*[,;]\s*|%")
_SPLIT = re.compile(r"\s*[|,;]\s*")
_BRACES = re.compile(r"^(.*)\{([^{}]*)\}(.*)$", re.DOTALL)


def texts(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find texts of a rule that an eye reads as other ones, and globs that are written as something else."""
    for what, text, place, is_value in _texts(rule):
        if text.isascii():
            continue
        words: dict[str, Any] = {"what": what, "text": text}
        if character := _invisible(text):
            severity = Severity.WARNING if what == "name" else None
            hint = _plain(text)
            yield finding(
                "invisible", place, rule, severity=severity, suggestion=hint, character=character, **words
            )
        elif is_value and (why := _mixed(text, _FOREIGN, r"\w+")):
            yield finding("look-alike", place, rule, why=why, **words)
    for pattern, is_type, names in _patterns(rule, subject.inventory):
        if why := _deceptive(pattern.text):
            yield finding("pattern", pattern.place, rule, text=pattern.text, why=why)
        else:
            yield from _foreign_syntax(rule, pattern, is_type, names)


def _texts(rule: CompiledRule) -> Iterator[tuple[str, str, Place, bool]]:
    """Yield what each text of the rule is, the text, its place, and whether calls have such texts."""
    written = rule.rule
    if written.name is not None:
        yield "name", written.name, written.place, False
    for pattern in (*written.types, *written.targets, *written.agents, *chain(*written.subject)):
        yield "pattern", pattern.text, pattern.place, False
    yield from (("pattern", pattern.text, pattern.place, False) for pattern in _approvers(written))
    for earlier in written.conditions.all_history:
        yield from (("pattern", pattern.text, pattern.place, False) for pattern in earlier.types)
        yield from (("parameter", each.path, each.place, True) for each in earlier.params)
    for test in written.conditions.all_tests:
        yield "parameter", test.path, test.place, True
        for value in test.values:
            if isinstance(value, str):
                yield "value", value, test.place, meaning(test) is not Meaning.PATTERN


def _patterns(
    rule: CompiledRule, inventory: Inventory | None
) -> Iterator[tuple[Pattern, bool, Iterable[str] | None]]:
    """Yield each glob, whether it is for tools, and the known texts that it is matched against."""
    names = None if inventory is None else inventory.names
    yield from ((pattern, True, names) for pattern in rule.rule.types)
    for test in rule.rule.conditions.all_history:
        yield from ((pattern, True, names) for pattern in test.types)
    yield from ((pattern, False, inventory and inventory.targets) for pattern in rule.rule.targets)
    yield from ((pattern, False, inventory and inventory.agents) for pattern in rule.rule.agents)
    yield from ((pattern, False, None) for pattern in chain(*rule.rule.subject))
    yield from ((pattern, False, None) for pattern in _approvers(rule.rule))


def _approvers(rule: Rule) -> Iterator[Pattern]:
    """Yield the globs of who may answer, at the place of the rule."""
    if rule.approvers is not None:
        globs = (*rule.approvers.users, *rule.approvers.roles)
        yield from (Pattern(each, rule.place) for each in globs)


def _invisible(text: str) -> str | None:
    """Return the code point and the name of the first invisible character."""
    for before, character in zip(" " + text, text, strict=False):
        category = unicodedata.category(character)
        if (category in ("Cf", "Cc") and character not in "\t\n\r") or _UNSEEN.match(character):
            if character in _JOINERS and unicodedata.category(before) in ("So", "Sk"):
                continue  # part of an emoji
            return f"U+{ord(character):04X} ({unicodedata.name(character, 'unnamed').lower()})"
    return None


def _plain(text: str) -> str:
    spaced = _SPACES.sub(" ", text)
    return "".join(c for c in spaced if unicodedata.category(c) != "Cf" and not _UNSEEN.match(c))


_FOREIGN = re.compile("CYRILLIC|GREEK|ARMENIAN")
_NOT_LATIN = re.compile("(?!LATIN)")


def _mixed(text: str, foreign: re.Pattern[str], parts: str) -> str | None:
    """Return the end of a sentence about `text` where a `foreign` letter stands among ASCII letters."""
    for part in re.findall(parts, text, re.DOTALL) if not text.isascii() else ():
        found = [c for c in part if c.isalpha() and foreign.match(unicodedata.name(c, "unnamed"))]
        if found and any(c.isascii() and c.isalpha() for c in part):
            named = f"{quoted(found[0])} ({unicodedata.name(found[0], 'unnamed').lower()})"
            return f"mixes ASCII letters with {named}, which may look like one of them"
    return None


def _deceptive(text: str) -> str | None:
    if "[" in text:
        return "has a `[`, which is literal: only `*` and `?` are wild"
    if text != text.strip():
        return "begins or ends with a space"
    if normalized(text, "NFKC") != text:
        return "has characters that look like plainer ones and do not match them"
    return _mixed(text, _NOT_LATIN, ".+")


def _foreign_syntax(
    rule: CompiledRule, pattern: Pattern, is_type: bool, names: Iterable[str] | None
) -> Iterator[Finding]:
    """Find a glob that is written as a regular expression, or as a list in one text."""
    text = pattern.text
    strong = _STRONG.search(text)
    found = strong or _WEAK.search(text) or (is_type and re.search(r"\s", text.strip()))
    if not found or (names is not None and any(map(compile_glob(text, pattern.ignores_case).matches, names))):
        return
    is_list = bool(re.search(r"[|,;{]", text))
    is_sure = is_type and (bool(strong) or is_list or bool(re.search(r"^!|[\s%]", text)))
    if text.startswith("!"):
        why = "begins with `!`, which is literal: put what is to be excluded into a rule before"
    elif is_list and not strong:
        why = "is one text, in which everything but `*` and `?` is literal: write several as a list"
    else:
        why = (
            f"looks like a regular expression: {quoted(found[0])} is literal here, only `*` and `?` are wild"
        )
    meant = as_globs(text)
    example = (
        f", so {quoted(meant[0].replace('*', 'x'))} is not matched" if meant and meant[0] != text else ""
    )
    suggestion = meant[0] if len(meant) == 1 else "[" + ", ".join(f'"{each}"' for each in meant) + "]"
    yield finding(
        *("glob-syntax", pattern.place, rule),
        severity=None if is_sure else Severity.WARNING,
        suggestion=suggestion if meant != [text] else None,
        text=text,
        why=why,
        example=example,
    )


def as_globs(text: str) -> list[str]:
    """Return what was probably meant, as globs."""
    slashes = r"|^/|/[a-z]*$" if text.startswith("/") else ""
    plain = re.sub(r"^\^|\$$|\(\?[a-z]*:?|[()]|\\b" + slashes, "", text)
    plain = re.sub(r"\.[*+]\??|\\[wdsS][*+]?|%", "*", plain).replace("\\", "")
    if braces := _BRACES.match(plain):
        plain = "|".join(f"{braces[1]}{part.strip()}{braces[3]}" for part in braces[2].split(","))
    parts = [part for part in _SPLIT.split(plain.lstrip("!")) if part]
    return list(dict.fromkeys(parts))[:10]


CHECKS = Family(of_rule=(texts,))
