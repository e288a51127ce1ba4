"""Set attributes of classes and modules of the SDK, and put them back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

_ABSENT = object()


class Patches:
    """The attributes that were set, in order, with what was there before."""

    def __init__(self) -> None:
        self._made: list[tuple[type | ModuleType, str, Any, Any]] = []
        self._on_undo: list[Callable[[], None]] = []

    def set(self, owner: type | ModuleType, name: str, value: Any) -> None:
        """Set `owner.name`, and remember what the class or module itself had there."""
        self._made.append((owner, name, value, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def wrap(self, owner: type | ModuleType, name: str, wrapper: Callable[..., Any]) -> None:
        """Have `wrapper` called in place of a function, with the function and then with its arguments.

        Once it was taken back, whoever has wrapped it meanwhile calls the function itself.
        """
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return wrapper(original, *args, **kwargs) if self._made else original(*args, **kwargs)

        self.set(owner, name, wrapped)

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
