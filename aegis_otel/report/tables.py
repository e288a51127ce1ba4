"""Tables that say what they are, how many rows are not shown, and that stay readable on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aegis_otel.report.markup import Markup, element, join, number, plural, value

Cell = str | int | None
"""A value of the audit, which is cut and escaped; a count; or Markup, which is neither."""


_WHOLE = 12
"""Tables of so few rows are not divided by the end of a sheet."""


class Column(NamedTuple):
    title: str
    style: str = ""
    """`number` is set right; `wide` takes the room of a line on a narrow screen."""


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    total: int | None = None,
    what: str = "row",
    none: str = "None.",
) -> Markup:
    """A table; the first cell of a row names the row.

    Args:
        caption: What it is of; a heading for those who only hear the page.
        total: How many rows there are, where these are not all.
        what: What a row is, for the sentence about those that are not shown.
        none: Said in place of a table without rows.
    """
    if not rows:
        return element("p", element("strong", f"{caption}: "), none, class_="empty")
    head = element("tr", *(_head(column) for column in columns), role="row")
    body = [
        element("tr", *(_cell(*each) for each in zip(columns, row, range(len(row)), strict=True)), role="row")
        for row in rows
    ]
    made = element(
        "table",
        element("caption", caption),
        element("thead", head, role="rowgroup"),
        element("tbody", join(body, "\n"), role="rowgroup"),
        role="table",
        class_="whole" if len(rows) <= _WHOLE else False,
    )
    more = 0 if total is None else total - len(rows)
    if more <= 0:
        return made
    return join((made, element("p", f"And {plural(more, f'more {what}', f'more {what}s')}.", class_="more")))


def _head(column: Column) -> Markup:
    return element("th", column.title, scope="col", role="columnheader", class_=column.style or False)


def _cell(column: Column, cell: Cell, index: int) -> Markup:
    # The roles are those that the elements have anyway, and would lose when a narrow screen stacks them.
    content = cell if isinstance(cell, Markup) else number(cell) if isinstance(cell, int) else value(cell)
    style = f"{column.style} zero".strip() if cell == 0 else column.style
    if index == 0:
        return element("th", content, scope="row", role="rowheader", class_=style or False)
    return element("td", content, role="cell", data_label=column.title, class_=style or False)
