"""The files that pages load: their style, their script and their icon."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple


class StaticFile(NamedTuple):
    """A file, and what it is."""

    body: bytes
    type: str


_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FILES = {
    name: StaticFile(files(__package__ or "").joinpath("files", name).read_bytes(), kind)
    for name, kind in _TYPES.items()
}
"""Each file by its name."""
DIGEST = hashlib.sha256(b"".join(each.body for each in FILES.values())).hexdigest()[:16]
"""Stands in their addresses, so that browsers load them anew when they have changed."""
