"""DuckDB's engine, without the relations in Python above it.

The package `duckdb` re-exports the engine and adds relations, whose import takes four times as long. A
connection has the methods of relations, such as `sql()`, only once `duckdb` is imported:
`audit.query.connection.connect` does that.
"""

from __future__ import annotations

try:
    import _duckdb as duckdb
except ImportError:  # a DuckDB whose engine has another name
    import duckdb  # type: ignore[no-redef]

__all__ = ["duckdb"]
