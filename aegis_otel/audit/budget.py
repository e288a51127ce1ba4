"""Bound what one call may write: what is longer is cut, and the cut says how much is missing. Pure.

Arguments are what a model sends, as long as it likes, also of a call that is blocked. Their digest is of the
whole, and they are redacted before they are cut, so that no half of a secret is left.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

CUT = "[CUT"
"""The beginning of what stands in place of the rest; with a `]`, the member that says it of all arguments."""
PARAMS_BYTES = 64 << 10
"""The most bytes that the arguments of one call may have, as JSON."""
TEXT_CHARS = 4_000
"""The most characters of an error, a reason, or what an approver wrote."""
NAME_CHARS = 1_000
"""The most characters of an id, or of the name of a tool, an agent or a conversation."""
LINE_BYTES = 256 << 10
"""The most bytes of a whole line of the journal."""

_WHOLE = f"{CUT}]"
_RUNGS = ((16_384, 1_000), (4_096, 1_000), (1_024, 500), (256, 200), (64, 50), (16, 10))
"""Characters that a text keeps, and members that a container keeps: tried in turn until all has room."""
_encoder = msgspec.json.Encoder(order="deterministic")


def cut_text(text: str, longest: int = TEXT_CHARS) -> str:
    """Return the beginning of a longer text, with how much is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}{CUT} {len(text) - longest:,} of {len(text):,} characters]"


def cut_name(name: str, whole: str | None = None) -> str:
    """Cut a name as `cut_text` does; two names that differ still differ when they are cut.

    Args:
        name: Redacted.
        whole: What `name` is the beginning of, where it is one.
    """
    text = name if whole is None else whole
    if len(text) <= NAME_CHARS:
        return name
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
    kept = name[:NAME_CHARS]
    return f"{kept}{CUT} {len(text) - len(kept):,} of {len(text):,} characters, sha256 {digest}]"


def cut_params(params: Any, encoded: bytes) -> bytes:
    """Return the JSON of arguments, cut where it is longer than `PARAMS_BYTES`. What is left is valid JSON.

    Long texts are cut first, and all to the same length, so that a short value beside them stays.

    Args:
        params: Redacted, as plain JSON values.
        encoded: Their JSON.
    """
    if len(encoded) <= PARAMS_BYTES:
        return encoded
    for longest, most in _RUNGS:
        cut = _Cutter(longest, most).cut(params)
        if isinstance(cut, dict):
            shorter = _encoder.encode(cut | {_WHOLE: f"{len(encoded):,} bytes in all"})
            if len(shorter) <= PARAMS_BYTES:
                return shorter
    return _encoder.encode({_WHOLE: f"all of {len(encoded):,} bytes"})


class _TooLarge(Exception):
    """There is no room left."""


class _Cutter:
    def __init__(self, longest: int, most: int) -> None:
        self._longest, self._most = longest, most
        self._room = PARAMS_BYTES

    def cut(self, value: Any) -> Any:
        """Return `value`, cut; None where it has no room."""
        try:
            return self._value(value)
        except (_TooLarge, RecursionError):
            return None

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            members = list(value.items())
            cut = {self._text(name): self._value(each) for name, each in members[: self._most]}
            if len(members) > len(cut):  # two long names may have become one
                cut[_WHOLE] = f"{len(members) - len(cut):,} more members"
            return cut
        if isinstance(value, list):
            items = [self._value(each) for each in value[: self._most]]
            if len(value) > len(items):
                items.append(f"{CUT} {len(value) - len(items):,} more items]")
            return items
        self._take(len(str(value)))
        return value

    def _text(self, text: str) -> str:
        cut = cut_text(text, self._longest)
        self._take(len(cut))
        return cut

    def _take(self, characters: int) -> None:
        self._room -= characters + 3  # quotes and a comma
        if self._room < 0:
            raise _TooLarge
