"""A proxy that puts a gate before an object of the user's: a tool's invoker, or a part of a local tool."""

from __future__ import annotations

import copy
from typing import Any

import wrapt


class GateProxy(wrapt.BaseObjectProxy[Any]):
    """Stands before a user's object; what is not governed is read from the object and set on it.

    A copy has the same gate. A gate of the SDK's classes is left out of a pickle, since any tool has one; a
    tool with a gate of its own cannot be pickled.
    """

    _self_gate: Any

    def _self_copy(self, wrapped: Any) -> Any:
        """Return a proxy with the same gate before `wrapped`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Any:
        return self._self_copy(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._self_copy(copy.deepcopy(self.__wrapped__, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self._self_gate.is_on_class:
            raise TypeError("a tool with a gate of its own cannot be pickled: it would come back without")
        return unwrap, (self.__wrapped__,)


def unwrap(thing: Any) -> Any:
    """Return the user's object, whether or not it is behind a gate."""
    return thing.__wrapped__ if isinstance(thing, GateProxy) else thing


def gate_of(thing: Any) -> Any:
    """Return the gate before an object; None where there is none."""
    return thing._self_gate if isinstance(thing, GateProxy) else None
