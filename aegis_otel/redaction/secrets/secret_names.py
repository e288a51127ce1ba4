"""Which names say that their value is a secret: `password`, `apiKey`, `X-Auth-Token`; not `max_tokens`.

The names are data (`data/secret_names.txt`). A name is split into words, so that `author` is not `auth` and
`tokenizer` is not `token`. Ids, counts and descriptions of a secret are not secret: `secret_arn`,
`token_count`, `credit_card_last_4`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from re import compile as compile_fixed  # fixed-width patterns only, where it is as linear and quicker
from typing import Literal
from unicodedata import category, combining

from aegis_otel.redaction import data_files
from aegis_otel.redaction.name_forms import decomposed
from aegis_otel.redaction.secrets.value_patterns import compiled

Held = Literal["no", "text", "any"]
"""What a name says of its value: no secret; a secret if it is text; a secret."""

_LINES = dict(data_files.lines("secret_names.txt"))
_WORDS, _GLUED, _LAST, _COUNTED, _ALONE = (
    "|".join(_LINES[title]) for title in ("words", "glued", "last", "counted", "alone")
)
_LISTS = {
    title: frozenset(" ".join(_LINES[title]).split())
    for title in ("about_last", "about_first", "no_credential", "no_variable")
}
_LOOK_ALIKES = [line.split(" ") for line in _LINES["look_alikes"]]
_LATIN = str.maketrans({other: latin for latin, others in _LOOK_ALIKES for other in others})
"""Letters of other scripts that look like Latin ones."""


def _with_latin_letters(name: str) -> str:
    """Return `name` with Latin letters where others look like them, and without invisible characters."""
    return _unaccented("".join(char for char in name if category(char) != "Cf")).translate(_LATIN)


def _unaccented(name: str) -> str:
    plain = "".join(map(_letters, name))
    return plain.replace("ł", "l").replace("Ł", "L").replace("đ", "d").replace("\u0131", "i")


@lru_cache(maxsize=4096)
def _letters(char: str) -> str:
    """Return what a character is made of but for accents, whose order behind a letter makes no difference."""
    return "".join(each for each in decomposed(char) if not combining(each))


SCRIPTS = tuple(_LINES["scripts"])
VERBS = tuple(_LINES["verbs"])
"""What stands between a name and its value in a sentence."""
ENCODED = tuple(_LINES["encoded"])
"""Names that are also found in base64 and in hexadecimal digits."""
_FOLDED = tuple(_unaccented(word) for word in SCRIPTS)
_IN_TEXT_ALIKE = dict(line.split(" ") for line in _LINES["look_alikes_in_text"])
_INVISIBLE = r"(?:\xe2(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf])|\xc2\xad|\xef\xbb\xbf|\xd8\x9c)*"


def _look_alike(word: str) -> str:
    """Return a pattern for a word in other letters, in full width or with invisible characters in it."""
    letters = []
    for char in word:
        place = ord(char) - 97
        wide = rf"\xef(?:\xbc\x{0xA1 + place:02x}|\xbd\x{0x81 + place:02x})|\xf0\x9d[\x90-\x9f][\x80-\xbf]"
        others = [
            "".join(rf"\x{byte:02x}" for byte in other.encode()) for other in _IN_TEXT_ALIKE.get(char, "")
        ]
        letters.append(rf"(?:{'|'.join((f'(?i:{char})', wide, *others))})")
    return _INVISIBLE.join(letters)


_PARTS = f"{_WORDS}|{_GLUED}|{_LAST}|{_COUNTED}".replace(" ", r"[ _.\-0-9]*").replace("_code", r"[_.\- ]code")
NAME_PART = "|".join(
    (
        rf"(?:(?i:{_PARTS}|{'|'.join(_LINES['accented_in_text'])}|\bsid\b|\bseed\b)|[A-Z0-9]_KEY",
        *(*SCRIPTS, *_LINES["scripts_in_text"]),
        *map(_look_alike, _LINES["spelled_alike"]),
    )
) + ")"  # fmt: skip
"""A pattern found in every name that `held_by` does not say "no" to, and in some others."""
NAME_CLUE = rf"(?i:{'|'.join(_LINES['clues'])})|[\x80-\xff]"
"""A pattern found wherever `NAME_PART` is. It has few states, whatever text it is searched in."""

_name = compiled(
    (
        rf"((?:^|[_|])(?:[a-z]*(?:{_GLUED})|{_WORDS})(?:[_|]|$)|(?:^|[_|])(?:{_LAST})$|^(?:{_ALONE})$)"
        rf"|(?:^|[_|])(?:{_COUNTED})(?:[_|]|$)"
    )
    .replace(" ", "_?")
    .replace("_?_code", "_code")
)
_break = compile_fixed(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[ _.\-0-9]+")
_stars = compile_fixed(r"([*?])")
_other = compile_fixed(r"[^a-z_]")
_variable = compile_fixed(r"[A-Z0-9_]+_KEY")  # of an environment: STRIPE_KEY
_SHORT = 100  # characters of a name that is worth remembering

_added: tuple[str, ...] = ()
_exempt: tuple[str, ...] = ()


def name_part(added: str) -> str:
    """Return `NAME_PART` with the patterns of the names that were `added` by settings."""
    return rf"(?:{NAME_PART}|{added})" if added else NAME_PART


def normal(name: str) -> str:
    """Return `name` as lower-case words between underscores: `apiKey` and `API-KEY` are `api_key`."""
    folded = name if name.isascii() else _unaccented(name)
    words = "_".join(word for word in _break.split(folded) if word).lower()
    return words.strip("_")


def normal_glob(name: str) -> str:
    """Return `normal` of a glob: its `*` and `?` stay."""
    parts = _stars.split(name)
    if len(parts) == 1:
        return normal(name)
    return "".join(
        part
        if part in ("*", "?")
        else f"{'_' * part.startswith('_')}{normal(part)}{'_' * part.endswith('_')}"
        for part in parts
    )


def configure(added: tuple[str, ...], exempt: tuple[str, ...]) -> None:
    """Take over names from settings, in the form that `normal` returns; `exempt` may be globs."""
    global _added, _exempt
    _added, _exempt = added, exempt
    _held_by_short.cache_clear()


def held_by(name: str) -> Held:
    """Return whether a value of this name is a secret."""
    return _held_by_short(name) if len(name) <= _SHORT else _held_by(name)


def _held_by(name: str) -> Held:
    words = normal(name)
    if any(fnmatchcase(words, pattern) for pattern in _exempt):
        return "no"
    if any(f"_{own}_" in f"_{words}_" for own in _added):
        return "any"
    if not words.isascii() and any(script in words.replace("_", " ") for script in _FOLDED):
        return "any"
    letters = _other.sub("|", words)
    found = _name.search(letters.encode())
    if found is None and not name.isascii():
        letters = _other.sub("|", normal(_with_latin_letters(name)))
        found = _name.search(letters.encode())
    if found is None:
        named = _variable.fullmatch(name) is not None
        return "text" if named and _LISTS["no_variable"].isdisjoint(letters.split("_")) else "no"
    parts = letters.replace("|", "_").strip("_").split("_")
    first, last = parts[0], parts[-1]
    if last in _LISTS["about_last"] or first in _LISTS["about_first"] or parts[-2:] == ["key", "id"]:
        return "no"
    if last == "token" and len(parts) > 1 and parts[-2] in _LISTS["no_credential"]:
        return "no"
    return "text" if found.group(1) is None else "any"


_held_by_short = lru_cache(maxsize=4096)(_held_by)
