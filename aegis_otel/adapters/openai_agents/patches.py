"""Attributes set on classes of the SDK, and put back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

_ABSENT = object()


class Patches:
    """What was set, in order, with what was there before."""

    def __init__(self) -> None:
        self._made: list[tuple[type | ModuleType, str, Any, Any]] = []
        self._afterwards: list[Callable[[], None]] = []

    def set(self, owner: type | ModuleType, name: str, value: Any) -> None:
        """Set `owner.name`, and remember what the class itself had there.

        A method stands aside once it was taken back, for whoever has wrapped it meanwhile.
        """
        before = vars(owner).get(name, _ABSENT)
        if isinstance(value, FunctionType) and isinstance(before, FunctionType):
            value = self._while_set(value, before)
        self._made.append((owner, name, value, before))
        setattr(owner, name, value)

    def afterwards(self, call: Callable[[], None]) -> None:
        """Have `call` called once everything was put back."""
        self._afterwards.append(call)

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
        while self._afterwards:
            self._afterwards.pop()()

    def _while_set(self, ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(theirs)
        def either(*args: Any, **kwargs: Any) -> Any:
            return (ours if self._made else theirs)(*args, **kwargs)

        return either
