"""A name and its value inside a text: `api_key = x`, `--api-key x`, `<password>x<`, `Cookie: a=x`, SQL."""

from __future__ import annotations

from re import compile as compile_fixed  # one class of characters

import re2

from aegis_otel.redaction.names import NAME_PART, OPTIONS, held_by
from aegis_otel.redaction.shapes import is_random, is_strong
from aegis_otel.redaction.spans import MASKED, Span, after_mask, bounded, clip, is_command, is_mask

_COLON = "\uff1a"
_WIDE = f"{_COLON}|\uff1d"
"""The colon and the equals sign of a Chinese or Japanese keyboard."""
LETTERS = r"[\w.\-\x80-\xff]*"


def _source(added: str) -> str:
    """The pattern for a name."""
    part = rf"(?:{NAME_PART}|{added})" if added else NAME_PART
    return rf"{LETTERS}{part}{LETTERS}"


def gate(added: str = "") -> str:
    """A pattern found wherever a name has a value, and in JSON wherever one is in a key or before a value."""
    part = rf"(?:{NAME_PART}|{added})" if added else NAME_PART
    part = part.replace(r"\b", "")
    return (
        rf"{part}(?:{LETTERS}(?:[\"'\\\])]*[ \t]*(?:[=:]|{_WIDE})"
        rf"|\\*[\"'][ \t]+(?i:value)[ \t]*=|\\*[\"'][ \t]*,|>)"
        rf"|[^\"{{}}\r\n]*(?:\"[^:,}}\]\r\n]{{1,40}})?\":"
        rf"|{LETTERS}[ \t]+(?:(?:is|was|to|as|ist|es|est)[ \t]+)?(?:[^\s'\"]*[0-9]|\\*['\"]))"
        rf"|--{LETTERS}{part}"
    )


_opening = re2.compile(rb"[bBrRuUfFnN]{0,2}(\\*)(\"\"\"|'''|\"|')|[\[({]", OPTIONS)
_bracket = re2.compile(rb"[\[\](){}]|\\?\"[^\"\r\n]*\"|'[^'\r\n]*'|[\r\n;|&`]", OPTIONS)
_word = re2.compile(rb"(?:(?i:bearer|basic|digest|token|apikey|negotiate|ntlm)[ \t]+)?[^\s&\"'<>]+", OPTIONS)
_rest_of_line = re2.compile(rb"[^\r\n\"'<>]+", OPTIONS)
_escaped_break = re2.compile(rb"\\+[nr]", OPTIONS)
_annotated = re2.compile(rb"[\])}]*[ \t]{0,8}=[ \t]{0,8}", OPTIONS)
_letter = re2.compile(rb"[A-Za-z\x80-\xff]", OPTIONS)
_block = re2.compile(rb"[|>][+\-0-9]{0,2}[ \t]*\r?\n([ \t]+)", OPTIONS)
_reference = re2.compile(  # to where the secret is, which is none
    rb"[A-Za-z_]+(?:\.[A-Za-z_]+)*\([^()]{0,200}\)?|[A-Za-z_]+(?:\.[A-Za-z_]+)+\[.*|\$\{?[A-Z_][A-Z0-9_]*\}?|\$\{\{?[^{}]{0,200}\}\}?"
    rb"|\{\{[^{}]{0,200}\}\}|%\w|%[A-Z_]+%|self\.\w+|\*+|x{3,}|\.\.\.",
    OPTIONS,
)
_NOTHING = frozenset(
    b" true false null none nil undefined await new return required optional missing invalid expired".split(
        b" "
    )
)
_TYPES = frozenset([b"str", b"string", b"bytes"])  # password: str
_PROSE = frozenset(  # reset your password: click ...
    b"click please enter visit see follow contact the a an is are was must should may can cannot to"
    b" your you for of in on and or not with it this that if when we i do does have has will use which"
    b" what".split()
)
_MOST_LINES = 64


_sign = re2.compile(
    rf"[\"'\\\])]*[ \t]{{0,8}}(?:=>|:=|=+|:|{_WIDE})[ \t]{{0,8}}"
    r"|[\"'][ \t]{1,8}(?i:value)[ \t]{0,8}=[ \t]{0,8}|[\"'][ \t]{0,8},[ \t]{0,8}".encode(),
    OPTIONS,
)
_ascii = compile_fixed(r"[A-Za-z0-9_.\-]+")
_blanks = re2.compile(rb"[ \t]{1,4}", OPTIONS)
_copula = re2.compile(rb"[ \t]{1,4}(?:(?:is|was|to|as|ist|es|est)[ \t]{1,4})?", OPTIONS)


class NamedFinder:
    """Values whose names say that they are secret."""

    def __init__(self, added: str = "") -> None:
        self._compiled = re2.compile(_source(added).encode(), OPTIONS)

    def __call__(self, data: bytes) -> list[Span]:
        spans: list[Span] = []
        at = 0
        while (found := self._compiled.search(data, at)) is not None:
            start, end = found.start(), found.end()
            hidden, at = _behind(data, start, end)
            spans += hidden
        return spans


def _behind(data: bytes, start: int, end: int) -> tuple[list[Span], int]:
    """What is hidden behind one name, and where to go on."""
    if data[start - 1 : start] == b"\\" and data[start] in b"nrt":  # an escaped line break, no letter
        start += 1
    start = max(start, data.rfind(b" --", start, end) + 1)  # a flag, and no word before it
    name = data[start:end].decode("utf-8", "replace")
    held = held_by(name)
    if held == "no" and not name.isascii():  # é, then a name
        held = next((each for part in _ascii.findall(name) if (each := held_by(part)) != "no"), "no")
    if held == "no" or (b"arn:" in data[max(0, start - 100) : start].rpartition(b" ")[2]):
        return [], end
    found = _sign.match(data, end)
    if found is None:
        return _without_sign(data, start, end, name)
    at = found.end()
    sign = data[end:at]
    if b"," in sign and not (
        data[start - 1 : start] in b"'\"" and data[:start].rstrip(b"'\" \t")[-1:] == b"("
    ):
        return [], end
    if b"==" in sign and data[at : at + 1] not in (b"'", b'"'):  # a comparison
        return [], at
    colon = b":" in sign or _COLON.encode() in sign
    header = colon and _opening.match(data, at) is None
    if header and name.lower().endswith("authorization"):
        return _authorization(data, at)
    if header and name.lower().endswith("cookie"):
        return _cookies(data, at)
    spans: list[Span] = []
    while True:
        value, at = _value(data, at, False)
        if len(value) > 1 or _is_secret(data, value, colon, held == "any"):
            spans += value
        more = _annotated.match(data, at) if colon else None  # password: str = "..."
        if more is None:
            return spans, at
        at = more.end()


def _without_sign(data: bytes, start: int, end: int, name: str) -> tuple[list[Span], int]:
    """`--password x`, `PASSWORD 'x'`, `<password>x`, `the password is X9...`."""
    whole_line = data[start - 1 : start] == b"<" and data[end : end + 1] == b">"
    blanks = _blanks.match(data, end)
    if whole_line:
        at = end + 1
    elif blanks is not None and (
        name.startswith("--") or data[blanks.end() : blanks.end() + 1] in (b"'", b'"')
    ):
        at = blanks.end()
        if name.startswith("--") and data[at : at + 1] == b"-":
            return [], at
    elif blanks is not None:
        return _spoken(data, _copula.match(data, end).end())
    else:
        return [], end
    value, at = _value(data, at, whole_line)
    return (value if len(value) > 1 or _is_secret(data, value, False, True) else []), at


def _spoken(data: bytes, at: int) -> tuple[list[Span], int]:
    """`password X9!kq...`, `the token is X9...`: only what no word of a sentence looks like."""
    word = _word.match(data, at)
    if word is None:
        return [], at
    start, end = word.span()
    while end > start and data[end - 1] in b",.)]}:":
        end -= 1
    return (
        (bounded(data, start, end), end)
        if is_strong(data[start:end]) or is_random(data[start:end])
        else ([], at)
    )


def _is_secret(data: bytes, value: list[Span], colon: bool, any_kind: bool) -> bool:
    if not value:
        return False
    start, end = value[0]
    text = data[start:end]
    quoted = data[start - 1 : start] in (b"'", b'"')
    if is_mask(text) or text.lower() in _NOTHING or not (any_kind or _letter.search(text)):
        return False
    if not quoted and (
        _reference.fullmatch(text) is not None or text in (b"[", b"(", b"{", b"[]", b"()", b"{}")
    ):
        return False
    return (
        quoted
        or not colon
        or not (text in _TYPES or (text.lower() in _PROSE and data[end : end + 1] == b" "))
    )


def _value(data: bytes, at: int, whole_line: bool) -> tuple[list[Span], int]:
    """The parts of the value at `at` that are hidden, and where it ends."""
    masked = after_mask(data, at)
    block = _block.match(data, at)
    if block is not None:  # YAML's text in lines of their own
        return _block_lines(data, block.end(), block.group(1))
    opening = _opening.match(data, at)
    if opening is not None and opening.group(2) is not None:
        start = opening.end()
        end = _closing_quote(data, start, len(opening.group(1)), opening.group(2))
        if end is not None:
            return bounded(data, start, end), end
        at, masked = start, after_mask(data, start)  # never closed: no quote
        opening = None
    closed = at if opening is None or masked > at else _closing_bracket(data, at)
    run = (_rest_of_line if whole_line else _word).match(data, max(closed, masked))
    end = max(closed, masked) if run is None else run.end()
    if (escape := _escaped_break.search(data, closed, end)) is not None:
        end = max(escape.start(), closed)
    while end > max(closed, masked) and data[end - 1] in b",.)]} \t;":
        end -= 1
    if end == masked > at:  # hidden already
        return [], end
    return ([(at, end)] if closed > at else bounded(data, at, end)), end


def _block_lines(data: bytes, at: int, indent: bytes) -> tuple[list[Span], int]:
    """Lines of one word each: with several, they could be commands."""
    spans: list[Span] = []
    for _ in range(_MOST_LINES):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].strip()
        if line and b" " not in line and not is_command(line) and not is_mask(line):
            start = data.index(line, at)
            spans += clip(data, start, start + len(line))
        if not data.startswith(indent, end + 1):
            return spans, end
        at = end + 1 + len(indent)
    return spans, at


def _closing_bracket(data: bytes, at: int) -> int:
    """Behind the bracket that closes the one at `at`; `at` where none does before a command could end."""
    depth, start = 0, at
    while (found := _bracket.search(data, at)) is not None and found.end() - start <= 1_024:
        at = found.end()
        if found.group() in (b"[", b"(", b"{"):
            depth += 1
        elif found.group() in (b"]", b")", b"}"):
            depth -= 1
            if depth == 0:
                return at
        elif len(found.group()) == 1:
            return start
    return start


def _closing_quote(data: bytes, start: int, escapes: int, quote: bytes) -> int | None:
    """Where the content ends: before a quote with no more backslashes than the opening one had.

    None where it does not close on its line.
    """
    line = data.find(b"\n", start)
    line = len(data) if line < 0 else line
    end = data.find(quote, start, line)
    while end >= 0:
        content = end
        while content > start and data[content - 1] == ord("\\"):
            content -= 1
        slashes = end - content
        if escapes and slashes <= escapes:
            return content
        if not escapes and slashes % 2 == 0:
            if not (quote == b"'" and data[end + 1 : end + 2] == b"'" and end > start):  # SQL writes two
                return end
            end += 1
        end = data.find(quote, end + 1, line)
    return None


# --- headers -------------------------------------------------------------------------------------------

_QUOTED = r"\\?\"[^\"\r\n]*\""
_PARAM = rf"([A-Za-z][\w\-]*)[ \t]*=[ \t]*({_QUOTED}|{MASKED}|[^\s,\"'<>|&`;]+(?:;[^\s,\"'<>|&`]+)*)"
_scheme = re2.compile(
    rb"(?i:basic|bearer|digest|negotiate|ntlm|token|apikey|oauth|hawk|hoba|mutual|scram-[\w\-]+|aws4-[\w\-]+"
    rb"|sharedkey|sharedaccesssignature|bot|jwt|key|dpop|signature|googlelogin)(?:[ \t]+|%20)",
    OPTIONS,
)
_param = re2.compile(_PARAM.encode(), OPTIONS)
_comma = re2.compile(rb"[ \t]*,[ \t]*", OPTIONS)
_credentials = re2.compile(rb"[^\s\"'<>&,;|`]+", OPTIONS)
_SHOWN = frozenset(
    b"username realm uri algorithm qop nc signedheaders ts version oauth_version oauth_signature_method"
    b" oauth_timestamp keyid headers".split()
)


def _authorization(data: bytes, at: int) -> tuple[list[Span], int]:
    """The credentials of an Authorization header; the scheme, the realm and the user stay."""
    if data[at : at + 1] in (b"'", b'"'):
        at += 1
    scheme = _scheme.match(data, at)
    if scheme is None:
        masked = after_mask(data, at)
        rest = _rest_of_line.match(data, masked)
        end = masked if rest is None else rest.end()
        if masked > at and not data[masked:end].strip(b" \t,;"):
            return [], end
        while end > at and data[end - 1] in b" \t,;)]}":
            end -= 1
        return _first(bounded(data, at, end)), end
    at = scheme.end()
    params, spans = _param.match(data, at), []
    while params is not None:
        start, at = params.span(2)
        if data[start : start + 1] in (b'"', b"\\"):
            start, at = data.index(b'"', start) + 1, at - 1
            at -= data[at - 1 : at] == b"\\"
        if params.group(1).lower() not in _SHOWN and not is_mask(data[start:at]):
            spans += bounded(data, start, at)
        at = params.end()
        comma = _comma.match(data, at)
        params = None if comma is None else _param.match(data, comma.end())
    if not spans and (word := _credentials.match(data, at)) is not None:
        start, at = word.span()
        spans = [] if after_mask(data, start) > start else bounded(data, start, at)
    return spans, at


def _first(spans: list[Span]) -> list[Span]:
    return spans[:1]


_cookie = re2.compile(rf"[ \t]*([^=;,\s\"'<>]+)=(\"[^\"\r\n]*\"|{MASKED}|[^;\s\"'<>]*);?".encode(), OPTIONS)
_flag = re2.compile(rb"[ \t]*(?i:httponly|secure|partitioned);?|[ \t]*(?i:expires)=[^;\r\n]*;?", OPTIONS)
_ATTRIBUTES = frozenset(b"path domain max-age samesite priority expires version".split())


def _cookies(data: bytes, at: int) -> tuple[list[Span], int]:
    """The values of a Cookie header; their names and attributes stay."""
    if data[at : at + 1] in (b"'", b'"', b"\\"):
        return _value(data, at, False)
    begun = at
    spans: list[Span] = []
    while True:
        flag = _flag.match(data, at)
        pair = None if flag is not None else _cookie.match(data, at)
        if flag is not None:
            at = flag.end()
        elif pair is not None:
            start, end = pair.span(2)
            at = pair.end()
            if data[start : start + 1] == b'"':
                start, end = start + 1, end - 1
            if pair.group(1).lower() not in _ATTRIBUTES and not is_mask(data[start:end]) and start < end:
                spans += bounded(data, start, end)
        else:
            break
    if at == begun and (word := _credentials.match(data, at)) is not None and after_mask(data, at) == at:
        return bounded(data, *word.span()), word.end()
    return spans, at
