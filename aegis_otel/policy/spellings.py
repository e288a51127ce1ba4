"""Find names of parameters that could be read as one: by a server that folds case, or by an eye.

Names are compared as skeletons: compatibility forms, case, separators, accents, invisible characters and
the letters that look alike in common fonts make no difference.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_LONGEST_KEPT = 64
# Cyrillic, Greek, Armenian and other small letters, after case folding, with the Latin ones they look like.
_LOOK_ALIKE = dict(
    zip(
        "аᴀɑαевьсԁɗеһнɡіıɩιјкκԛӏⅼмոпητорοσρԗгѕтցυսνѵвωшхχуүγᴢʐ1|i0",  # noqa: RUF001
        "aaaaebbcddehhgiiiijkkqllmnnntopoopprstguuvvbwwxxyyyzzlllo",
        strict=True,
    )
)
_TABLE = str.maketrans(_LOOK_ALIKE)


def skeleton(name: str) -> str:
    """Return what is left of `name` when everything that is easily mistaken is taken away."""
    return _kept(name) if len(name) <= _LONGEST_KEPT else _skeleton(name)


def _skeleton(name: str) -> str:
    if not name.isascii():
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
        # Letters, digits and ASCII stay; accents, format characters and variation selectors go.
        name = "".join(each for each in folded if each.isascii() or unicodedata.category(each)[0] in "LNS")
    name = name.lower().translate(_TABLE)
    for separator in "_- \t\n\r\x00":
        name = name.replace(separator, "")
    return name.replace("i", "l").replace("rn", "m").replace("vv", "w")


_kept = lru_cache(maxsize=4096)(_skeleton)
