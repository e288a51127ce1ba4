"""Lay out a question for the terminal: all of it, or nothing that could be approved.

Each line of the screen begins with characters of ours, whatever its width: two spaces and a label, `  * `
where an argument begins, `  | ` where a text goes on. So no text of an agent or a tool can look like another
field.
"""

from __future__ import annotations

import json
import os
import re
import termios
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

from aegis_otel.governance.approvals.question import NobodyToAsk, Question
from aegis_otel.governance.error_text import safe_description
from aegis_otel.model import Action, PolicyDecision, Subject
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.messages import approvers_in_words
from aegis_otel.redaction.masks import is_mask
from aegis_otel.redaction.redactor import REDACTED, redact, redact_text
from aegis_otel.redaction.serialize import encode_plain, to_plain
from aegis_otel.redaction.terminal import escape, name_list

MOST_LINES = 200
"""Lines of the screen that a question may take; a longer one is denied: nobody reads it at a terminal."""
USUAL_COLUMNS = 80
"""Of a terminal that does not say how many it has."""
NARROWEST = 24
"""Columns without which a question cannot be laid out."""

_BAR = 60
_DAY_S = 86_400
_ARGUMENT = "  * "
_GOES_ON = "  | "
_LONGEST_DESCRIPTION = 500
_LONGEST_PATH = 100
_PIECE = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\x[0-9a-f]{2}|\\.|.", re.DOTALL)


class Screen(NamedTuple):
    """The size and encoding of the terminal that the question is shown at."""

    columns: int
    rows: int
    encoding: str


class QuestionLayout(NamedTuple):
    """A question as far as the terminal shows it."""

    facts: tuple[tuple[str, str | None], ...]
    """Labels and texts, unescaped and redacted; without the arguments."""
    arguments: tuple[tuple[str, str], ...] | None
    """Names and values, as JSON; None where they are hidden as a whole."""
    deadline: float | None
    """Unix time in seconds after which an answer is too late."""
    hidden: str | None = None
    """What the model put under names of its own, all of which is hidden: the keys that lead there."""

    def lines(self, screen: Screen) -> list[str]:
        """Return the lines of the screen, none of which is wider than it.

        Raises:
            NobodyToAsk: it cannot be shown whole on this screen.
        """
        if screen.columns < NARROWEST:
            raise NobodyToAsk(f"{screen.columns} columns are too few to show the question; {_ELSEWHERE}")
        if self.arguments is None:
            raise NobodyToAsk(f"its arguments are hidden as a whole; {_ELSEWHERE}")
        if self.hidden is not None:
            where = escape(self.hidden)[:_LONGEST_PATH] or "it"
            raise NobodyToAsk(f"all that {where} has is hidden, under names of the model's; {_ELSEWHERE}")
        too_long = NobodyToAsk(
            f"it takes more than the {MOST_LINES} lines that are shown at a terminal; {_ELSEWHERE}"
        )
        if sum(len(name) + len(value) for name, value in self.arguments) > MOST_LINES * screen.columns:
            raise too_long  # without reading each character of what may be megabytes
        bar = "=" * min(_BAR, screen.columns - 1)
        shown = [bar, "  APPROVAL REQUIRED", bar]
        for line in self._laid_out(screen, self.arguments):
            shown.append(line)
            if len(shown) > MOST_LINES:
                raise too_long
        if len(shown) + 3 > screen.rows > 0:
            note = f"{len(shown) + 2} lines, and {screen.rows} on this screen: scroll up to read all of it"
            shown += _field("Note", note, screen)
        return [*shown, bar]

    def _laid_out(self, screen: Screen, arguments: tuple[tuple[str, str], ...]) -> Iterator[str]:
        for label, text in self.facts:
            if label == "Params" and arguments:
                yield from argument_lines(_prefix(label), arguments, screen)
            elif text:
                yield from _field(label, text, screen)
        if self.deadline is not None:
            left = max(0, round(self.deadline - time.time()))
            yield from _field("Until", f"{_local_time(self.deadline, left)}, in {left} s", screen)


def _local_time(moment: float, left: int) -> str:
    """Return a Unix time as this machine shows it, with the zone: the reader may be elsewhere."""
    local = time.localtime(moment)
    offset = time.strftime("%z", local)
    zone = "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"
    return time.strftime("%H:%M:%S " if left < _DAY_S else "%Y-%m-%d %H:%M:%S ", local) + zone


def question_layout(
    decision: PolicyDecision, question: Question | None, deadline: float | None
) -> QuestionLayout:
    """Return what the terminal shows of a question, or of the decision alone where there is no question."""
    action = decision.action
    if question is None:
        params = encode_plain(redact(to_plain(action.params))).decode()
        description = safe_description(action.description)
    else:
        params, description = question.action_params, question.action_description
    if len(description) > _LONGEST_DESCRIPTION:  # says nothing of what this call does
        description = f"{description[:_LONGEST_DESCRIPTION]}... ({len(action.description)} characters)"
    subject, approvers = action.subject or Subject(), decision.verdict.approvers
    facts = (
        ("Action", redact_text(action.type)),
        ("Target", None if action.target == "default" else redact_text(action.target)),
        ("Agent", redact_text(action.agent or "")),
        ("User", redact_text(subject.user or "")),
        ("Tenant", redact_text(subject.tenant or "")),
        ("Roles", name_list(map(redact_text, subject.roles or ()))),
        ("Risk", decision.risk_level.name),
        ("Rule", redact_text(decision.matched_rule)),
        ("Who", None if approvers is None else approvers_in_words(approvers)),
        ("Reason", redact_text(decision.reason)),
        ("Params", None),
        ("Desc", description),
        ("Id", question.decision_id if question else None),
    )
    arguments = arguments_of(params, bool(action.params))
    hidden = None if arguments is None or action.schema is None else _hidden(action, json.loads(params))
    return QuestionLayout(facts, arguments, deadline, hidden)


def refused(layout: QuestionLayout, why: str, screen: Screen) -> list[str]:
    """Return what is shown in place of a question that cannot be shown whole."""
    narrow = screen._replace(columns=max(screen.columns, NARROWEST))
    bar = "=" * min(_BAR, narrow.columns - 1)
    facts = dict(layout.facts)
    shown = [bar, "  NOT APPROVED", bar]
    for label in ("Action", "Risk", "Id"):
        if text := facts.get(label):
            shown += list(_field(label, text, narrow))[:2]
    return [*shown, *_field("Why", why, narrow), bar]


_ELSEWHERE = (
    "answer it in the inbox, or by a webhook, a callback or the SDK's interruptions (docs/approvals.md)"
)


def arguments_of(params: str, some: bool) -> tuple[tuple[str, str], ...] | None:
    """Return the names and values of redacted arguments, as JSON.

    Args:
        params: The arguments, a JSON object.
        some: Whether the call has any.

    Returns:
        None where they are no object any more, or not all there.
    """
    try:
        shown = json.loads(params)
    except (ValueError, RecursionError):
        return None
    if not isinstance(shown, dict) or (some and not shown):
        return None
    return tuple((_json(name), _json(value)) for name, value in shown.items())


def _hidden(action: Action, shown: object) -> str | None:
    """Return the keys that lead to an object of which nothing is shown, though the model chose its names.

    A name such as `password` hides its value. Where the tool has the name, that is what its author meant; but
    where it takes any, the model could hide so what the call does.
    """
    schema = SchemaReader(action.schema or {})
    waiting: list[tuple[Any, Any, tuple[str, ...]]] = [(action.params, shown, ())]
    while waiting:
        real, seen, steps = waiting.pop()
        if isinstance(real, (list, tuple)):
            parts = seen if isinstance(seen, list) else [seen] * len(real)
            waiting += [(*pair, (*steps, "*")) for pair in zip(real, parts, strict=False)]
        elif isinstance(real, Mapping) and real:
            inner = {key: seen.get(key, REDACTED) if isinstance(seen, dict) else seen for key in real}
            if all(map(_is_masked, inner.values())) and not all(
                schema.at((*steps, key)).is_listed for key in real
            ):
                return ".".join(steps)
            waiting += [(real[key], part, (*steps, key)) for key, part in inner.items()]
    return None


def _is_masked(shown: object) -> bool:
    return isinstance(shown, str) and is_mask(shown.encode(errors="backslashreplace"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def argument_lines(prefix: str, arguments: tuple[tuple[str, str], ...], screen: Screen) -> Iterator[str]:
    """Yield the arguments as JSON on the line that begins with `prefix`, or else each on lines of its own."""
    whole = "{" + ", ".join(f"{name}: {value}" for name, value in arguments) + "}"
    if len(whole) < screen.columns and "\\n" not in whole:
        on_one = list(wrapped(prefix, whole, screen))
        if len(on_one) == 1:
            yield from on_one
            return
    count = len(arguments)
    yield from wrapped(prefix, f"{count} argument{'s' if count > 1 else ''}, each from a *", screen)
    for name, value in arguments:
        yield from wrapped(_ARGUMENT, f"{name}: {value}", screen, breaks=True)


def _field(label: str, text: str, screen: Screen) -> Iterator[str]:
    yield from wrapped(_prefix(label), text, screen)


def _prefix(label: str) -> str:
    return f"  {label + ':':<8} "


def screen_of(stdin: TextIO, out: TextIO) -> Screen:
    """Return the size of the terminal, or a usual one where none is known."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    for stream in (out, stdin):
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns > 0:
                return Screen(columns, rows, encoding)
    return Screen(USUAL_COLUMNS, 0, encoding)


def wrapped(prefix: str, text: str, screen: Screen, *, breaks: bool = False) -> Iterator[str]:
    """Yield `text`, escaped, behind `prefix`; it goes on behind `  | `.

    With `breaks` it does so after each written newline, too.

    A word that has room on a line of its own is not broken. No character is left out: the lines can be put
    together again. The last column stays free: what terminals do after writing to it differs.
    """
    whole = screen.columns - 1 - len(_GOES_ON)
    line, room = prefix, screen.columns - 1 - len(prefix)
    for word in _words(_PIECE.findall(_printable(text, screen.encoding))):
        sizes = [sum(map(_width, piece)) for piece in word]
        if room < sum(sizes) <= whole:
            yield line
            line, room = _GOES_ON, whole
        for piece, size in zip(word, sizes, strict=True):
            if size > room:
                yield line
                line, room = _GOES_ON, whole
            line += piece
            room -= size
            if breaks and piece == "\\n":
                room = 0
    yield line


def _words(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Yield `pieces` in words, each with the space or the written newline that ends it."""
    word: list[str] = []
    for piece in pieces:
        word.append(piece)
        if piece in (" ", "\\n"):
            yield word
            word = []
    if word:
        yield word


def _printable(text: str, encoding: str) -> str:
    """Return `text` escaped, and as this terminal can write it."""
    shown = escape(text)
    if shown.isascii():
        return shown
    return shown.encode(encoding, "backslashreplace").decode(encoding, "backslashreplace")


def _width(char: str) -> int:
    """Return the most columns that a character takes: terminals differ on ambiguous ones, marks and emoji.

    Counted so, a terminal breaks no line that is not broken here.
    """
    return 2 if unicodedata.east_asian_width(char) in "WFA" else 1


def forget_what_was_typed(stdin: TextIO) -> None:
    """Discard what was typed before the question was shown: it does not answer it."""
    # Where it is no terminal, a program wrote the answers, for these questions in this order.
    with suppress(termios.error, OSError, ValueError, AttributeError):
        termios.tcflush(stdin.fileno(), termios.TCIFLUSH)
