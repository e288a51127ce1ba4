"""What was made for a tool, kept in the tool itself, so that it goes with it.

It leads back to the tool (an SDK invoker holds its tool), so a table of ours would keep both for ever; a
circle through the tool is the garbage collector's. A copy of the tool carries what is not its own, which
does not count for it, and is not copied deeply, and not pickled.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_numbers = itertools.count()


class Kept(Generic[T]):
    """One thing for each tool."""

    def __init__(self) -> None:
        self._key = f"_aegis_{next(_numbers)}"
        # By id, because tools are compared by value and have no hash.
        self._tools: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def get(self, tool: Any) -> T | None:
        """What is kept for `tool`."""
        note: _Note[T] | None = vars(tool).get(self._key)
        return note.value if note is not None and note.owner() is tool else None

    def put(self, tool: Any, value: T) -> T:
        """Keep `value` for `tool`, in place of what there was."""
        self._tools[id(tool)] = tool
        vars(tool)[self._key] = _Note(weakref.ref(tool), value)
        return value

    def drop(self, tool: Any) -> None:
        """Forget what is kept for `tool`."""
        vars(tool).pop(self._key, None)

    def clear(self) -> None:
        """Leave nothing in any tool."""
        for tool in self._tools.values():
            self.drop(tool)
        self._tools.clear()


class _Note(Generic[T]):
    __slots__ = ("owner", "value")

    def __init__(self, owner: weakref.ref[Any], value: T) -> None:
        self.owner = owner
        self.value = value

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()
