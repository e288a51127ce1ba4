"""Secrets inside of base64 or hexadecimal digits: `cGFzc3dvcmQ9...` is `password=...`.

The names of secrets have fixed forms in either encoding, so one pass finds where to decode.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from aegis_otel.redaction.masks import Span
from aegis_otel.redaction.secrets.named_values import finder
from aegis_otel.redaction.secrets.secret_names import ENCODED
from aegis_otel.redaction.secrets.value_patterns import compiled


def _in_base64(name: str) -> list[str]:
    """Return what is in any base64 of a text with `name` in it, at each of its three offsets."""
    forms: list[str] = []
    for before in range(3):
        encoded = b64encode(b"\0" * before + name.encode()).decode().rstrip("=")
        first = -(-before * 8 // 6)
        last = (before + len(name)) * 8 // 6
        forms.append(encoded[first:last].replace("+", "[+\\-]").replace("/", "[/_]"))
    return forms


_SPELLED = sorted({each for name in ENCODED for each in (name, name.upper(), name.capitalize())})
_BASE64 = "|".join(form for name in _SPELLED for form in _in_base64(name))
_HEX = "|".join(name.encode().hex() for name in _SPELLED)
GATE = rf"{_BASE64}|(?i:{_HEX})"
"""A pattern found wherever `encoded_secrets` finds something."""
CLUE = (
    "|".join(sorted({form if "[" in form else form[:5] for form in _BASE64.split("|")}))
    + f"|(?i:{'|'.join(sorted({form[:6] for form in _HEX.split('|')}))})"
)
"""How these names begin: `GATE` with fewer states."""
_word = compiled(
    rf"([A-Za-z0-9+/_\-]*(?:{_BASE64})[A-Za-z0-9+/_\-]*={{0,2}})|((?i:[0-9a-f]*(?:{_HEX})[0-9a-f]*))",
)
_named = finder()
_url_safe = bytes.maketrans(b"-_", b"+/")


def encoded_secrets(data: bytes) -> list[Span]:
    """Return the encoded words that have a name with a secret value in them, each as a whole."""
    return [found.span() for found in _word.finditer(data) if _holds(found.group(1), found.group(2))]


def _holds(base64: bytes | None, digits: bytes | None) -> bool:
    if base64:
        word = base64.rstrip(b"=").translate(_url_safe)
        inner = b64decode(word[: len(word) - (len(word) % 4 == 1)] + b"==")
    else:
        inner = bytes.fromhex((digits or b"")[: len(digits or b"") // 2 * 2].decode())
    return b"PRIVATE KEY-----" in inner or bool(_named(inner))
