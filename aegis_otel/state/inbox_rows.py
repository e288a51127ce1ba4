"""Run the statements of the inbox with any text, and read questions that anybody can have written.

The statements are as `inbox` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter
from types import UnionType
from typing import Any, TypeVar

from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import LARGEST_BYTES, decode_question, question_digest
from aegis_otel.state.engine import Transaction

LONGEST = 500
"""The most characters of a name or a reason beside a signed answer."""
PAGE_BYTES = 8 << 20
"""The bytes of questions after which a list ends early."""
CALL_BYTES = 64 << 20
"""The bytes of questions about one call after which others are passed over."""
ANSWER_BYTES = 64 << 10
"""The most bytes of an answer."""
_MOST_ANSWERS = 200
"""The most answers to a question that are read: by far more persons than any rule needs."""
_ANSWERS_AT_A_TIME = 1_000
BOUNDS = {"longest": LONGEST, "largest": LARGEST_BYTES, "answer": ANSWER_BYTES}
"""What statements bound texts and bodies by."""
_Value = TypeVar("_Value")
# A text that is cut here is no longer a digest or a status, so its row is none.
_SEVERAL = """
SELECT decision_id, substr(digest, 1, 65), substr(status, 1, 20), change, ended_ns,
    substr(used_by, 1, :longest), body
FROM aegis.question WHERE decision_id IN (SELECT value FROM json_each(:ids)) AND change > :after
AND length(body) <= :largest AND length(decision_id) <= :longest
"""
_ANSWERS = """
SELECT decision_id, place, body, signature, substr(signed_by, 1, :longest) FROM aegis.answer
WHERE decision_id IN (SELECT value FROM json_each(:ids))
AND length(body) <= :answer AND length(signature) <= :longest
ORDER BY decision_id, person LIMIT :limit
"""


def execute(store: Transaction, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, which can use `BOUNDS`.

    NUL and lone surrogates, which not all engines keep, become escapes.
    """
    return store.run(statement, {**BOUNDS, **{name: storable(value) for name, value in values.items()}})


def storable(value: object) -> object:
    """Return a value as all engines keep it."""
    if not isinstance(value, str):
        return value
    return value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def read_states(
    store: Transaction, decision_ids: Iterable[str], now: int | None = None, *, after: int = -1
) -> dict[str, QuestionState]:
    """Return the questions with these ids that can be read and have changed after `after`."""
    # Others are nobody's id. PostgreSQL has no text with them, SQLite has whatever somebody writes into it.
    wanted = [each for each in decision_ids if isinstance(each, str) and each.isprintable()]
    rows = execute(store, _SEVERAL, ids=json.dumps(wanted), after=after) if wanted else []
    if not rows:
        return {}
    now = store.now_ns() if now is None else now
    answers = _read_answers(store, [row[0] for row in rows])
    states = {}
    for decision_id, digest, status, change, ended_ns, used_by, body in sorted(rows, key=itemgetter(0)):
        try:
            question = decode_question(body)
            if question.decision_id != decision_id or question_digest(body) != digest:
                continue
            if not isinstance(change, int):
                continue
            states[decision_id] = QuestionState(
                question,
                digest,
                QuestionStatus(status),
                tuple(answers.get(decision_id, ())),
                change,
                now,
                ended_ns if isinstance(ended_ns, int) else None,
                used_by if isinstance(used_by, str) else None,
            )
        except (ValueError, TypeError, RecursionError):  # somebody else has written it
            continue
    return states


def have_types(row: tuple[Any, ...], *types: type | UnionType) -> bool:
    """Return whether the values of a row have these types: SQLite keeps any type in any column."""
    return all(isinstance(value, type_) for value, type_ in zip(row, types, strict=True))


def within(sized: Sequence[tuple[_Value, int]], most: int) -> list[_Value]:
    """Return the first values whose sizes are no more than `most` together."""
    sizes = accumulate(size for _, size in sized)
    return [value for (value, _), size in zip(sized, sizes, strict=True) if size <= most]


def _read_answers(store: Transaction, decision_ids: Iterable[str]) -> dict[str, list[SignedAnswer]]:
    """Return the answers to questions in the order in which they came, up to `_MOST_ANSWERS` to each."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    wanted = sorted(decision_ids)
    while wanted:
        rows = execute(store, _ANSWERS, ids=json.dumps(wanted), limit=_ANSWERS_AT_A_TIME)
        for decision_id, *row in rows:
            found.setdefault(decision_id, []).append(tuple(row))
        if len(rows) < _ANSWERS_AT_A_TIME:
            break
        last = rows[-1][0]
        wanted = [each for each in wanted if each > last]
        if len(found[last]) < _MOST_ANSWERS:  # the others may not have come any more
            del found[last]
            wanted.insert(0, last)
    return {decision_id: _in_order(rows[:_MOST_ANSWERS]) for decision_id, rows in found.items()}


def _in_order(rows: Iterable[tuple[Any, ...]]) -> list[SignedAnswer]:
    signed = [row for row in rows if have_types(row, int, bytes, bytes, str)]
    return [SignedAnswer(*row[1:]) for row in sorted(signed, key=itemgetter(0))]
