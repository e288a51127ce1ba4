"""Write rows to files for other programs. A file appears, or replaces an older one, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aegis_otel.audit import files
from aegis_otel.audit.lake.fold import literal
from aegis_otel.audit.location import audit_errors
from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row, to_json
from aegis_otel.errors import AuditError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb


_FORMULA = re.compile(
    r"""(?P<before>(?:^|[;|]|\\[tnr]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})[\s"']*)"""
    r"(?P<sign>[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212])"
)
"""Where a spreadsheet sees a formula: at the beginning of a cell, also after blanks and quotes, in the forms
that programs for Chinese and Japanese take for the same signs, and after what divides cells elsewhere (`;`
where the comma is for decimals) or was a control character and is now its escape."""


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Row]) -> int:
    """Write one row a line to a file that only this user can read, and return how many.

    Raises:
        AuditError: the file cannot be written.
    """
    return write_file(path, lambda file: json_lines(file, rows))


def write_file(path: str | os.PathLike[str], write: Callable[[TextIO], int]) -> int:
    """Write a text file that only this user can read, and return what `write` returns.

    Raises:
        AuditError: the file cannot be written.
    """
    with whole_file(path) as draft:
        file = TextIOWrapper(draft.file, encoding="utf-8", newline="")
        count = write(file)
        file.detach()  # which flushes it, and leaves the draft open to be synced
        return count


def write_parquet(
    path: str | os.PathLike[str], audit: duckdb.DuckDBPyConnection, condition: Condition, limit: int | None
) -> int:
    """Write the rows that match, oldest first, as Parquet, and return how many.

    Raises:
        AuditError: the audit cannot be read, or the file cannot be written.
    """
    from aegis_otel.audit.lake.engine import duckdb  # noqa: PLC0415 - not to be loaded with this module

    newest = "" if limit is None else f" LIMIT {limit:d}"
    with parquet_draft(path) as draft:
        # Our own file, already there with its mode: DuckDB's temporary one would be open to others.
        sql = f"""
            COPY (
                SELECT * REPLACE (action_params::VARCHAR AS action_params)
                FROM (SELECT * FROM audit WHERE {condition.sql} ORDER BY "timestamp" DESC{newest})
                ORDER BY "timestamp", decision_id
            ) TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"""  # noqa: S608
        try:
            ((count,),) = audit.execute(sql, condition.values).fetchall()
        except duckdb.Error as error:
            raise AuditError(f"cannot export the audit: {error}") from error
    return int(count)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[files.Draft]:
    """Yield an empty draft beside `path`, of mode 0600, that takes its place when the block ends well.

    Raises:
        AuditError: the draft cannot be made or written, or something else than a file is at `path`.
    """
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.exists() and not target.is_file():
        raise AuditError(f"cannot export to `{target}`: it is not a regular file")
    with (
        audit_errors("export to", target, "choose another place"),
        files.replaced(target.parent, target.name) as draft,
    ):
        yield draft


@contextmanager
def parquet_draft(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the draft of `whole_file`, for DuckDB to write to.

    Raises:
        AuditError: as for `whole_file`, and for a name that DuckDB cannot have.
    """
    with whole_file(path) as draft:
        # It takes a backslash for a separator and has no way to escape one; its text is UTF-8.
        if re.search(r"[\\\ud800-\udfff]", str(draft.path)):
            raise AuditError(
                f"cannot export to {str(draft.path.parent)!r}: DuckDB cannot write below a name with a "
                "backslash or with bytes that are not UTF-8; choose another place"
            )
        yield draft.path


def json_lines(file: TextIO, rows: Iterable[Row]) -> int:
    """Write one row a line, and return how many."""
    return sum(1 for row in rows if file.write(to_json(row) + "\n"))


def json_array(file: TextIO, rows: Iterable[Row]) -> int:
    """Write the rows as one JSON array, one row a line, and return how many."""
    count = 0
    for count, row in enumerate(rows, 1):
        file.write(("[\n" if count == 1 else ",\n") + to_json(row))
    file.write("\n]\n" if count else "[]\n")
    return count


def csv_table(file: TextIO, rows: Iterable[Row], columns: Sequence[str]) -> int:
    """Write comma-separated values with a header, and return how many rows.

    Control characters are escaped, so that a row is a line, and an apostrophe stands before each sign that
    begins what a spreadsheet would run as a formula. The other formats have every value as it is.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    return sum(1 for row in rows if writer.writerow([_cell(row[column]) for column in columns]))


FORMATS: dict[str, Callable[[TextIO, Iterable[Row], Sequence[str]], int] | None] = {
    "json": lambda file, rows, _: json_array(file, rows),
    "jsonl": lambda file, rows, _: json_lines(file, rows),
    "csv": csv_table,
    "parquet": None,
}
"""The formats of exports, each with the function that writes rows to a text file and returns how many.
DuckDB writes Parquet: see `write_parquet`."""


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = escape(value if isinstance(value, str) else json.dumps(value))
    return _FORMULA.sub(r"\g<before>'\g<sign>", text)
