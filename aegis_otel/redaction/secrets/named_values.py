"""A name and its value inside a text: `api_key = x`, `--api-key x`, `<password>x<`, `Cookie: a=x`.

Between them stands a sign, a word or a structure: `=`, `%3D`, `ist`, `", "value": "`. The patterns of all of
these are data: `data/value_patterns.txt`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from re import IGNORECASE
from re import compile as compile_fixed  # a few words in a name
from typing import Any

from aegis_otel.redaction import budget
from aegis_otel.redaction.data_files import byte_words
from aegis_otel.redaction.masks import Span, after_mask, bounded, clip, is_command, is_mask, unmasked
from aegis_otel.redaction.secrets import value_patterns
from aegis_otel.redaction.secrets.http_headers import authorization, cookies
from aegis_otel.redaction.secrets.likelihood import is_random, is_strong, is_thought_of
from aegis_otel.redaction.secrets.secret_names import VERBS, Held, held_by, name_part
from aegis_otel.redaction.secrets.secret_shapes import unbounded

P = value_patterns.load("named values", VERBS="|".join(VERBS))
_NO_VALUES, _TYPE_NAMES, _PROSE = map(byte_words, ("no_values", "type_names", "prose"))
_QUOTES = (b"'", b'"')
_BEFORE_TAG = (b"<", b":", *_QUOTES)
_BEFORE_FLAG = (b" ", b"\t", b"", b",", *_QUOTES)
_BRACKETS = (b"[", b"(", b"{", b"[]", b"()", b"{}")
_STRUCTURAL = frozenset(bytes((byte,)) for byte in b"\"'\\]),;>{(<\r\n&% \t")
"""What the pattern of a pair begins with."""
_MOST_LINES = 64
_MOST_IN_BRACKETS = 1_024
"""Bytes of the longest value in brackets that is hidden to its end."""
_MOST_WALKED = 4 * _MOST_IN_BRACKETS
"""Bytes that are walked through at once where names follow each other."""
_NEVER = 0
_TOKENS_A_UNIT = 2
"""Brackets, and quoted texts between them, that are found for one unit of the budget."""
_setter = compile_fixed(r"(?:^|\.)(?:set|with|using?|put|update|change)_?[A-Za-z]", IGNORECASE)
_code_name = compile_fixed(r"(?:pin|otp|code|cv[vcn]2?)s?$", IGNORECASE)
_spoken_name = compile_fixed(
    r"pass|pwd|pw$|\bpin$|otp$|wort|haslo|has|sen|clave|contra|[^\x00-\x7f]", IGNORECASE
)
_ascii = compile_fixed(r"[A-Za-z0-9_.\-]+")


Closing = Callable[[int], int]
"""What returns where the bracket at a place is closed."""


def gates(added: str = "") -> Any:
    """Return patterns found wherever a name has a value: `TEXT`, and in JSON `KEY`, `MEMBER` and `WORD`."""
    part = name_part(added).replace(r"\b", "")
    return value_patterns.load("gates of named values", PART=part, IS=P.IS, PAIR=unbounded(P.PAIR))


def has_sign(data: bytes) -> bool:
    """Return whether any sign that may follow a name is in a text. Base64 in lines has none of them."""
    return not data.isascii() or any(sign in data for sign in b" \t:=<>\"'%&(\\,")


@cache
def finder(added: str = "") -> Callable[[bytes], list[Span]]:
    """Return a function that finds the values whose names say that they are secret, or were added."""
    search = value_patterns.load("name in a text", NAME=name_part(added)).name.search

    def find(data: bytes) -> list[Span]:
        spans: list[Span] = []
        closing = _Brackets(data).closing
        at = 0
        while (found := search(data, at)) is not None:
            budget.spend(budget.NAME)
            start, end = found.span()
            hidden, at = _behind(data, closing, start, end)
            spans += hidden
        return spans

    return find


def _behind(data: bytes, closing: Closing, start: int, end: int) -> tuple[list[Span], int]:
    """Return what is hidden behind one name, and where to go on."""
    if data[start - 1 : start] == b"\\" and data[start] in b"nrt":  # an escaped line break, not a letter
        start += 1
    start = max(start, data.rfind(b" --", start, end) + 1)  # a flag, without the word before it
    written = data[start:end]
    wide = None if written.isascii() else P.wide_sign.search(data, start + 1, end)  # it counts as a letter
    if wide is not None:
        end = wide.start()
        written = data[start:end]
    name = written.decode("utf-8", "replace")
    held = held_by(name)
    if held == "no" and not name.isascii():  # é, then a name
        held = next((each for part in _ascii.findall(name) if (each := held_by(part)) != "no"), "no")
    if held == "no" or (b"arn:" in data[max(0, start - 100) : start].rpartition(b" ")[2]):
        return [], end if wide is None else wide.end()
    budget.spend()
    if P.equals.match(data, end) is not None:
        return _signed(data, closing, (start, end), end + 1, name, held=held)
    found = P.sign.match(data, end)
    listed = found is not None and b"," in found.group()
    if (found is None or listed) and data[end : end + 1] in _STRUCTURAL:
        pair = P.pair.match(data, end)  # `name: DB_PASSWORD`, `value: x`
        value, at = ([], end) if pair is None else _value(data, closing, pair.end(), False)
        if _is_secret(data, value, True, True):
            return value, at
    if found is None:
        return _without_sign(data, closing, start, end, name)
    if listed:  # ("password", "x") is a call
        before = data[max(0, start - 16) : start]
        if before[-1:] not in _QUOTES or before.rstrip(b"'\" \t")[-1:] != b"(":
            return [], end
    return _signed(data, closing, (start, end), found.end(), name, held=held)


def _signed(
    data: bytes, closing: Closing, of: Span, at: int, name: str, *, held: Held
) -> tuple[list[Span], int]:
    """Return what is hidden behind a name and a sign, which ends at `at`."""
    sign = data[of[1] : at]
    after = data[at : at + 1]
    if b"==" in sign and after not in _QUOTES:  # a comparison
        return [], at
    colon = not (b"=" in sign or b"%" in sign or b"," in sign)
    if colon and P.opening.match(data, at) is None:
        if name.lower().endswith("authorization"):
            return authorization(data, at)
        if name.lower().endswith("cookie") and after != b"\\":
            return cookies(data, at)
    if (
        (b">" in sign or b"\xe2" in sign)
        and P.arrow.search(sign) is not None
        and after not in (*_QUOTES, b"\\", b":")
    ):
        return _spoken(data, at, True)
    if colon and (below := P.line_end.match(data, at)) is not None:
        first = data.rfind(b"\n", 0, of[0]) + 1
        return _values_below(data, below.end(), not data[first : of[0]].strip(b" \t\"'-"))
    spans: list[Span] = []
    escaped = b"%" in sign or b"\\u00" in sign or b"&quot;" in sign
    while True:
        value, at = _value(data, closing, at, b"&gt;" in sign, escaped)
        if value and _repeats_name(data[slice(*value[0])], data[slice(*of)]):
            return spans, at
        if len(value) > 1 or _is_secret(data, value, colon, held == "any"):
            spans += value
        more = P.annotated.match(data, at) if colon else None  # password: str = "..."
        if more is None:
            break
        at = more.end()
    if spans and name[-1:] in ("s", "S"):  # recovery codes: a1b2c3, e5f6a7
        more_spans, at = _listed_values(data, at)
        spans += more_spans
    return spans, at


def _listed_values(data: bytes, at: int) -> tuple[list[Span], int]:
    """Return the values behind commas that look chosen."""
    spans: list[Span] = []
    for _ in range(_MOST_LINES):
        listed = P.next_listed.match(data, at)
        if listed is None or not is_thought_of(listed.group(1), digits=True):
            break
        spans += bounded(data, *listed.span(1))
        at = listed.end()
    return spans, at


def _without_sign(data: bytes, closing: Closing, start: int, end: int, name: str) -> tuple[list[Span], int]:
    """Return `x` in `--password x`, `PASSWORD 'x'`, `<password>x`, `setPassword("x")`, `password is x`."""
    before, after = data[start - 1 : start], data[end : end + 1]
    tag = P.tag.match(data, end) if before in _BEFORE_TAG else None
    if tag is not None and before in _QUOTES:  # <param name="api_key">x<
        return _spoken(data, tag.end(), True)
    if tag is not None and (before == b"<" or b"<" in data[max(0, start - 40) : start]):
        return _whole(data, closing, tag.end(), True)
    if after == b"(" and (call := P.call.match(data, end)) is not None:
        at = call.end()
        quote = at - 1 - (data[at - 2 : at - 1] == b"\\")
        value, at = _value(data, closing, quote, False)
        chosen = _setter.search(name) is not None  # else `.token("x")`, if x looks like a secret
        if not chosen and before == b"." and value:
            chosen = is_thought_of(data[slice(*value[0])])
        return (value if chosen and _is_secret(data, value, False, True) else []), at
    if after in _QUOTES and (part := P.form_part.match(data, end)) is not None:
        return (bounded(data, *part.span(1)) if is_thought_of(part.group(1)) else []), part.end()
    blanks = P.blanks.match(data, end)
    if blanks is None:
        return [], end
    at = blanks.end()
    if name.startswith("-") and before in _BEFORE_FLAG:
        return ([], at) if data[at : at + 1] == b"-" else _whole(data, closing, at, False)
    if data[at : at + 1] in _QUOTES:
        return _whole(data, closing, at, False)
    if (kind := P.digit_kind.match(data, end)) is not None:
        return _whole(data, closing, kind.end(), False)
    copula = P.copula.match(data, end)
    at = copula.end()
    if data[at : at + 1] in _QUOTES:
        return _whole(data, closing, at, False)
    says_so = bool(copula.group(1)) or _spoken_name.search(name) is not None
    code = P.number.match(data, at) if _code_name.search(name) else None
    if code is not None and (says_so or code.end() - code.start() >= 6):
        return bounded(data, *code.span()), code.end()
    return _spoken(data, at, says_so)


def _whole(data: bytes, closing: Closing, at: int, whole_line: bool) -> tuple[list[Span], int]:
    """Return the value at `at`, which nothing but its place makes one."""
    value, at = _value(data, closing, at, whole_line)
    return (value if len(value) > 1 or _is_secret(data, value, False, True) else []), at


def _spoken(data: bytes, at: int, says_so: bool) -> tuple[list[Span], int]:
    """Return the value in `password X9!kq...` or `the token is hunter2.`, unless it looks like any word.

    `says_so` means that the sentence says what the name stands for: then a word with a digit that ends a
    clause is a secret.
    """
    word = P.word.match(data, at)
    if word is None:
        return [], at
    start, end = word.span()
    while end > start and data[end - 1] in b",.)]}:":
        end -= 1
    value = unmasked(data[start:end])
    ends = says_so and (
        end < word.end() or not data[end : end + 2].lstrip(b" ") or data[end : end + 1] in b"\r\n<\"'/"
    )
    if is_strong(value) or is_random(value) or (ends and is_thought_of(value)):
        return bounded(data, start, end), end
    return [], at


def _repeats_name(value: bytes, name: bytes) -> bool:
    """Return whether a value is the name itself, or the end of it: `auth=auth`, `self._pwd = pwd`."""
    return name.endswith(value) and (len(name) == len(value) or name[-len(value) - 1] in b"._-")


def _is_secret(data: bytes, value: list[Span], colon: bool, any_kind: bool) -> bool:
    """Return whether a value is a secret: no word of a sentence, no type, and no reference to a secret."""
    if not value:
        return False
    start, end = value[0]
    text = unmasked(data[start:end])
    if text == b"" or text.lower() in _NO_VALUES or not (any_kind or P.letter.search(text)):
        return False
    if data[start - 1 : start] in _QUOTES:
        return True
    if text in _BRACKETS or (
        P.referring.search(text) is not None and P.reference.fullmatch(text) is not None
    ):
        return False
    in_prose = text.lower() in _PROSE and data[end : end + 1] == b" "
    return not (colon and (text in _TYPE_NAMES or in_prose))


def _value(
    data: bytes, closing: Closing, at: int, whole_line: bool, escaped: bool = False
) -> tuple[list[Span], int]:
    """Return the parts of the value at `at` that are hidden, and where it ends.

    `escaped` means that what ends it is written as its sign is, in percent or `\\u0022`.
    """
    masked = after_mask(data, at)
    block = P.block.match(data, at)
    if block is not None:  # YAML's text in lines of their own
        return _block_lines(data, block.end(), block.group(1))
    opening = P.opening.match(data, at)
    if opening is not None and opening.group(2) is not None:
        start = opening.end()
        end = _closing_quote(data, start, len(opening.group(1)), opening.group(2))
        if end is not None:
            return bounded(data, start, end), end
        at, masked = start, after_mask(data, start)  # never closed: no quote
        opening = None
    closed = at if opening is None or masked > at else closing(at)
    begin = max(closed, masked)
    run = (P.rest_of_line if whole_line else P.word).match(data, begin)
    end = begin if run is None else run.end()
    if (escape := (P.escaped_end if escaped else P.escaped_break).search(data, closed, end)) is not None:
        end = max(escape.start(), closed)
    if data[end - 2 : end] == b"):" and end - 1 > begin:  # of code: `def f(password=None):`
        end -= 1
    while end > begin and data[end - 1] in b",.)]} \t;":
        end -= 1
    if end == masked > at:  # hidden already
        return [], end
    if data[end - 1 : end] == b"\\" and end > at and data[end : end + 1] in (b"\n", b"\r"):
        return _continued(data, at, masked, end)
    return ([(at, end)] if closed > at else bounded(data, at, end)), end


def _continued(data: bytes, at: int, masked: int, end: int) -> tuple[list[Span], int]:
    """Return a word that goes on behind a backslash and a line break, which a shell takes out."""
    spans = [] if masked == end - 1 > at else bounded(data, at, end - 1)
    rest = P.next_piece.match(data, end)
    if rest is None or is_command(rest.group(1)) or after_mask(data, rest.start(1)) > rest.start(1):
        return spans, end
    return [*spans, *bounded(data, *rest.span(1))], rest.end()


def _values_below(data: bytes, at: int, begins: bool) -> tuple[list[Span], int]:
    """Return lines behind `password:`, each of one word that looks chosen and that no shell would run.

    Such a line is indented, behind a dash, or only digits. `begins` means that the name begins the line
    before, so that no command stands there that prints one.
    """
    spans: list[Span] = []
    for _ in range(_MOST_LINES):
        line = P.one_word.match(data, at)
        if line is None or is_command(line.group(2)) or not is_thought_of(line.group(2), digits=True):
            break
        if not (line.group(2).isdigit() or (begins and line.group(1))):
            break
        spans += bounded(data, *line.span(2))
        at = line.end()
    return spans, at


def _block_lines(data: bytes, at: int, indent: bytes) -> tuple[list[Span], int]:
    """Return the lines of one word each: with several, they could be commands."""
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


class _Brackets:
    """The brackets of a text, each walked through a few times at most, however many names are around it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._closed: dict[int, int] = {}
        """Where the bracket around a place is closed; `_NEVER`, or -n where that is not before n."""

    def closing(self, at: int) -> int:
        """Return where the bracket at `at` is closed; `at` where it is not before a command could end."""
        if len(self._closed) > 2 * _MOST_WALKED:  # names are found from left to right
            self._closed = {place: end for place, end in self._closed.items() if place > at}
        closed, search = self._closed, P.bracket.search
        furthest = limit = at + _MOST_IN_BRACKETS
        inside: list[list[int]] = [[]]  # of each open bracket, the outermost first: places right in it
        place, end, tokens = at + 1, _NEVER, 0
        while inside:
            inside[-1].append(place)
            known = closed.get(place)
            if known is not None and not -furthest < known < _NEVER:
                end = known
            else:
                if known is not None:  # names follow each other: walk for more of them
                    limit = at + _MOST_WALKED
                found = search(self._data, place)
                tokens += 1
                token = b"" if found is None else found.group()
                place = len(self._data) if found is None else found.end()
                if token and place > limit:
                    end = -limit
                elif token in (b"[", b"(", b"{"):
                    inside.append([])
                    continue
                elif len(token) > 1:  # quoted
                    continue
                else:
                    end = place if token in (b"]", b")", b"}") else _NEVER
            if end <= _NEVER:
                closed.update((each, end) for places in inside for each in places)
                break
            closed.update((each, end) for each in inside.pop())
            place = end
        budget.spend(tokens // _TOKENS_A_UNIT)
        return end if at < end <= furthest else at


def _closing_quote(data: bytes, start: int, escapes: int, quote: bytes) -> int | None:
    """Return where a quoted value ends; None where the quote does not close on its line.

    The closing quote has no more backslashes than the opening one.
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
