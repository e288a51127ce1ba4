"""What an object is made of, read without running its code.

Everything goes through the interpreter's own descriptors on `type` and `object`: an argument's properties,
`__getattribute__`, `__repr__` or metaclass could raise, lie, consume or leak, and none of them is asked.
"""

from __future__ import annotations

import hashlib
import types
from typing import Any

MAX_REPR = 1_000
"""Characters of a repr that are kept; beyond them its hash is."""
_SHOWN = frozenset(
    (
        *("pydantic_core._pydantic_core.Url", "pydantic_core._pydantic_core.MultiHostUrl"),
        *("numpy.datetime64", "numpy.timedelta64"),
    )
)
"""Types in C that hold no other objects, so that their own repr runs no code and is all of them."""

_MRO = type.__dict__["__mro__"]
_CLASS_DICT = type.__dict__["__dict__"]
_MODULE = type.__dict__["__module__"]
_QUALNAME = type.__dict__["__qualname__"]
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def bases(kind: type) -> tuple[type, ...]:
    """The classes of `kind` in method resolution order."""
    found: tuple[type, ...] = _MRO.__get__(kind)
    return found


def class_attribute(kind: type, name: str) -> Any:
    """What the body of a class of `kind`, the nearest first, assigned to `name`; None where none did."""
    return next((own[name] for base in bases(kind) if name in (own := _CLASS_DICT.__get__(base))), None)


def instance_dict(value: object) -> dict[Any, Any]:
    """The instance dict itself; an empty one where there is none, or its class hides it."""
    for base in bases(type(value)):
        member = _CLASS_DICT.__get__(base).get("__dict__")
        if type(member) in _DESCRIPTORS:
            found = member.__get__(value)
            return found if type(found) is dict else {}
    return {}


def fields(value: object, slotted: tuple[type, ...]) -> dict[Any, Any]:
    """What the instance holds: the slots that classes in `slotted` declare, and the instance dict."""
    held: dict[Any, Any] = {}
    for base in slotted:
        own = _CLASS_DICT.__get__(base)
        if "__slots__" not in own:  # built-in types have members too, down to the interpreter's frames
            continue
        for name, member in own.items():
            private = name.startswith("__") and name != "__pydantic_extra__"  # the undeclared fields
            if type(member) is types.MemberDescriptorType and not private:
                try:
                    held[name] = member.__get__(value)
                except AttributeError:  # never set
                    continue
    return held | instance_dict(value)


def type_name(kind: type) -> str:
    """`module.qualname`."""
    return _dotted(_MODULE.__get__(kind), _QUALNAME.__get__(kind))


def place_of(value: Any) -> str:
    """Where a class, module, function or method is found; `?` for a part that is not told."""
    if isinstance(value, type):
        return type_name(value)
    if isinstance(value, types.ModuleType):
        name = instance_dict(value).get("__name__")
        return printable(name) if type(name) is str else "?"
    if type(value) is types.MethodType:
        value = value.__func__
    if type(value) in _FUNCTIONS:
        return _dotted(value.__module__, value.__qualname__)
    return type_name(type(value))


def content(value: Any) -> dict[str, Any]:
    """What a type without fields tells: its repr if that is known to run no code, its buffer's hash."""
    kind = type(value)
    told: dict[str, Any] = {}
    show = _CLASS_DICT.__get__(kind).get("__repr__")
    if type(show) is types.WrapperDescriptorType and type_name(kind) in _SHOWN:
        shown = printable(show(value))
        told["repr"] = shown[:MAX_REPR]
        if len(shown) > MAX_REPR:
            told["repr_sha256"] = hashlib.sha256(shown.encode()).hexdigest()
    try:
        with memoryview(value) as view:
            if "O" in view.format:  # references, of which the bytes are addresses
                return told
            data = view.tobytes()
            told |= {"format": view.format, "shape": list(view.shape or ())}
    except (TypeError, ValueError, BufferError):
        return told
    return {**told, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def printable(text: str) -> str:
    """`text` with lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _dotted(module: object, name: object) -> str:
    return printable(f"{module if type(module) is str else '?'}.{name if type(name) is str else '?'}")
