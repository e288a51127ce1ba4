"""The rules of gitleaks: kept as data (`data/gitleaks.json`, MIT), renewed by `make secret-rules`.

Each is run only over a text in which a looser form of it was found; `text.Engine` looks for those of all
rules, and for its own patterns, in one pass.
"""

from __future__ import annotations

import math
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import msgspec
import re2

from aegis_otel.redaction import masks
from aegis_otel.redaction.masks import Span
from aegis_otel.redaction.secrets.names import OPTIONS, pattern_set

EDGE = r"(?:^|[^A-Za-z0-9]|\\[abfnrtv]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})"
"""What may stand before a token: nothing, no letter or digit, or an escape inside a repr or JSON."""

_NAME_BEFORE = ("(?i)[\\w.-]{0,50}?", "[\\w.-]{0,50}?(?i:[\\w.-]{0,50}?")
_NAME_NOW = ("(?i)", "(?i:")
_AFTER = "(?:[\\x60'\"\\s;]|\\\\[nr]|$)"
"""How most rules end: a token that a comma or a bracket follows is one as well."""
_NO_GROUP = re.compile(r"\\.|\[[^\]]*\]")
_LITERAL = re.compile(r"[A-Za-z0-9]{2}")
"""What tells one token from another; without it, the first pass would find the beginning of any word."""
_COUNT = re.compile(r"\{(\d+)(?:,\d*)?\}")
_TAIL = r"(?:[^0-9A-Za-z]|\z)"
_VENDOR = re.compile(r"\(\?i\)\(\?:\(\?:(.+?)\)\(\?:\[ \\t\\w\.-\]\{0,20\}\)")
_CLASS_FIRST = re.compile(
    r"^((?:\(\?i\))?(?:\((?:\?:)?)*?)(?:\(\?:\^\|\[[^\]]+\]\)(\())?(?:\[[^\]]+\]|\\d)\{[\d,]+\}"
    r"(?:_\[[^\]]+\]\{\d+\}(?=_))?"  # of `ab12_cd34_mmk`: an underscore alone tells nothing
)
_REPEATED = re.compile(r"\)\{\d")
"""A group that repeats is no secret, but a part of one."""
_GROUP = re.compile(r"(?<!\\)\((?!\?)")
_rest = re2.compile(rb"[A-Za-z0-9_\-]*", OPTIONS)


class Rule(msgspec.Struct, frozen=True):
    """A rule as the data has it."""

    id: str
    regex: str
    entropy: float = 0.0
    group: int = 0
    allowed: tuple[str, ...] = ()


class Rules(msgspec.Struct, frozen=True):
    """The data file."""

    source: str
    rules: tuple[Rule, ...]


@cache
def rules() -> Rules:
    """Read the data once."""
    data = pkgutil.get_data("aegis_otel.redaction", "data/gitleaks.json")
    return msgspec.json.decode(data or b"", type=Rules)


def strict(rule: Rule) -> str:
    """The rule's pattern, without the name before it, and ending where the token does."""
    regex = rule.regex
    for before, now in zip(_NAME_BEFORE, _NAME_NOW, strict=True):
        if regex.startswith(before):
            regex = now + regex.removeprefix(before)
    regex = regex.replace(_AFTER, _TAIL)
    flags = "(?i)" if regex.startswith("(?i)") else ""
    rest = regex.removeprefix(flags)
    edged = rest.startswith("\\b") or rest[0].isalnum()
    opening = "(?:" if _GROUP.search(rest) else "("
    return f"{flags}{EDGE if edged else ''}{opening}{rest.removeprefix(chr(92) + 'b')})"


def loose(tokens: Sequence[Rule], counted: int = 6) -> str:
    """A pattern found wherever one of these rules is, with few states; the fewer, the less is `counted`."""
    edged: list[str] = []
    others: list[str] = []
    for rule in tokens:
        before, edge, rest = strict(rule).rpartition(EDGE)
        rest = rest.replace(_TAIL, "").replace(r"\b", "")
        short = _CLASS_FIRST.sub(r"\1\2", rest)
        (edged if edge and short == rest else others).append(f"(?:{before}{fewer(short, counted)})")
    begin_words = [f"{EDGE}(?:{'|'.join(edged)})"] if edged else []
    return "|".join((*begin_words, *others))


def fewer(pattern: str, counted: int = 6) -> str:
    """The pattern with repetitions that are `counted` so far, up to the first of these if that can be.

    What would go on counting behind it has a state for every pair of counts that a text of tokens has: with
    the 40 of a token, a text of random letters is slow.
    """

    def less(found: re.Match[str]) -> str:
        return f"{{{min(int(found.group(1)), counted)},}}"

    for found in _COUNT.finditer(pattern):
        before = pattern[: found.start()]
        groups = _NO_GROUP.sub("", before)
        told = _LITERAL.search(groups) is not None and "|" not in pattern[found.end() :]
        if told and int(found.group(1)) >= counted:
            closing = ")" * (groups.count("(") - groups.count(")"))
            return f"{_COUNT.sub(less, before)}{{{counted}}}{closing}"
    return _COUNT.sub(less, pattern)


def split(without: Sequence[str]) -> tuple[list[Rule], list[Rule]]:
    """The rules in use: those that know a token by itself, and those that need a vendor's name before it."""
    used = [rule for rule in rules().rules if rule.id not in without]
    named = [rule for rule in used if vendor(strict(rule))]
    return [rule for rule in used if rule not in named], named


def vendor(regex: str) -> str | None:
    """The pattern for the vendor's name, where a rule asks for one before an `=`."""
    found = _VENDOR.match(regex)
    return None if found is None else found.group(1)


def vendors(named: Sequence[Rule]) -> str:
    """A pattern found wherever one of these rules is."""
    return rf"{vendor_names(named)}[ \t\w.\-\\]*[\s'\"\\]*(?:[=>:,]|\|\||\?=)[=>:\s'\"`\\]*[\w.%+/=\-]{{8}}"


def vendor_names(named: Sequence[Rule]) -> str:
    """A pattern for the names of these vendors."""
    return f"(?i:{'|'.join(sorted({vendor(strict(rule)) or '' for rule in named}))})"


class RuleFinder:
    """Rules at work, of which those are run whose looser form is in the text."""

    def __init__(self, used: Sequence[Rule], form: Callable[[Sequence[Rule]], str]) -> None:
        self._finders = [Finder(rule) for rule in used]
        self._forms = [form([rule]) for rule in used]

    def __call__(self, data: bytes) -> list[Span]:
        return [span for index in self._set.Match(data) or () for span in self._finders[index](data)]

    @cached_property
    def _set(self) -> Any:
        return pattern_set(self._forms)


class Finder:
    """One rule at work. Its pattern is compiled for the first text that may match."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._regex = regex = strict(rule)
        self._compiled: Any = None
        self._whole = _REPEATED.search(regex) is not None

    def __call__(self, data: bytes) -> list[Span]:
        if self._compiled is None:
            self._compiled = re2.compile(self._regex.encode(), OPTIONS)
        spans: list[Span] = []
        at = 0
        while (found := self._compiled.search(data, at)) is not None:
            masks.spend()
            start, end = self._secret(found)
            token = data[start:end]
            if self._is_secret(token):
                end = _rest.match(data, end).end()
                spans.append((start, end))
            at = max(end, at + 1)
        return spans

    def _secret(self, found: Any) -> Span:
        if self._whole:
            return found.start(), found.end()
        groups = range(1, self._compiled.groups + 1)
        group = self._rule.group or next((n for n in groups if found.start(n) >= 0), 0)
        start, end = found.span(group)
        return start, end

    def _is_secret(self, token: bytes) -> bool:
        if self._rule.entropy and entropy(token) < self._rule.entropy:
            return False
        return not any(re2.search(allowed.encode(), token, OPTIONS) for allowed in self._rule.allowed)


def entropy(token: bytes) -> float:
    """Shannon's, in bits a byte."""
    size = len(token)
    return -sum(n / size * math.log2(n / size) for n in Counter(token).values()) if size else 0.0
