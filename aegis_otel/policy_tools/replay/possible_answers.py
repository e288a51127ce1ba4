"""The answers that a condition may have had, where the audit does not have everything of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Answers = frozenset[bool | None]
"""The answers that a test may have had: true, false, or unknown (None)."""
TRUE, FALSE, UNKNOWN = (frozenset[bool | None]([each]) for each in (True, False, None))
ANY = frozenset[bool | None]([True, False, None])
_ORDER: Mapping[bool | None, int] = {False: 0, None: 1, True: 2}


def all_of(sets: Iterable[Answers]) -> Answers:
    """Return the answers that a set of conditions may have: the least of those of its members."""
    return _combined(sets, TRUE, min, last=FALSE)


def one_of(sets: Iterable[Answers]) -> Answers:
    """Return the answers that `any` may have: the most of those of its members."""
    return _combined(sets, FALSE, max, last=TRUE)


def _combined(sets: Iterable[Answers], found: Answers, choose: Callable[..., Any], last: Answers) -> Answers:
    """Return what `choose` can make of `found` and one answer of each set; after `last` no set changes it.

    A set that is what `found` begins as changes nothing.
    """
    nothing = found
    for answers in sets:
        if answers == nothing:
            continue
        found = frozenset(choose(one, other, key=_ORDER.__getitem__) for one in found for other in answers)
        if found == last:
            break
    return found
