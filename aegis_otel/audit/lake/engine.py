"""Import DuckDB's engine without the relations in Python above it.

The package `duckdb` re-exports the engine and adds relations. Importing it takes 65 ms of processor time, and
the engine alone 12 ms (DuckDB 2.0.1, with the rest of a command loaded, least of eight). A connection has the
methods of relations, such as `sql()`, only once `duckdb` is imported, as `query.connection.connect` does.
"""

from __future__ import annotations

try:
    import _duckdb as duckdb
except ImportError:  # a DuckDB whose engine has another name
    import duckdb  # type: ignore[no-redef]

__all__ = ["duckdb"]
