"""Attributes set on classes of the SDK, and put back as they were."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """What was set, in order, with what was there before."""

    def __init__(self) -> None:
        self._made: list[tuple[type, str, Any, Any]] = []

    def set(self, owner: type, name: str, value: Any) -> None:
        """Set `owner.name`, and remember what the class itself had there."""
        self._made.append((owner, name, value, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back, last first. What somebody else has replaced since is left to them."""
        while self._made:
            owner, name, value, before = self._made.pop()
            if vars(owner).get(name) is not value:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
