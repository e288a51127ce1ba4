"""Limit the work of one redaction: a value with more in it that may be a secret is hidden as a whole.

The time is linear in the length of a text, but a place that may hold a secret costs a thousand times what
another byte does, and whoever writes the arguments can write nothing but such places.
"""

from __future__ import annotations

import threading

MOST = 1_000_000
"""What one redaction may spend, in units of some 5 us: so it takes a few seconds at most."""
NAME = 1
"""The cost of a word that contains the name of a secret, such as `author`."""
PLACE = 4
"""The cost of the name of a secret, of a match of a pattern, and of a value that is hidden."""
TEXT = 12
"""The cost of a text of a structure in which one of the patterns may match."""


class TooMuchError(Exception):
    """There is more that may be a secret than one redaction works through."""


class _Work(threading.local):
    left = MOST


_work = _Work()


def begin() -> None:
    """Begin a redaction in this thread."""
    _work.left = MOST


def spend(units: int = PLACE) -> None:
    """Count what is worked through.

    Raises:
        TooMuchError: it is too much, so that the whole has to be hidden.
    """
    _work.left -= units
    if _work.left < 0:
        raise TooMuchError
