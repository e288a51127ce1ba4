"""A cache with one value for each tool, kept in the tool itself, so that it is freed with the tool.

The value refers back to the tool (an SDK invoker holds its tool), so a table outside of the tool would keep
both for ever; a cycle through the tool is collected. The value in a copy of the tool does not count for the
copy. It is not copied deeply, and not pickled.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_numbers = itertools.count()


class PerToolCache(Generic[T]):
    """One value for each tool."""

    def __init__(self) -> None:
        self._key = f"_aegis_{next(_numbers)}"
        # By id, because tools are compared by value and have no hash.
        self._tools: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def get(self, tool: Any) -> T | None:
        """Return the value for `tool`, if there is one."""
        entry: _Entry[T] | None = vars(tool).get(self._key)
        return entry.value if entry is not None and entry.owner() is tool else None

    def put(self, tool: Any, value: T) -> T:
        """Keep `value` for `tool`, and return it."""
        self._tools[id(tool)] = tool
        vars(tool)[self._key] = _Entry(weakref.ref(tool), value)
        return value

    def drop(self, tool: Any) -> None:
        """Remove the value for `tool`."""
        vars(tool).pop(self._key, None)

    def clear(self) -> None:
        """Remove the values of all tools."""
        for tool in self._tools.values():
            self.drop(tool)
        self._tools.clear()


class _Entry(Generic[T]):
    __slots__ = ("owner", "value")

    def __init__(self, owner: weakref.ref[Any], value: T) -> None:
        self.owner = owner
        self.value = value

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()
