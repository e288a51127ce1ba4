"""Encode questions and answers as they are kept and signed, and check what anybody can have written.

The bytes are what digests and signatures are over, so they stay alike in all versions that share an inbox.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.approvals.inbox import QUESTION_VERSION, Answer, SharedQuestion
from aegis_otel.governance.approvals.question import Question
from aegis_otel.governance.recording import unix_ns

LARGEST_BYTES = 4 << 20
"""The most bytes that an encoded question may have."""
LONGEST_S = 10 * 366 * 86_400.0
"""The most seconds in which a question can be answered, where it has an end."""
MOST_GLOBS = 2_000
"""The most users and roles of the approvers of a question: each reader is compared to all of them."""
MOST_KEYS = 100
"""The most keys that a question can name."""
ANSWER_DOMAIN = b"aegis-otel answer 1\n"
"""What is signed begins with this, so that no other signature of a key is one of an answer."""
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_LATEST_NS = 1 << 62
"""In the year 2116. With `LONGEST_S` more it is still an integer of 64 bits."""


def encode_question(question: SharedQuestion) -> bytes:
    """Return a question as it is kept; a lone surrogate, which UTF-8 does not have, as its escape."""
    return _encoded(question)


def decode_question(body: bytes) -> SharedQuestion:
    """Return the question that `encode_question` wrote.

    Raises:
        ValueError: it is none, its row is of another call than it shows or of no time, or see `check_bounds`.
    """
    question = _question_decoder.decode(body)
    check_bounds(question)
    if question.version != QUESTION_VERSION:
        raise ValueError(f"it is of version {question.version}")
    shown, row = question.question, question.row
    is_of_the_call = (row.tool_call_id, row.run_id) == (question.tool_call_id, question.run_id)
    if not is_of_the_call or any(getattr(shown, name) != getattr(row, name) for name in _OF_THE_ROW):
        raise ValueError("its row is of another call")
    unix_ns(row.timestamp)
    return question


def check_bounds(question: SharedQuestion) -> None:
    """Check the numbers, keys and approvers of a question, which anybody can have written.

    Raises:
        ValueError: nobody could work with them.
    """
    if not 0 <= question.asked_ns < _LATEST_NS:
        raise ValueError("it was asked at no time")
    if question.expires_s is not None and not 0 <= question.expires_s <= LONGEST_S:
        raise ValueError(
            f"it can be answered for {question.expires_s:g} seconds, and not 0 to {LONGEST_S:.0f}"
        )
    keys = question.trusted_keys
    if len(keys) > MOST_KEYS or not all(map(_KEY_ID.fullmatch, keys)):
        raise ValueError(f"it names more than {MOST_KEYS} keys by which answers count, or what is no key")
    if question.approvers is None:
        return
    sections = (question.approvers, *question.approvers.others)
    if any(each.others for each in sections[1:]):
        raise ValueError("its approvers are nested")
    if len(sections) > MOST_GLOBS or sum(len(each.users) + len(each.roles) for each in sections) > MOST_GLOBS:
        raise ValueError(f"its approvers have more than {MOST_GLOBS:,} users and roles")


def question_digest(body: bytes) -> str:
    """Return what answers to an encoded question are bound to."""
    return hashlib.sha256(body).hexdigest()


def encode_answer(answer: Answer) -> bytes:
    """Return what is signed of an answer."""
    return ANSWER_DOMAIN + _encoded(answer)


def decode_answer(body: bytes) -> Answer:
    """Return the answer that `encode_answer` wrote; raises ValueError if it is none."""
    if not body.startswith(ANSWER_DOMAIN):
        raise ValueError("it does not begin as an answer does")
    return _answer_decoder.decode(body[len(ANSWER_DOMAIN) :])


_OF_THE_ROW = sorted(set(Question.__struct_fields__) & set(AuditRecord.__struct_fields__) - {"action_params"})
"""What question and row both say; the row may have the arguments cut."""
_encoder = msgspec.json.Encoder()
_question_decoder = msgspec.json.Decoder(SharedQuestion)
_answer_decoder = msgspec.json.Decoder(Answer)


def _encoded(value: SharedQuestion | Answer) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_legible(value))


def _legible(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, tuple):
        return tuple(_legible(each) for each in value)
    if isinstance(value, msgspec.Struct):
        parts = {name: _legible(each) for name, each in msgspec.structs.asdict(value).items()}
        return type(value)(**parts)
    return value
