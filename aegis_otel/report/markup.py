"""HTML made of elements. Every text is escaped where it enters, so no value of an agent becomes markup."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aegis_otel.redaction.terminal import escape

LONGEST = 120
"""Characters of one value that are shown; what is cut says how long it was."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Markup(str):
    """Text that is HTML already: made here, and of literals, never of a value."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | int | float | bool) -> Markup:
    """One element. Children that are no Markup are text; of an attribute's name `_` stands for `-`."""
    stated = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for name, value in attributes.items()
        if value is not False
    )
    return Markup(f"<{tag}{stated}>{join(children)}</{tag}>")


def empty(tag: str, **attributes: str | int | float | bool) -> Markup:
    """An element that has no content and no end tag."""
    return Markup(element(tag, **attributes).removesuffix(f"</{tag}>"))


def join(parts: Sequence[str], between: str = "") -> Markup:
    return Markup(between.join(part if isinstance(part, Markup) else text(part) for part in parts))


def text(value: str) -> Markup:
    """A text as content or attribute: on one line, and what a reader would not see is a visible escape."""
    return Markup(html.escape(escape(value)))


def value(found: str | None, longest: int = LONGEST) -> Markup:
    """A value of the audit, cut, and apart from its surroundings in whatever direction it is written."""
    if found is None or found == "":
        return element("span", "\N{EN DASH}", class_="none")
    if len(found) > longest:
        cut = element("span", f"\N{HORIZONTAL ELLIPSIS} ({len(found):,} characters)", class_="none")
        return element("bdi", _breaking(found[:longest]), cut)
    return element("bdi", _breaking(found))


def _breaking(found: str) -> Markup:
    """A narrow column breaks a name between its words, and only then anywhere."""
    return Markup(text(found).replace("_", "_<wbr>"))


def number(count: int) -> str:
    return f"{count:,}"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 call`, `2 calls`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def seconds(time: float | None) -> str:
    """A duration for people."""
    if time is None:
        return "\N{EN DASH}"
    if time < 1:
        return f"{time * 1000:.0f} ms"
    if time < 120:
        return f"{time:.3g} s"
    return f"{time / 60:.3g} min" if time < 7200 else f"{time / 3600:,.3g} h"


def moment(micros: int | None) -> str:
    """A time in UTC, of microseconds since 1970; one that no calendar has is said to be none."""
    if micros is None:
        return "\N{EN DASH}"
    try:
        return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return "no time of this calendar"
