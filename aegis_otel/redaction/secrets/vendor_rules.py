"""Find secrets by the rules of gitleaks: data (`data/gitleaks.json`, MIT), renewed by `make secret-rules`.

Each is run only over a text in which a looser form of it was found; `scanner.Engine` searches those of all
rules, and its own patterns, in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import msgspec

from aegis_otel.redaction import budget, data_files
from aegis_otel.redaction.masks import Span
from aegis_otel.redaction.secrets.likelihood import entropy
from aegis_otel.redaction.secrets.value_patterns import compiled, pattern_set

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
    r"(?:_\[[^\]]+\]\{\d+\}(?=_))?"  # of `ab12_cd34_mmk`: an underscore alone distinguishes nothing
)
_REPEATED = re.compile(r"\)\{\d")
_GROUP = re.compile(r"(?<!\\)\((?!\?)")
_rest = compiled(r"[A-Za-z0-9_\-]*")


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
    """Return the rules, which are read once."""
    return msgspec.json.decode(data_files.read("gitleaks.json"), type=Rules)


def strict(rule: Rule) -> str:
    """Return the rule's pattern, without the name before it, and ending where the token does."""
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
    """Return a pattern found wherever one of these rules is: the less is `counted`, the fewer states."""
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
    """Return the pattern with repetitions of at most `counted`, up to the first of these if that can be.

    What would go on counting behind it has a state for every pair of counts that a text of tokens has: with
    the 40 of a token, a text of random letters is slow.
    """

    def less(found: re.Match[str]) -> str:
        return f"{{{min(int(found.group(1)), counted)},}}"

    for found in _COUNT.finditer(pattern):
        before = pattern[: found.start()]
        groups = _NO_GROUP.sub("", before)
        distinct = _LITERAL.search(groups) is not None and "|" not in pattern[found.end() :]
        if distinct and int(found.group(1)) >= counted:
            closing = ")" * (groups.count("(") - groups.count(")"))
            return f"{_COUNT.sub(less, before)}{{{counted}}}{closing}"
    return _COUNT.sub(less, pattern)


def split(without: Sequence[str]) -> tuple[list[Rule], list[Rule]]:
    """Return the rules in use: those of tokens, and those that need a vendor's name before one."""
    used = [rule for rule in rules().rules if rule.id not in without]
    named = [rule for rule in used if _vendor(rule)]
    return [rule for rule in used if rule not in named], named


def _vendor(rule: Rule) -> str:
    """Return the pattern for the vendor's name, where a rule asks for one before an `=`; else ``."""
    found = _VENDOR.match(strict(rule))
    return "" if found is None else found.group(1)


def vendors(named: Sequence[Rule]) -> str:
    """Return a pattern found wherever one of these rules is."""
    return rf"{vendor_names(named)}[ \t\w.\-\\]*[\s'\"\\]*(?:[=>:,]|\|\||\?=)[=>:\s'\"`\\]*[\w.%+/=\-]{{8}}"


def has_vendor_sign(data: bytes) -> bool:
    """Return whether anything that `vendors` has behind a vendor's name is in a text."""
    return any(sign in data for sign in b"=>:,|")


def vendor_names(named: Sequence[Rule]) -> str:
    """Return a pattern for the names of these vendors."""
    return f"(?i:{'|'.join(sorted({_vendor(rule) for rule in named}))})"


class RuleFinder:
    """Finds the secrets of some rules: those are run whose looser form is in the text."""

    def __init__(self, used: Sequence[Rule], form: Callable[[Sequence[Rule]], str]) -> None:
        self._rules = used
        self._forms = [form([rule]) for rule in used]

    def __call__(self, data: bytes) -> list[Span]:
        """Return the spans of the secrets in a text."""
        return [span for index in self._set.Match(data) or () for span in _found(self._rules[index], data)]

    @cached_property
    def _set(self) -> Any:
        return pattern_set(self._forms)


@cache
def _compiled(rule: Rule) -> tuple[Any, Sequence[int], list[Any]]:
    """Return a rule's pattern, its groups that may be the secret, and the patterns that allow a match."""
    regex = strict(rule)
    pattern = compiled(regex)
    groups: Sequence[int] = (rule.group,) if rule.group else range(1, pattern.groups + 1)
    if _REPEATED.search(regex):  # a group that repeats holds only a part of the secret
        groups = (0,)
    return pattern, groups, [compiled(allowed) for allowed in rule.allowed]


def _found(rule: Rule, data: bytes) -> list[Span]:
    """Return the secrets of one rule, which is compiled for the first text that may have one."""
    pattern, groups, allowed = _compiled(rule)
    spans: list[Span] = []
    at = 0
    while (found := pattern.search(data, at)) is not None:
        budget.spend()
        start, end = found.span(next((group for group in groups if found.start(group) >= 0), 0))
        token = data[start:end]
        random = not rule.entropy or entropy(token) >= rule.entropy
        if random and not any(each.search(token) for each in allowed):
            end = _rest.match(data, end).end()
            spans.append((start, end))
        at = max(end, at + 1)
    return spans
