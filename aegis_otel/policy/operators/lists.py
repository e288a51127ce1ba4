"""Check the list of values of a condition, item by item, so that each problem has its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aegis_otel.policy.messages import Invalid, InvalidItems, shown

MAX_ITEMS = 10_000
_Item = TypeVar("_Item")


def check_items(
    value: object, check: Callable[[object], _Item], what: str, most: int = MAX_ITEMS
) -> list[_Item]:
    """Return the items of `value`, each as `check` returns it; `what` is a list of such items in words.

    Raises:
        Invalid: it is not a list, is empty, or has more than `most` items.
        InvalidItems: `check` refused items of it.
    """
    if not isinstance(value, list):
        is_item = isinstance(value, (str, int, float))
        raise Invalid(f"must be {what}, not {shown(value)}", f"[{value}]" if is_item else None)
    if not value:
        raise Invalid("must not be empty: nothing would be allowed by it")
    if len(value) > most:
        raise Invalid(f"must list at most {most:,} items, not {len(value):,}")
    checked, faults = [], {}
    for number, item in enumerate(value):
        try:
            checked.append(check(item))
        except Invalid as error:
            faults[number] = error
    if faults:
        raise InvalidItems(faults)
    return checked


def texts(longest: int, most: int = MAX_ITEMS) -> dict[str, Any]:
    """Return the JSON Schema of a list of at most `most` texts, each of at most `longest` characters."""
    return items({"type": "string", "minLength": 1, "maxLength": longest}, most)


def items(item: Mapping[str, Any], most: int = MAX_ITEMS) -> dict[str, Any]:
    """Return the JSON Schema of a list of at most `most` items, of which `item` is the schema."""
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}
