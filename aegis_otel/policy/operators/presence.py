"""Judge `param_present`, `param_absent` and `param_only`: which parameters a call has.

What an absent or a null value means, `evaluation/parameter_paths.py` says: the judges are asked only where
there is a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from aegis_otel.policy.messages import Invalid

ANY_TYPE = ("string", "number", "integer", "boolean", "array", "object", "null")
NO_VALUE: Mapping[str, Any] = {"not": {}}


def refuse_value(_value: object) -> NoReturn:
    """Refuse a value for a parameter: there is nothing to compare. Raises Invalid."""
    raise Invalid("is compared with no value: list the parameters")


def is_there(_value: Any, _expected: Any) -> bool:
    """Return that there is a value."""
    return True


def is_listed(name: Any, names: frozenset[str]) -> bool:
    """Return whether a parameter of the call is one of `names`."""
    return name in names
