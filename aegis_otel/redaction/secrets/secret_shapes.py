"""Secrets that are known by their shape, or by what stands around them: tokens, card numbers, private keys.

The shapes are data: `data/secret_shapes.txt`, and `data/service_tokens.txt` for tokens with a known start.

One search of RE2 is linear; finding all matches is linear only if a match, once it has begun, takes what it
has read, and the rejected ones together are not much longer than the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from re import compile as compile_fixed  # on a few characters

from aegis_otel.redaction import budget, data_files
from aegis_otel.redaction.masks import Span, after_mask, bounded, is_command
from aegis_otel.redaction.secrets import value_patterns
from aegis_otel.redaction.secrets.likelihood import ACCEPT
from aegis_otel.redaction.secrets.secret_names import NAME_CLUE, SCRIPTS
from aegis_otel.redaction.secrets.value_patterns import compiled
from aegis_otel.redaction.secrets.vendor_rules import EDGE, fewer

_ESCAPED = (  # what stands in JSON for a break
    (r"\r?\n", r"(?:\r?\n|\\r\\n|\\n)"),
    (r"(?:^|\n)", r"(?:^|\n|\\n|\")"),
    (r"(?:^|\s)", r"(?:^|\s|\\[nrt]|\")"),
    (r"\s+", r"(?:\s|\\[nrt])+"),
    ("(?:^|[\\s=\\\"'(])", "(?:^|[\\s=\"'(]|\\\\[nrt])"),
    ("\\\\?[\\\"']", "\\\\*[\"']"),
)
_BOUND = compile_fixed(r"\{(\d+),\d+\}")
_LEAST = {"0": "*", **dict.fromkeys("123456789", "+")}
"""What stands for a bound of which only the least matters, where that is less than ten."""
_ALNUM = bytes(97 if chr(byte).isascii() and chr(byte).isalnum() else byte for byte in range(256))
_before_at = compiled(r"[:/][^\s/@\"'<>|;&`]*@")
_escape = compile_fixed(rb"\\(?:[abfnrtv]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})$")
_REJECTED = 1 << 20
"""Bytes, and four times a text's length, of matches that were no secrets. Only a word that has the beginnings
of thousands of tokens in it gets there: what is left of it is hidden, so that it takes no quadratic time."""


def unbounded(source: str) -> str:
    """Return a pattern found wherever `source` is, in JSON as well.

    It counts next to nothing, so that one pass over all patterns stays small.
    """
    for written, also in _ESCAPED:
        source = source.replace(written, also)
    return _BOUND.sub(lambda bound: _LEAST.get(bound[1], f"{{{bound[1]},}}"), source)


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    # A word with a colon or a slash in it goes on to an at sign.
    "is_before_at": lambda data: _before_at.search(data) is not None,
    # There are a digit, and enough letters and digits in a row for a random part.
    "has_a_run": lambda data: (
        any(digit in data for digit in b"0123456789") and b"a" * 14 in data.translate(_ALNUM)
    ),
}
_TOKENS = dict(data_files.lines("service_tokens.txt"))["shapes"]
_TOKEN_GATE, _TOKEN_CLUE = (
    rf"{EDGE}(?:{'|'.join(fewer(token, counted) for token in _TOKENS)})" for counted in (6, 1)
)
_DIGIT_AT = [rf"[A-Za-z]{{{place}}}[0-9][A-Za-z0-9]{{{max(0, 13 - place)}}}" for place in range(13)]
_MACROS = {
    "EDGE": EDGE,
    "NAME_CLUE": NAME_CLUE,
    "SCRIPTS": "|".join(SCRIPTS),
    "TOKENS": "|".join(_TOKENS),
    "TOKEN_GATE": _TOKEN_GATE,
    "TOKEN_CLUE": _TOKEN_CLUE,
    # Fourteen letters and digits behind a sign, with at least one digit: no random part is without.
    "LONG_PART": rf"[_\-.](?:{'|'.join(_DIGIT_AT)}|[A-Za-z]{{13,}}[0-9])",
}
_RECORDS = data_files.records("secret_shapes.txt", _MACROS)


@cache
def known_shapes() -> tuple[Shape, ...]:
    """Return the shapes of `data/secret_shapes.txt`, compiled."""
    return tuple(Shape(fields) for _, fields in _RECORDS)


class Shape:
    """The secrets of one section of `data/secret_shapes.txt`, which says what its fields mean."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        first = {field: values[0] for field, values in fields.items()}
        secret = "|".join(fields["secret"])
        self.gate = first.get("gate") or unbounded(secret)
        self.clues = tuple(fields.get("clue", ()))
        self.check = _CHECKS[first["check"]] if "check" in first else None
        self.alone = "alone" in first
        self._secret = compiled(secret)
        self._accept = ACCEPT[first["accept"]] if "accept" in first else None
        self._whole = "whole" in first
        self._groups = (0,) if self._whole else range(1, self._secret.groups + 1)
        self._around = None
        if "within" in first:
            rest = compiled(f"{first['within']}*")
            within = b"".join(compiled(first["within"]).findall(bytes(range(256))))
            self._around = compiled(self.gate), rest, within

    def __call__(self, data: bytes) -> list[Span]:
        """Return the spans of the secrets in a text."""
        spans: list[Span] = []
        rejected = 0  # bytes of matches, which may overlap
        most = _REJECTED + 4 * len(data)
        search, groups = self._secret.search, self._groups
        for at, limit in self._places(data):
            while (found := search(data, at, limit)) is not None:
                budget.spend()
                group = groups[0]
                if len(groups) > 1:
                    group = next(n for n in groups if found.end(n) > found.start(n))
                start, end = found.span(group)
                if after_mask(data, start) == start and (
                    self._is_secret(data, start, end) or rejected > most
                ):
                    spans += bounded(data, start, end)
                    at = max(end, at + 1)  # noqa: PLW2901
                else:
                    at = max(start + 1, at + 1)  # noqa: PLW2901
                    rejected += end - start
        return spans

    def _places(self, data: bytes) -> Iterator[Span]:
        """Yield where the pattern is searched: in all of the text, or around its gate."""
        if self._around is None:
            yield 0, len(data)
            return
        gate, rest, within = self._around
        at = 0
        while (found := gate.search(data, at)) is not None:
            begin = at + len(data[at : found.start()].rstrip(within))
            at = rest.match(data, found.end()).end()
            yield begin, at

    def _is_secret(self, data: bytes, start: int, end: int) -> bool:
        if self._whole and not _can_begin(data, start):
            return False
        return self._accept is None or self._accept(data, start, end)


def _can_begin(data: bytes, at: int) -> bool:
    """Return whether a token can begin here: see `EDGE`."""
    if data[at - 1 : at] == b"\\" and data[at] in b"abfnrtv" and at > 0:  # the letter of an escape
        return False
    return at == 0 or not data[at - 1 : at].isalnum() or _escape.search(data[max(0, at - 6) : at]) is not None


_KEYS = value_patterns.load("private keys")
PEM = _KEYS.BEGIN
"""How a private key begins."""


def pem_keys(data: bytes) -> list[Span]:
    """Return private keys: from the header over lines of base64 and no others, to the end line, if any."""
    spans: list[Span] = []
    at = 0
    while (found := _KEYS.begin.search(data, at)) is not None:
        body = _KEYS.body.match(data, found.end())
        end = body.end()
        if body.group(2) is None and body.group(1) is not None and is_command(body.group(1)):
            end = body.start(1)
        end = found.start() + len(data[found.start() : end].rstrip())
        spans.append((found.start(), end))
        at = max(end, found.end())
    return spans
