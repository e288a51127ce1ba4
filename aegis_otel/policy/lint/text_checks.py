"""Names, globs and values that read as something else: invisible characters, look-alikes, regex in globs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

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


def texts(subject: Subject) -> Iterator[Finding]:
    """Yield texts of rules that an eye reads as other ones, and globs that are written as something else."""
    for rule in subject.rules:
        for what, text, place, is_value in _texts(rule):
            if text.isascii():
                continue
            named = f"{what} {quoted(text)} of rule {quoted(rule.name)}"
            if message := _invisible(text):
                severity = severity_for(rule.rule) if what != "name" else Severity.WARNING
                yield Finding(severity, "invisible", f"{named} {message}", place, _plain(text))
            elif is_value and (message := _mixed(text, _FOREIGN, r"\w+")):
                yield Finding(Severity.WARNING, "look-alike", f"{named} {message}", place)
        for pattern, of_type, names in _patterns(rule, subject.inventory):
            if message := _deceptive(pattern.text):
                message = f"pattern {quoted(pattern.text)} {message}"
                yield Finding(severity_for(rule.rule), "pattern", message, pattern.place)
            elif finding := _foreign_syntax(rule, pattern, of_type, names):
                yield finding


def _texts(rule: CompiledRule) -> Iterator[tuple[str, str, Place, bool]]:
    """Yield what each text of the rule is, the text, its place, and whether calls have such texts."""
    written = rule.rule
    if written.name is not None:
        yield ("name", written.name, written.place, False)
    for pattern in (*written.types, *written.targets, *written.agents):
        yield ("pattern", pattern.text, pattern.place, False)
    for test in written.tests:
        yield ("parameter", test.path, test.place, True)
        if isinstance(test.expected, str):
            yield ("value", test.expected, test.place, test.operator != "matches")


def _patterns(
    rule: CompiledRule, inventory: Inventory | None
) -> Iterator[tuple[Pattern, bool, Iterable[str] | None]]:
    """Yield each glob, whether it is for tools, and the known texts that it is matched against."""
    names = None if inventory is None else [name for tool in inventory.tools for name in tool.names]
    yield from ((pattern, True, names) for pattern in rule.rule.types)
    yield from ((pattern, False, inventory and inventory.targets) for pattern in rule.rule.targets)
    yield from ((pattern, False, inventory and inventory.agents) for pattern in rule.rule.agents)


def _invisible(text: str) -> str | None:
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


_FOREIGN = re.compile("CYRILLIC|GREEK|ARMENIAN")
_NOT_LATIN = re.compile("(?!LATIN)")


def _mixed(text: str, foreign: re.Pattern[str], parts: str) -> str | None:
    """Say which part of `text` mixes ASCII letters with those of a `foreign` Unicode name."""
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
    if unicodedata.normalize("NFKC", text) != text:
        return "has characters that look like plainer ones and do not match them"
    return _mixed(text, _NOT_LATIN, ".+")


def _foreign_syntax(
    rule: CompiledRule, pattern: Pattern, of_type: bool, names: Iterable[str] | None
) -> Finding | None:
    """Find a glob that is written as a regular expression, or as a list in one text."""
    text = pattern.text
    strong = _STRONG.search(text)
    found = strong or _WEAK.search(text) or (of_type and re.search(r"\s", text.strip()))
    if not found:
        return None
    if names is not None and any(map(compile_glob(text).matches, names)):
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


def as_globs(text: str) -> list[str]:
    """Return what was probably meant, as globs."""
    slashes = r"|^/|/[a-z]*$" if text.startswith("/") else ""
    plain = re.sub(r"^\^|\$$|\(\?[a-z]*:?|[()]|\\b" + slashes, "", text)
    plain = re.sub(r"\.[*+]\??|\\[wdsS][*+]?|%", "*", plain).replace("\\", "")
    if braces := _BRACES.match(plain):
        plain = "|".join(f"{braces[1]}{part.strip()}{braces[3]}" for part in braces[2].split(","))
    parts = [part for part in _SPLIT.split(plain.lstrip("!")) if part]
    return list(dict.fromkeys(parts))[:10]
