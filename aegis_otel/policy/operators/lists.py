"""Check the list of values of a condition, item by item, so that each problem has its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis_otel.policy.messages import Invalid, InvalidItems, shown


def check_items(value: object, check: Callable[[object], str], what: str) -> list[str]:
    """Return the items of `value`, each as `check` returns it; `what` is a list of such items in words.

    Raises:
        Invalid: it is not a list, or empty.
        InvalidItems: `check` refused items of it.
    """
    if not isinstance(value, list):
        raise Invalid(f"must be {what}, not {shown(value)}", f"[{value}]" if isinstance(value, str) else None)
    if not value:
        raise Invalid("must not be empty: nothing would be allowed by it")
    checked, faults = [], {}
    for number, item in enumerate(value):
        try:
            checked.append(check(item))
        except Invalid as error:
            faults[number] = error
    if faults:
        raise InvalidItems(faults)
    return checked


def texts(longest: int) -> dict[str, Any]:
    """Return the JSON Schema of a list of texts, each of at most `longest` characters."""
    item = {"type": "string", "minLength": 1, "maxLength": longest}
    return {"type": "array", "items": item, "minItems": 1}
