"""Ask the audit: rows, statistics, exports and SQL, by DuckDB."""
