"""Redact whatever leaves the process, to disk, telemetry or a terminal: the one step for all.

A value is hidden when its name says that it is a secret (`password`, `apiKey`), or when it looks like one
(`sk-live-...`, a card number, the password in a URL), alone or inside a longer text. The policy sees the
originals.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from functools import lru_cache
from typing import cast

import msgspec

from aegis_otel.redaction import budget
from aegis_otel.redaction.data_files import words
from aegis_otel.redaction.masks import REDACTED, is_mask, mask, unmasked
from aegis_otel.redaction.secrets.command_lines import hide_arguments
from aegis_otel.redaction.secrets.likelihood import is_card_number
from aegis_otel.redaction.secrets.scanner import engine
from aegis_otel.redaction.secrets.secret_names import Held, held_by
from aegis_otel.redaction.serialize import TAG, Plain, encode_plain

__all__ = ["REDACTED", "redact", "redact_name", "redact_text"]

_STRICTNESS: tuple[Held, ...] = ("no", "text", "any")
_SHORT_KEY = 100  # characters of a key that is worth remembering
_SHORT_NAME = 200
_name = re.compile(r"[A-Za-z0-9_.\-]*")
_NAMING, _LOOSELY_NAMING, _VALUES, _CONTENTS = map(
    words, ("naming_members", "loosely_naming_members", "value_members", "content_members")
)


def redact(plain: Plain, encoded: bytes | None = None) -> Plain:
    """Return `plain` without secrets; the value itself where it holds none.

    Redacting twice changes nothing more. None and booleans stay under any name: they say whether there is a
    secret, not which. What cannot be worked through, because the stack is used up or too much in it may be a
    secret, is hidden as a whole.

    Args:
        plain: A JSON value.
        encoded: Its JSON, where the caller has it.
    """
    try:
        if not engine().suspects_json(encoded or encode_plain(plain)):
            return plain
        budget.begin()
        return _redact(plain)
    except budget.TooMuchError:
        return _masked(plain)
    except Exception:
        return REDACTED


def redact_text(text: str) -> str:
    """Return `text` without secrets, and without lone surrogates, so that it can be written anywhere."""
    budget.begin()
    data = text.encode("utf-8", "backslashreplace")
    try:
        return _redact_bytes(data).decode("utf-8", "backslashreplace")
    except budget.TooMuchError:
        return _masked(text)
    except Exception:
        return REDACTED


def redact_name(value: object) -> str:
    """Return the redacted name of a tool, an agent or the like; for a value that is not a text, its type.

    Names repeat, so most are redacted once.
    """
    if type(value) is not str:
        return f"<{type(value).__name__}>"
    return _redact_short(value) if len(value) <= _SHORT_NAME else redact_text(value)


_redact_short = lru_cache(maxsize=2048)(redact_text)


generation = 0
"""How often settings changed: a redacted text that is remembered is valid in its own generation."""


def forget() -> None:
    """Forget the texts that were redacted by other settings."""
    global generation  # noqa: PLW0603
    generation += 1
    _redact_short.cache_clear()
    _redact_key.cache_clear()


def _redact(plain: Plain, held: Held = "no") -> Plain:
    """Return `plain` redacted, under a name that says `held` of it."""
    if plain is None or isinstance(plain, bool):
        return plain
    if held == "any":
        return _masked(plain)
    if isinstance(plain, str):
        if held == "text" and any(char.isalpha() for char in unmasked(plain.encode()).decode()):
            return _masked(plain)
        return _redact_string(plain)
    if isinstance(plain, list):
        return _redact_list(plain, held)
    if isinstance(plain, dict):
        return _redact_dict(plain, held)
    if type(plain) is int and plain > 10**12 and is_card_number(b"%d" % plain):
        return _masked(plain)
    return plain


def _masked(plain: Plain) -> str:
    """Return a mask in place of all of `plain`, with its length, and whether it is an object or a list.

    Whoever writes the arguments may choose their names too; `{"token": ["rm", "-rf"]}` is no text of a key.
    """
    if isinstance(plain, str):
        return plain if is_mask(plain.encode()) else mask(len(plain))
    kind = "object" if isinstance(plain, dict) else "list" if isinstance(plain, list) else ""
    return mask(len(msgspec.json.encode(plain).decode()), kind)


def _redact_list(plain: list[Plain], held: Held) -> list[Plain]:
    """Return a list redacted: `["password", "x"]` is a name and its value, `["--password", "x"]` a flag."""
    if len(plain) > 1 and all(isinstance(item, str) for item in plain):
        plain = cast("list[Plain]", hide_arguments(cast("list[str]", plain)))
    redacted: list[Plain] = []
    before: Plain = None
    for item in plain:
        holds = held
        if isinstance(before, str) and (len(plain) == 2 or before.startswith("-")) and _is_name(before):
            is_flag = isinstance(item, str) and item.startswith("--")
            holds = held if is_flag else _strictest(held, held_by(before))
        redacted.append(_redact(item, holds))
        before = item
    return redacted


def _is_name(text: str) -> bool:
    """Return whether a text is one name, and not a sentence that has one in it."""
    return len(text) <= _SHORT_KEY and _name.fullmatch(text) is not None


def _redact_string(text: str) -> str:
    data = text.encode()
    hidden = _redact_bytes(data)
    return text if hidden is data else hidden.decode("utf-8", "backslashreplace")


def _redact_bytes(data: bytes) -> bytes:
    used = engine()
    structured = data.lstrip()[:1] in (b"{", b"[")
    suspected = used.suspects_json(data) if structured else used.suspects(data)
    if not suspected:
        return data
    if not structured:
        return used.hide(data, suspected)
    try:
        return _redact_json(data)
    except (ValueError, RecursionError):  # no JSON after all, but perhaps without its secrets
        hidden = used.hide(data, suspected)
    try:
        return data if hidden is data else _redact_json(hidden)
    except (ValueError, RecursionError):
        return hidden


def _redact_json(data: bytes) -> bytes:
    inner = json.loads(
        data.decode(), object_pairs_hook=_all_pairs, parse_constant=_finite, parse_float=_finite
    )
    try:
        hidden = _redact(inner)
        return data if hidden == inner else msgspec.json.encode(hidden)
    except RecursionError:
        return REDACTED.encode()


def _finite(number: str) -> float:
    """Return a number of JSON: `NaN` and `1e999`, which Python would read as well, are none."""
    if (value := float(number)) - value != 0:
        raise ValueError(number)
    return value


def _all_pairs(pairs: list[tuple[str, Plain]]) -> Plain:
    """Return an object; one that has a key twice as a list of objects, so that no value of it is lost."""
    whole = dict(pairs)
    if len(whole) == len(pairs):
        return whole
    parts: list[dict[str, Plain]] = [{}]
    for key, value in pairs:
        if key in parts[-1]:
            parts.append({})
        parts[-1][key] = value
    return list(parts)


def _redact_dict(plain: dict[str, Plain], held: Held) -> dict[str, Plain]:
    named: Held = "no"
    contents: Held = "no"
    for key, item in plain.items():
        if isinstance(item, str) and key.lower() in _NAMING and len(item) <= _SHORT_KEY:
            named = _strictest(named, held_by(item))
            contents = named if key.lower() not in _LOOSELY_NAMING else contents
    redacted: dict[str, Plain] = {}
    numbers: dict[str, int] = {}
    for key, item in plain.items():
        shown, holds = _redact_key(key) if len(key) <= _SHORT_KEY else _redact_key.__wrapped__(key)
        if shown in redacted:
            shown = _another(shown, plain, redacted, numbers)
        if named != "no":
            lowered = key.lower()
            named_here = named if lowered in _VALUES else contents if lowered in _CONTENTS else "no"
            holds = _strictest(holds, named_here)
        holds = _strictest(holds, held)
        redacted[shown] = (
            _redact_tagged(plain[TAG], key, item, holds) if TAG in plain else _redact(item, holds)
        )
    return redacted


def _redact_tagged(tag: Plain, key: str, item: Plain, held: Held) -> Plain:
    """Return what the encoding wrote in another shape: names beside their values, bytes that are no text."""
    if tag == "dict" and key == "items" and isinstance(item, list):
        return [_redact_pair(entry, held) for entry in item]
    if key == "base64" and isinstance(item, str):
        try:
            content = b64decode(item, validate=True)
        except ValueError:
            return _redact(item, held)
        used = engine()
        if used.hide(content, used.suspects(content)) is not content:
            return _masked(item)
    return _redact(item, held)


def _redact_pair(pair: Plain, held: Held) -> Plain:
    if not (isinstance(pair, list) and len(pair) == 2):
        return _redact(pair, held)
    key, item = pair
    name = key
    if isinstance(key, dict):  # bytes, an instance of a str subclass, an enum
        name = next((key[part] for part in ("utf8", "value", "escaped") if part in key), None)
    return [_redact(key), _redact(item, _strictest(held, held_by(name) if isinstance(name, str) else "no"))]


@lru_cache(maxsize=4096)
def _redact_key(key: str) -> tuple[str, Held]:
    budget.spend()
    shown = _redact_string(key)
    return shown, _strictest(held_by(key), held_by(shown))


def _strictest(*held: Held) -> Held:
    return max(held, key=_STRICTNESS.index)


def _another(shown: str, plain: dict[str, Plain], redacted: dict[str, Plain], numbers: dict[str, int]) -> str:
    """Return a key for one more entry whose own key was hidden; `numbers` has the last ones in use."""
    number = numbers.get(shown, 1) + 1
    while (key := f"{shown} {number}") in redacted or key in plain:
        number += 1
    numbers[shown] = number
    return key
