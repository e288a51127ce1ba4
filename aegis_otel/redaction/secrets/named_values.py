"""A name and its value inside a text: `api_key = x`, `--api-key x`, `<password>x<`, `Cookie: a=x`.

Between them stands a sign, a word or a structure: `=`, `%3D`, `ist`, `", "value": "`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from re import compile as compile_fixed  # one class of characters

from aegis_otel.redaction import budget
from aegis_otel.redaction.data_files import byte_words
from aegis_otel.redaction.masks import Span, after_mask, bounded, clip, is_command, is_mask, unmasked
from aegis_otel.redaction.secrets.http_headers import authorization, cookies
from aegis_otel.redaction.secrets.likelihood import is_random, is_strong, is_thought_of
from aegis_otel.redaction.secrets.names import VERBS, Held, held_by, name_part
from aegis_otel.redaction.secrets.patterns import compiled
from aegis_otel.redaction.secrets.shapes import unbounded

WIDE = "\uff1a|\uff1d"
"""The colon and the equals sign of a Chinese or Japanese keyboard."""
LETTERS = r"[\w.\-\x80-\xff]*"
CLOSED = r"(?:[\"'\\\])]|\\u002[27]|&quot;|%(?:25)?2[27])*"
"""What may stand between a name and its sign; also as an escape of JSON, HTML or a form."""
SIGN = (
    rf"(?:=>|:=|=+|:|{WIDE}|%(?:25)?3[aAdD]|->|<-|\xe2\x86\x92|\xe2\x87\x92|\\u003[aAdD]"
    r"|&\#(?:61|58|x3[aAdD]);|&gt;)"
)
"""What says that the value follows: also as it is written in a form, JSON or HTML, and as an arrow."""
TYPED = r"[ \t]*:?[ \t]*(?:&|mut )?(?:'static )?(?:str|string|String|SecureString|text|char\*?)[ \t]*="
"""The type of a variable, as Rust, Go and others write it."""
OPENED = r"(?:\\u002[27]|&quot;|%(?:25)?2[270])?"
IS = rf"(?:(?i:{'|'.join(VERBS)})[ \t]{{1,4}})"
"""What stands between a name and its value in a sentence."""
PAIR = (
    rf"{CLOSED}(?:[ \t]*(?:[,;>{{(]|\r?\n|\\n|</[\w:.\-]{{1,40}}>)[ \t]*){{1,4}}"
    rf"(?:[a-z_]{{2,20}}[ \t]*[:=][^\r\n,]{{0,40}}(?:[,;]|\r?\n|\\n)[ \t]*){{0,2}}"
    r"(?:<[A-Za-z\-]{1,20}>|[\"'\\]*(?i:value|val|v|content|default|data|text|parametervalue|secretstring)"
    r"[\"'\\]*[ \t]*[:=])"
)
"""A name that is a value itself, and the value in a place of its own: `name: DB_PASSWORD`, `value: x`."""


def _part(added: str) -> str:
    return name_part(added).replace(r"\b", "")


def gate(added: str = "") -> str:
    """Return a pattern found in text wherever a name has a value."""
    part = _part(added)
    return (
        rf"{part}(?:{LETTERS}(?:{CLOSED}[ \t]*{SIGN}"
        rf"|\\*[\"'][ \t]+(?i:value)[ \t]*=|\\*[\"'][ \t]*,|[^<>\r\n]*>|{unbounded(PAIR)}|\([ \t]*\\*[\"']"
        rf"|\\*[\"'](?:\r?\n|\\r\\n|\\n){{2}}|{TYPED})"
        rf"|{LETTERS}[ \t]+{IS}?(?:[^\s'\"]*[0-9]|\\*['\"]))"
        rf"|[ \t\"',]--?{LETTERS}{part}"
    )


def json_gate(added: str = "") -> str:
    """Return a pattern found in JSON wherever a name is in a key or before a value."""
    return rf"{_part(added)}[^\"\r\n]*(?:\"[^:,}}\]\r\n]+)?\":"


def pair_gate(added: str = "") -> str:
    """Return a pattern found in JSON wherever a secret's name is the value of a member such as `name`."""
    return (
        r"\"(?i:name|key|k|field|param(?:eter)?(?:key|name)?|variable|var|property|attribute|setting|option|id)"
        rf"\\*\":[ ]?\\*\"{LETTERS}{_part(added)}"
    )


def has_sign(data: bytes) -> bool:
    """Return whether anything that `gate` has behind a name is in a text. Base64 in lines has none of it."""
    return not data.isascii() or any(sign in data for sign in b" \t:=<>\"'%&(\\,")


WORD_GATE = r"\"(?i:private|unlock|mdp)\\*\":"
"""A pattern for names in JSON that in a text are ordinary words."""


_opening = compile_fixed(rb"[bBrRuUfFnN]{0,2}(\\*)(\"\"\"|'''|\"|')|[\[({]")
_bracket = compiled(rb"[\[\](){}]|\\?\"[^\"\r\n]*\"|'[^'\r\n]*'|[\r\n;|&`]")
_word = compile_fixed(rb"(?:(?i:bearer|basic|digest|token|apikey|negotiate|ntlm)[ \t]+)?[^\s&\"'<>]+")
_next_piece = compiled(rb"\r?\n([^\s&\"'<>;|`$/.]+)")
_next_listed = compiled(rb"[ \t]{0,4},[ \t]{0,4}([^\s,\"'<>;|&`$=/:]+)")
_line_end = compile_fixed(rb"[ \t]{0,8}(?:\r?\n){1,2}")
_one_word = compiled(
    rb"([ \t]{0,64}(?:(?:[-*+]|\d{1,2}[.)])[ \t]{1,4})?)[\"']?([^\s\"'<>;|&`$=/:,]+={0,2})"
    rb"[\"']?,?[ \t]*(?:\r?\n|$)",
)
_rest_of_line = compiled(rb"[^\r\n\"'<>]+")
_escaped_break = compile_fixed(rb"\\+[nr]")
_annotated = compile_fixed(rb"[\])}]*[ \t]{0,8}=[ \t]{0,8}")
_letter = compile_fixed(rb"[A-Za-z\x80-\xff]")
_block = compile_fixed(rb"[|>][+\-0-9]{0,2}[ \t]*\r?\n([ \t]+)")
_MOST_LINES = 64
_NO_VALUES, _TYPE_NAMES, _PROSE = map(byte_words, ("no_values", "type_names", "prose"))
_QUOTES = (b"'", b'"')


_sign = compiled(
    rf"{TYPED}[ \t]{{0,8}}|{CLOSED}[ \t]{{0,8}}{SIGN}[ \t]{{0,8}}{OPENED}"
    r"|[\"'][ \t]{1,8}(?i:value)[ \t]{0,8}=[ \t]{0,8}|[\"'][ \t]{0,8},[ \t]{0,8}".encode(),
)
_equals = compile_fixed(rb"=(?=[A-Za-z0-9])")
"""The sign in `password=x`, by far the most frequent, which `_sign` finds as well."""
_pair = compiled(rf"{PAIR}[ \t]{{0,8}}")
_tag = compiled(rb"[\"']?(?:[ \t][^<>\r\n]{0,100})?>(?:<!\[CDATA\[)?")
_call = compiled(rb"\([ \t]{0,8}[bBrRuU@$]{0,2}\\?[\"']")
_setter = compile_fixed(r"(?:^|\.)(?:set|with|using?|put|update|change)_?[A-Za-z]", 2)
_form_part = compiled(rb"[\"']\r\n\r\n([^\s\"'<>;|&`$]+)\r\n")
_STRUCTURAL = frozenset(bytes((byte,)) for byte in b"\"'\\]),;>{(<\r\n&% \t")
_digit_kind = compile_fixed(rb"[ \t]{1,4}[05-9][ \t]{1,4}")  # of a router: password 7 0822455D
_wide_sign = compiled(WIDE)
_arrow = compile_fixed(rb"(?:[^t=]|[ \t]=)>[ \t]*$|\xe2[\x86\x87]\x92")  # of prose
_escaped_end = compile_fixed(rb"\\+[nr]|%(?:25)?(?:2[0267cC]|3[bB]|7[dD]|0[aAdD])|\\+u00[0-2][0-9a-fA-F]")
_code_name = compile_fixed(r"(?:pin|otp|code|cv[vcn]2?)s?$", 2)
_spoken_name = compile_fixed(r"pass|pwd|pw$|\bpin$|otp$|wort|haslo|has|sen|clave|contra|[^\x00-\x7f]", 2)
_ascii = compile_fixed(r"[A-Za-z0-9_.\-]+")
_blanks = compile_fixed(rb"[ \t]{1,4}")
_copula = compiled(rf"[ \t]{{1,4}}({IS}?)")


@cache
def finder(added: str = "") -> Callable[[bytes], list[Span]]:
    """Return a function that finds the values whose names say that they are secret, or were added."""
    search = compiled(rf"{LETTERS}{name_part(added)}{LETTERS}").search

    def find(data: bytes) -> list[Span]:
        spans: list[Span] = []
        at = 0
        while (found := search(data, at)) is not None:
            budget.spend(budget.NAME)
            start, end = found.span()
            hidden, at = _behind(data, start, end)
            spans += hidden
        return spans

    return find


def _behind(data: bytes, start: int, end: int) -> tuple[list[Span], int]:
    """Return what is hidden behind one name, and where to go on."""
    if data[start - 1 : start] == b"\\" and data[start] in b"nrt":  # an escaped line break, no letter
        start += 1
    start = max(start, data.rfind(b" --", start, end) + 1)  # a flag, and no word before it
    written = data[start:end]
    wide = None if written.isascii() else _wide_sign.search(data, start + 1, end)  # which counts as a letter
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
    if _equals.match(data, end) is not None:
        return _signed(data, (start, end), end + 1, name, held)
    found = _sign.match(data, end)
    behind = end if found is None else found.end()
    listed = b"," in data[end:behind]
    if found is None or listed:
        value, at = _paired(data, end)
        if value:
            return value, at
    if found is None:
        return _without_sign(data, start, end, name)
    if listed and not (
        data[start - 1 : start] in _QUOTES and data[max(0, start - 16) : start].rstrip(b"'\" \t")[-1:] == b"("
    ):
        return [], end
    return _signed(data, (start, end), behind, name, held)


def _paired(data: bytes, end: int) -> tuple[list[Span], int]:
    """Return the value that has a place of its own: `name: DB_PASSWORD`, `value: x`."""
    pair = _pair.match(data, end) if data[end : end + 1] in _STRUCTURAL else None
    if pair is None:
        return [], end
    value, at = _value(data, pair.end(), False)
    return (value if _is_secret(data, value, True, True) else []), at


def _signed(data: bytes, of: Span, at: int, name: str, held: Held) -> tuple[list[Span], int]:
    """Return what is hidden behind a name and a sign, which ends at `at`."""
    sign = data[of[1] : at]
    after = data[at : at + 1]
    if b"==" in sign and after not in _QUOTES:  # a comparison
        return [], at
    colon = not (b"=" in sign or b"%" in sign or b"," in sign)
    if colon and _opening.match(data, at) is None:
        if name.lower().endswith("authorization"):
            return authorization(data, at)
        if name.lower().endswith("cookie") and after != b"\\":
            return cookies(data, at)
    if (
        (b">" in sign or b"\xe2" in sign)
        and _arrow.search(sign) is not None
        and after not in (*_QUOTES, b"\\", b":")
    ):
        return _spoken(data, at, True)
    if colon and (below := _line_end.match(data, at)) is not None:
        first = data.rfind(b"\n", 0, of[0]) + 1
        return _values_below(data, below.end(), not data[first : of[0]].strip(b" \t\"'-"))
    spans: list[Span] = []
    escaped = b"%" in sign or b"\\u00" in sign or b"&quot;" in sign
    while True:
        value, at = _value(data, at, b"&gt;" in sign, escaped)
        if value and _repeats_name(data[slice(*value[0])], data[slice(*of)]):
            return spans, at
        if len(value) > 1 or _is_secret(data, value, colon, held == "any"):
            spans += value
        more = _annotated.match(data, at) if colon else None  # password: str = "..."
        if more is None:
            return _listed(data, name, spans, at)
        at = more.end()


def _listed(data: bytes, name: str, spans: list[Span], at: int) -> tuple[list[Span], int]:
    """Return also the values behind commas, where the name is a plural: `recovery codes: a1b2, e5f6`."""
    if not spans or name[-1:] not in ("s", "S"):
        return spans, at
    for _ in range(_MOST_LINES):
        more = _next_listed.match(data, at)
        if more is None or not is_thought_of(more.group(1), digits=True):
            break
        spans = [*spans, *bounded(data, *more.span(1))]
        at = more.end()
    return spans, at


def _without_sign(data: bytes, start: int, end: int, name: str) -> tuple[list[Span], int]:
    """Return `x` in `--password x`, `PASSWORD 'x'`, `<password>x`, `setPassword("x")`, `password is x`."""
    before, after = data[start - 1 : start], data[end : end + 1]
    tag = _tag.match(data, end) if before in _BEFORE_TAG else None
    if tag is not None and before in _QUOTES:  # <param name="api_key">x<
        return _spoken(data, tag.end(), True)
    if tag is not None and (before == b"<" or b"<" in data[max(0, start - 40) : start]):
        return _whole(data, tag.end(), True)
    if after == b"(" and (call := _call.match(data, end)) is not None:
        return _argument(data, call.end(), before == b".", _setter.search(name) is not None)
    if after in _QUOTES and (part := _form_part.match(data, end)) is not None:
        return (bounded(data, *part.span(1)) if is_thought_of(part.group(1)) else []), part.end()
    return _behind_blanks(data, end, name, name.startswith("-") and before in _BEFORE_FLAG)


def _whole(data: bytes, at: int, whole_line: bool) -> tuple[list[Span], int]:
    """Return the value at `at`, which nothing but its place makes one."""
    value, at = _value(data, at, whole_line)
    return (value if len(value) > 1 or _is_secret(data, value, False, True) else []), at


def _argument(data: bytes, at: int, method: bool, setter: bool) -> tuple[list[Span], int]:
    """Return the text in `setPassword("x")`; that of `.token("x")` if it looks like a secret."""
    quote = at - 1 - (data[at - 2 : at - 1] == b"\\")
    value, at = _value(data, quote, False)
    chosen = setter or (method and bool(value) and is_thought_of(data[slice(*value[0])]))
    return (value if chosen and _is_secret(data, value, False, True) else []), at


def _behind_blanks(data: bytes, end: int, name: str, flag: bool) -> tuple[list[Span], int]:
    blanks = _blanks.match(data, end)
    if blanks is None:
        return [], end
    at = blanks.end()
    if flag:
        return ([], at) if data[at : at + 1] == b"-" else _whole(data, at, False)
    if data[at : at + 1] in _QUOTES:
        return _whole(data, at, False)
    if (kind := _digit_kind.match(data, end)) is not None:
        return _whole(data, kind.end(), False)
    spoken = _copula.match(data, end)
    at = spoken.end()
    if data[at : at + 1] in _QUOTES:
        return _whole(data, at, False)
    said = bool(spoken.group(1)) or _spoken_name.search(name) is not None
    code = _number.match(data, at) if _code_name.search(name) else None
    if code is not None and (said or code.end() - code.start() >= 6):
        return bounded(data, *code.span()), code.end()
    return _spoken(data, at, said)


_BEFORE_TAG = (b"<", b":", *_QUOTES)
_BEFORE_FLAG = (b" ", b"\t", b"", b",", *_QUOTES)
_number = compiled(rb"[0-9]{4,8}\b")


def _spoken(data: bytes, at: int, said: bool) -> tuple[list[Span], int]:
    """Return the value in `password X9!kq...` or `the token is hunter2.`, unless it looks like any word.

    `said` means that the sentence says what the name stands for: then a word with a digit that ends a clause
    is a secret.
    """
    word = _word.match(data, at)
    if word is None:
        return [], at
    start, end = word.span()
    while end > start and data[end - 1] in b",.)]}:":
        end -= 1
    value = unmasked(data[start:end])
    ends = said and (
        end < word.end() or not data[end : end + 2].lstrip(b" ") or data[end : end + 1] in b"\r\n<\"'/"
    )
    if is_strong(value) or is_random(value) or (ends and is_thought_of(value)):
        return bounded(data, start, end), end
    return [], at


_reference = compiled(  # to where the secret is, which is none
    r"[A-Za-z_]+(?:\.[A-Za-z_]+)*\([^()]{0,200}(?:\([^()]{0,200}\)?[^()]{0,50})?\)?"
    r"|[A-Za-z_]+(?:\.[A-Za-z_]+)+\[.*|\$\{?[A-Z_][A-Z0-9_]*\}?|\$\{\{?[^{}]{0,200}\}\}?"
    r"|\{\{[^{}]{0,200}\}\}|%\w|%[A-Z_]+%|self\.\w+|\*+|x{3,}|\.\.\."
)
_referring = compile_fixed(rb"[(\[${%*]|self\.|xxx|\.\.\.")  # in every text of `_reference`


def _is_reference(text: bytes) -> bool:
    """Return whether a value says where the secret is: `$TOKEN`, `os.getenv("TOKEN")`, `{{ token }}`."""
    return _referring.search(text) is not None and _reference.fullmatch(text) is not None


def _repeats_name(value: bytes, name: bytes) -> bool:
    """Return whether a value is the name itself, or the end of it: `auth=auth`, `self._pwd = pwd`."""
    return name.endswith(value) and (len(name) == len(value) or name[-len(value) - 1] in b"._-")


def _is_secret(data: bytes, value: list[Span], colon: bool, any_kind: bool) -> bool:
    if not value:
        return False
    start, end = value[0]
    text = unmasked(data[start:end])
    quoted = data[start - 1 : start] in (b"'", b'"')
    if text == b"" or text.lower() in _NO_VALUES or not (any_kind or _letter.search(text)):
        return False
    if not quoted and (_is_reference(text) or text in (b"[", b"(", b"{", b"[]", b"()", b"{}")):
        return False
    return (
        quoted
        or not colon
        or not (text in _TYPE_NAMES or (text.lower() in _PROSE and data[end : end + 1] == b" "))
    )


def _value(data: bytes, at: int, whole_line: bool, escaped: bool = False) -> tuple[list[Span], int]:
    """Return the parts of the value at `at` that are hidden, and where it ends.

    `escaped` means that what ends it is written as its sign is, in percent or `\\u0022`.
    """
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
    if (escape := (_escaped_end if escaped else _escaped_break).search(data, closed, end)) is not None:
        end = max(escape.start(), closed)
    if data[end - 2 : end] == b"):" and end - 1 > max(closed, masked):  # of code: `def f(password=None):`
        end -= 1
    while end > max(closed, masked) and data[end - 1] in b",.)]} \t;":
        end -= 1
    if end == masked > at:  # hidden already
        return [], end
    if data[end - 1 : end] == b"\\" and end > at and data[end : end + 1] in (b"\n", b"\r"):
        return _continued(data, at, masked, end)
    return ([(at, end)] if closed > at else bounded(data, at, end)), end


def _continued(data: bytes, at: int, masked: int, end: int) -> tuple[list[Span], int]:
    """Return a word that goes on behind a backslash and a line break, which a shell takes out."""
    spans = [] if masked == end - 1 > at else bounded(data, at, end - 1)
    rest = _next_piece.match(data, end)
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
        line = _one_word.match(data, at)
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


def _closing_bracket(data: bytes, at: int) -> int:
    """Return where the bracket at `at` is closed; `at` where it is not before a command could end."""
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
