"""Put masks over secrets: never over what a shell would run as another command, nor over more than a bound.

Text is bytes here, and a span is a pair of offsets into it. Whoever writes an argument also writes what
stands around a secret in it. So a span ends where a shell would end the command, unless a quote on the same
line, which a shell reads as one too, holds it together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from re import compile as compile_fixed  # nothing in these goes back: as linear, and quicker to call

from aegis_otel.redaction.budget import spend
from aegis_otel.redaction.data_files import byte_words

Span = tuple[int, int]

MASK_BEGINNING = "[REDACTED"
"""How every mask begins."""
REDACTED = f"{MASK_BEGINNING}]"
"""In place of what could not be worked through; every other mask says how much it hides: see `mask`."""
MASKED = r"\[REDACTED(?: (?:object |list )?\d{1,9} chars)?\]"
"""A pattern for what stands in place of a secret, a text or a structure."""
LONGEST = 1_024
"""Bytes of a quoted or bracketed value with blanks that are hidden; a value of one word has no bound."""

_BEGINNING = MASK_BEGINNING.encode()
_mask = compile_fixed(MASKED.encode())
_masks = compile_fixed(f"(?:{MASKED})+".encode())
_boundary = compile_fixed(rb"[\r\n;|&`]|\$\(")
_shell = compile_fixed(rb"[ \t\n\f\r=$/\\{}()<>]")  # in a word: a path, a variable or an assignment
_blank = compile_fixed(rb"[ \t\n\f\r]")
_run = compile_fixed(rb"[\w.\-\x80-\xff]*")
_quotes = compile_fixed(rb"\\.|['\"]")
_BEFORE_WORD = frozenset(b" \t\r\n'\"(,=:")
_BEHIND_WORD = frozenset(b" \t\r\n'\"),;&|")
_LETTERS = frozenset(byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_"))
_JOINS = _LETTERS.union(b"[({])}\\-+/=:.")
_FEW = 8
_LOOK_BACK = 4_096  # bytes of a line before a value, in which an open quote is searched
_COMMANDS = byte_words("commands")


def mask(size: int, kind: str = "") -> str:
    """Return what stands in place of `size` characters that are hidden; `MASKED` matches it.

    Args:
        size: The number of characters.
        kind: `object` or `list` where they are one; empty for a text.
    """
    return f"{MASK_BEGINNING} {kind}{' ' if kind else ''}{size} chars]"


def is_mask(data: bytes) -> bool:
    """Return whether `data` is a mask and nothing else."""
    return _mask.fullmatch(data) is not None


def unmasked(data: bytes) -> bytes:
    """Return `data` without masks."""
    return _mask.sub(b"", data) if _BEGINNING in data else data


def beyond_masks(data: bytes, spans: Iterable[Span]) -> list[Span]:
    """Return the spans that hide more than masks; one that ends within a mask is extended over all of it."""
    if _BEGINNING not in data:
        return list(spans)
    masks = [found.span() for found in _mask.finditer(data)]
    kept: list[Span] = []
    for start, end in spans:
        first = bisect_right(masks, (start, len(data))) - 1
        last = bisect_left(masks, (end, 0)) - 1
        if first >= 0:
            start = masks[first][0] if start < masks[first][1] else start  # noqa: PLW2901
        if last >= 0:
            end = max(end, masks[last][1])  # noqa: PLW2901
        hidden = data[start:end]
        rest = unmasked(hidden)
        if rest == hidden or any(byte in _LETTERS for byte in rest):
            kept.append((start, end))
    return kept


def after_mask(data: bytes, at: int) -> int:
    """Return where the masks at `at` end; `at` where there is none."""
    found = _masks.match(data, at) if data.startswith(_BEGINNING, at) else None
    return at if found is None else found.end()


def is_command(word: bytes) -> bool:
    """Return whether a shell that reads this word alone would plausibly run something."""
    return word.lower() in _COMMANDS or word[:1] in (b"/", b".", b"~", b"$", b"(", b"{", b"\\", b"<", b">")


def clip(data: bytes, start: int, end: int) -> list[Span]:
    """Return the parts of a value that are hidden: all of it, or what a command boundary in it leaves.

    Beyond a boundary only one word without blanks, which is no command, still belongs to the value.
    """
    if _boundary.search(data, start, end) is None or _held_together(data, start, end):
        return [(start, end)]
    parts: list[Span] = []
    at = start
    while at < end:
        found = _boundary.search(data, at, end)
        stop = end if found is None else found.start()
        if parts or at > start:
            word = data[at:stop]
            ended = found is not None or data[end : end + 1] not in (b" ", b"\t")
            runs = is_command(word) or _shell.search(word) is not None
            if word and (not ended or runs or data[at - 1 : at] != b";"):
                break
        if at < stop:
            parts.append((at, stop))
        if found is None or found.group() in (b"`", b"$(", b"\n", b"\r"):
            break
        at = found.end()
    return parts


def bounded(data: bytes, start: int, end: int) -> list[Span]:
    """Return the parts of a value that are hidden, at most `LONGEST` bytes where it is more than one word."""
    spend()
    if end - start > LONGEST and _blank.search(data, start, end) is not None:
        end = start + LONGEST
    return clip(data, start, end)


def _held_together(data: bytes, start: int, end: int) -> bool:
    """Return whether a quote that a shell reads as one is open over all of a span and closes on its line."""
    if end - start > LONGEST or data.find(b"\n", start, end) >= 0 or data.find(b"\r", start, end) >= 0:
        return False
    begin = data.rfind(b"\n", max(0, start - _LOOK_BACK), start) + 1
    if begin == 0 and start > _LOOK_BACK:
        return False
    quote = b""
    for token in _quotes.findall(data[begin:start]):
        if token == quote:
            quote = b""
        elif not quote and len(token) == 1:
            quote = token
        elif quote == b"'" and token.endswith(b"'"):  # a backslash means nothing between single quotes
            quote = b""
    if not quote or quote in data[start:end].replace(b'\\"', b""):
        return False
    if quote == b'"' and (b"`" in data[start:end] or b"$(" in data[start:end]):
        return False
    line_end = data.find(b"\n", end)
    return data.find(quote, end, len(data) if line_end < 0 else line_end) >= 0


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, those that overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def without_substitutions(data: bytes, spans: list[Span]) -> list[Span]:
    """Return the spans, which must be in order, without what a shell would substitute."""
    if b"`" not in data and b"$(" not in data:
        return spans
    parts: list[Span] = []
    for start, end in spans:
        hidden = data[start:end]
        parts += clip(data, start, end) if b"`" in hidden or b"$(" in hidden else [(start, end)]
    return parts


class EditedText:
    """A text in which each span is replaced, and where its other bytes stood before.

    Args:
        data: The text.
        spans: What is replaced: in order, and apart.
        masked: Whether a mask stands in place of each span; nothing does otherwise.
    """

    def __init__(self, data: bytes, spans: list[Span], *, masked: bool = True) -> None:
        parts: list[bytes] = []
        self._spans = spans
        self._places: list[Span] = []
        done = length = 0
        for start, end in spans:
            instead = b""
            if masked:
                hidden = data[start:end]
                size = end - start if hidden.isascii() else len(hidden.decode("utf-8", "replace"))
                instead = mask(size).encode()
            parts += (data[done:start], instead)
            length += start - done
            self._places.append((length, length := length + len(instead)))
            done = end
        self.text = b"".join((*parts, data[done:]))
        self.starts = [start for start, _ in self._places]
        """Where what stands in place of each span begins."""

    def place(self, span: Span) -> Span:
        """Return the span of what stands in place of one of the spans."""
        return self._places[bisect_right(self._spans, span) - 1]

    def original(self, spans: Iterable[Span]) -> list[Span]:
        """Return spans of this text as spans of the text before: a part of a mask stands for all of it."""
        return [(self._start(start), self._end(end)) for start, end in spans]

    def _start(self, at: int) -> int:
        index = bisect_right(self.starts, at) - 1
        if index < 0:
            return at
        end = self._places[index][1]
        return self._spans[index][0] if at < end else self._spans[index][1] + at - end

    def _end(self, at: int) -> int:
        index = bisect_left(self.starts, at) - 1
        if index < 0:
            return at
        return self._spans[index][1] + max(0, at - self._places[index][1])


def apart(data: bytes, spans: Iterable[Span]) -> list[Span]:
    """Return the spans that are whole words, so that nothing beside them can belong to them."""
    return [
        (start, end)
        for start, end in spans
        if (start == 0 or data[start - 1] in _BEFORE_WORD) and (end == len(data) or data[end] in _BEHIND_WORD)
    ]


def glued(data: bytes, spans: list[Span]) -> list[Span]:
    """Return the spans beside which a word goes on, or another span stands; all where they are few."""
    if len(spans) <= _FEW:
        return spans
    return [
        (start, end)
        for start, end in spans
        if (start > 0 and data[start - 1] in _LETTERS) or (end < len(data) and data[end] in _JOINS)
    ]


def whole_word(data: bytes, span: Span) -> Span:
    """Return the span with all letters, digits, dots and hyphens beside it."""
    start, end = span
    while start > 0 and data[start - 1] in _LETTERS:
        start -= 1
    run = _run.match(data, end)
    return start, end if run is None else run.end()
