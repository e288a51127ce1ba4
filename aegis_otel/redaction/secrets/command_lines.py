"""Secrets in the arguments of well-known programs: `7z -px`, `sshpass -p x`, `net user ann x`.

The programs are data: `data/command_lines.txt`. The words of a list of arguments (`["mysql", "-px"]`) are
searched as the command line that they make.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from aegis_otel.redaction import data_files
from aegis_otel.redaction.masks import EditedText, Span, after_mask, bounded
from aegis_otel.redaction.secrets import value_patterns
from aegis_otel.redaction.secrets.secret_shapes import unbounded

PATTERNS = value_patterns.load("command lines")
_LONGEST_VALUE = 1_024
_MOST_WORDS = 1_000
"""Words of a list that are searched as a command line."""


class _Use:
    """What some programs take: one section of `data/command_lines.txt`, which says what its fields mean."""

    def __init__(self, names: str, fields: dict[str, list[str]]) -> None:
        gap, value = PATTERNS.GAP, PATTERNS.VALUE
        secrets = list(fields.get("secret", ()))
        secrets += [f"{gap}(?:{flags})(?:{gap}|=){value}" for flags in fields.get("flag", ())]
        secrets += [f"{gap}(?:{flags})(?:{gap}|=)?{value}" for flags in fields.get("glued", ())]
        self.names = value_patterns.compiled(names)
        self.secret = value_patterns.compiled("|".join(secrets))
        self.needs = fields.get("needs", [""])[0].encode()
        self.most = int(fields.get("most", ["16"])[0])


_records = data_files.records("command_lines.txt", vars(PATTERNS))
_gates: dict[str, list[str]] = {}
for _names, _fields in _records:
    _gates.setdefault(_fields.get("gate", [PATTERNS.FLAG])[0], []).append(_names)
_CALLED = "|".join(f"(?:{'|'.join(names)}){PATTERNS.BEHIND}{gate}" for gate, names in _gates.items())
GATE = unbounded(f"{PATTERNS.BEFORE}(?:{_CALLED})")
"""A pattern found wherever one of the programs is called with what may be a secret."""
_PROGRAM = f"{PATTERNS.BEFORE}({'|'.join(names for names, _ in _records)}){PATTERNS.BEHIND}"
CLUE = unbounded(_PROGRAM)
"""A pattern for the name of one of the programs, in a text or in JSON."""
_blank = bytes.maketrans(b" \t\r\n\"'", b"\1\1\1\1\1\1")


class CommandFinder:
    """Finds the secrets in command lines."""

    def __init__(self) -> None:
        self._called = value_patterns.compiled(GATE)
        self._program = value_patterns.compiled(_PROGRAM)
        uses = [_Use(names, fields) for names, fields in _records]
        self._uses_of = lru_cache(maxsize=256)(
            lambda program: [use for use in uses if use.names.fullmatch(program) is not None]
        )

    def __call__(self, data: bytes) -> list[Span]:
        """Return the spans of the secrets in a text."""
        spans: list[Span] = []
        at = 0
        while (call := self._called.search(data, at)) is not None:
            line = data.find(b"\n", call.end())
            line = len(data) if line < 0 else line
            at = call.start()
            while (found := self._program.search(data, at, line)) is not None:
                stop = PATTERNS.end_of_command.search(data, found.end(1), line)
                end = line if stop is None else stop.start()
                spans += self._in_command(data, found, end)
                at = max(end, found.end(1))
            at = line
        return spans

    def _in_command(self, data: bytes, found: Any, end: int) -> list[Span]:
        """Search once for each program that is named in a command, behind the first place where it is."""
        places: dict[bytes, int] = {}
        while found is not None:
            places.setdefault(found.group(1), found.end(1))
            found = self._program.search(data, found.end(1), end)
        return [
            span
            for program, behind in places.items()
            for use in self._uses_of(program)
            if use.needs in data[behind:end]
            for span in _matches(data, use, behind, end)
        ]


command_secrets = CommandFinder()


def _matches(data: bytes, use: _Use, at: int, end: int) -> list[Span]:
    """Return the secrets of one program; a quoted value may go on behind what ends a command."""
    line = data.find(b"\n", end, end + _LONGEST_VALUE)
    limit = end if data[end : end + 1] in (b"", b"\n", b"\r") else line if line >= 0 else end + _LONGEST_VALUE
    spans: list[Span] = []
    for _ in range(use.most):
        found = use.secret.search(data, at, limit)
        if found is None or found.start() >= end:
            break
        group = next(n for n in range(1, use.secret.groups + 1) if found.end(n) > found.start(n))
        start, stop = found.span(group)
        if data[start : start + 1] not in (b"-", b"$", b"*", b"/") and after_mask(data, start) == start:
            spans += bounded(data, start, stop)
        at = max(stop, at + 1)
    return spans


def hide_arguments(words: list[str]) -> list[str]:
    """Return a list of arguments without the secrets that it has as a command line."""
    if len(words) > _MOST_WORDS:
        return words
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    line = b" ".join(word.translate(_blank) or b"\1" for word in encoded)
    spans = command_secrets(line)
    if not spans:
        return words
    hidden: list[str] = []
    at = 0
    for word, data in zip(words, encoded, strict=True):
        end = at + max(len(data), 1)
        inner = [
            part
            for start, stop in spans
            if at <= start < end and after_mask(data, start - at) == start - at
            for part in bounded(data, start - at, min(stop, end) - at)
        ]
        hidden.append(EditedText(data, inner).text.decode("utf-8", "surrogatepass") if inner else word)
        at = end + 1
    return hidden
