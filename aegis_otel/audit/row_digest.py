"""Digests of sealed rows: a merge of segments writes rows into a new file, and they stay recognizable there.

A row keeps the number of the segment that it was first sealed in, and the seal of that segment has a digest
of all such rows. docs/design.md, "The audit lake", has the definition, so that anybody can compute it.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegis_otel.audit.fold import quoted
from aegis_otel.audit.record import COLUMNS, Column

OUTCOME = ("result_status", "result_error", "error_type", "duration_s")
"""The columns in which a row that was sealed with an unknown outcome may change afterwards."""
BEFORE = OUTCOME[1:]
"""Those of which a seal that changes them says what they were: the status was `unknown`."""


def row_digest(values: Mapping[str, str] = {}) -> str:
    """An SQL expression for the digest of a row.

    It is of the columns that are not null, so a column that is added later changes no digest.

    Args:
        values: Expressions to take for some columns in place of what the row has.
    """
    parts = (_part(n, each, values.get(each.name, quoted(each.name))) for n, each in enumerate(COLUMNS))
    return f"sha256(concat({', '.join(parts)}))"


def digest_of(rows: str) -> str:
    """An SQL aggregate for the digest of rows, in whatever order they come: that of their sorted digests.

    Args:
        rows: The expression that has the digest of each row.
    """
    return f"sha256(coalesce(string_agg({rows}, '' ORDER BY {rows}), ''))"


def _part(number: int, column: Column, value: str) -> str:
    """A column's place, the length of its value, and the value: nothing else can be read as the same text."""
    if column.sql_type == "TIMESTAMPTZ":
        text = f"epoch_us({value})::VARCHAR"
    elif column.sql_type == "DOUBLE":
        text = f"({value})::DOUBLE::BIT::VARCHAR"  # its bits: how a number is spelled may change
    else:
        text = value if column.sql_type == "VARCHAR" else f"({value})::VARCHAR"
    return f"'{number}=' || strlen({text}) || ':' || {text}"
