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
        return _restore, (self.__wrapped__,)


def unwrap(thing: Any, kind: type[GateProxy]) -> Any:
    """Return the user's object, whether or not it is behind a gate of this kind.

    The kind matters: a function tool's invoker may be a part of a local tool, and the other way round. Each
    then keeps the gate of its own tool, within the gate of the tool that it is given to.
    """
    return thing.__wrapped__ if isinstance(thing, kind) else thing


def gate_of(thing: Any, kind: type[GateProxy]) -> Any:
    """Return the gate of this kind before an object; None where there is none."""
    return thing._self_gate if isinstance(thing, kind) else None


def _restore(thing: Any) -> Any:
    return thing
