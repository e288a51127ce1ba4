"""The columns of the audit's table."""

from __future__ import annotations

from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION


def test_a_column_is_added_behind_all_others() -> None:
    """The digest of a sealed row has the place of each column: in the middle, older seals would not hold."""
    versions = [column.since for column in COLUMNS]
    assert versions == sorted(versions)
    assert versions[-1] == SCHEMA_VERSION
