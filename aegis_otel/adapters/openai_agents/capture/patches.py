"""Set attributes of classes and modules of the SDK, and put them back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import wrapt

_ABSENT = object()


class Patches:
    """The attributes that were set, in order, with what was there before."""

    def __init__(self) -> None:
        self._made: list[tuple[type | ModuleType, str, Any, Any]] = []
        self._on_undo: list[Callable[[], None]] = []

    def set(self, owner: type | ModuleType, name: str, value: Any) -> None:
        """Set `owner.name`, and remember what the class or module itself had there.

        A function calls the original once it was taken back, for whoever has wrapped it meanwhile.
        """
        before = vars(owner).get(name, _ABSENT)
        if isinstance(value, FunctionType) and isinstance(before, FunctionType):
            ours = value

            @functools.wraps(before)
            def value(*args: Any, **kwargs: Any) -> Any:
                return (ours if self._made else before)(*args, **kwargs)

        self._made.append((owner, name, value, before))
        setattr(owner, name, value)

    def wrap(self, owner: type | ModuleType, name: str, wrap: Callable[[Any], Callable[..., Any]]) -> None:
        """Set `owner.name` to what `wrap` returns for the original, under the name of the original."""
        original = getattr(owner, name)
        self.set(owner, name, functools.wraps(original)(wrap(original)))

    def when_imported(self, name: str, patch: Callable[[Any], None]) -> None:
        """Call `patch` with the module of that name: now, or once it is imported, or not at all.

        This is for modules that few programs use and that take long to import.
        """
        waiting = [patch]  # emptied, because a hook cannot be taken back
        self.on_undo(waiting.clear)

        def imported(module: Any) -> None:
            while waiting:
                waiting.pop()(module)

        wrapt.register_post_import_hook(imported, name)

    def on_undo(self, call: Callable[[], None]) -> None:
        """Call `call` once everything was put back."""
        self._on_undo.append(call)

    def undo(self) -> None:
        """Put everything back, last first. What somebody else has replaced since stays."""
        while self._made:
            owner, name, value, before = self._made.pop()
            if vars(owner).get(name) is not value:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        while self._on_undo:
            self._on_undo.pop()()
