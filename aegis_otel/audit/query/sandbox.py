"""Run SQL of other people, which may read the audit and do nothing else.

It runs in a process of its own, so that it can be stopped at any moment: DuckDB alone is bounded neither in
memory nor in time while it is inside of one function, such as `repeat('x', 4000000000)`. In that process

- the text is an argument of DuckDB's `query()`, which takes one SELECT and refuses every change, also inside
  of WITH (where a COPY has the statement type SELECT);
- the transaction is read only, the configuration is locked, and only the audit's own files can be opened;
- the operating system bounds memory and processor time.

The process writes lines of JSON: what could not be read, the names of the columns, then a list for each row.
A line is bounded too, because the caller reads it whole.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.journal import child_process
from aegis_otel.audit.lake.fold import literal
from aegis_otel.audit.location import JOURNAL, LAKE, MIRROR, SEALS
from aegis_otel.audit.query.filters import RISK_LEVELS, STATUSES
from aegis_otel.audit.query.views import VIEWS
from aegis_otel.audit.record import COLUMNS
from aegis_otel.errors import AuditError, ConfigError

if TYPE_CHECKING:
    import duckdb

TIMEOUT = 60.0
MEMORY_MB = 1_000
_OVERHEAD_MB = 1_000
"""What a process may have beside DuckDB's buffers, such as the values of one function."""
_BATCH = 1_000
_PACKAGES = ("msgspec", "duckdb", "_duckdb", "pytz", "typing_extensions")
ROW_MB = 16
"""The most that a row of an answer may have as JSON."""
_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist")
_COLUMN = re.compile(
    r'Referenced column "(?P<name>.+?)" (?:not found|was not found)|column "?(?P<other>[^" ]+)"? '
)
_TEXT = re.compile(r"'((?:[^']|'')*)'")


class Answer(NamedTuple):
    columns: list[str]
    rows: Generator[list[Any]]
    """Plain JSON values, in the order of the columns."""
    problems: list[str]
    """What of the audit could not be read, and is not in the answer."""


def select(directory: Path, sql: str, *, timeout: float = TIMEOUT, mirrors: bool = False) -> Answer:
    """Run one SELECT over the views of an audit.

    Args:
        directory: The audit's.
        sql: A SELECT, WITH, FROM, DESCRIBE, SUMMARIZE or SHOW.
        timeout: Seconds that it may take, its rows included; what the caller does with them does not count.
        mirrors: See `audit.query.connection.open_view`.

    Raises:
        ConfigError: it is no such statement, or names what is not there or may not be read.
        AuditError: the audit cannot be read, or the query took too long or too much memory; also while the
            rows are read.
    """
    lines = _run({"directory": str(directory), "sql": sql, "mirrors": mirrors}, timeout)
    problems = next(lines)
    return Answer(next(lines), lines, problems)


def select_parquet(
    directory: Path, sql: str, draft: Path, *, timeout: float = TIMEOUT, mirrors: bool = False
) -> tuple[int, list[str]]:
    """Write the answer that `select` gives into the Parquet file `draft`, which must exist.

    Returns:
        The number of rows, and what of the audit could not be read.
    """
    order = {"directory": str(directory), "sql": sql, "draft": str(draft), "mirrors": mirrors}
    problems, count = _run(order, timeout)
    return int(count), problems


def hinted(wrong: str, sql: str) -> str:
    """Return the error of a query, with what helps to correct it."""
    if _TABLE.search(wrong):
        names = ", ".join(f"`{name}`" for name in ("audit", *(view.name for view in VIEWS)))
        return f"{wrong}; the views are {names}"
    if (found := _COLUMN.search(wrong)) is None:
        return wrong
    name = found["name"] or found["other"]
    sentences = [wrong]
    if f'"{name}"' in sql:
        sentences.append(f"text is written in single quotes, as '{name}': double quotes are for names")
        sentences += _spelling(name)
    names = ", ".join(f"`{column.name}`" for column in COLUMNS)
    return "; ".join([*sentences, f"the columns of `audit` are {names}"])


def spellings(sql: str) -> list[str]:
    """Return how texts of a query that no row can have are spelled in the audit."""
    texts = {text.lower(): text for text in _TEXT.findall(sql)}.values()
    return list(dict.fromkeys(sentence for text in texts for sentence in _spelling(text)))


def _spelling(text: str) -> Iterator[str]:
    if text.upper() in RISK_LEVELS and text not in RISK_LEVELS:
        yield f"risk levels are in capitals: {', '.join(RISK_LEVELS)}"
    if text.lower() in STATUSES and text not in STATUSES:
        yield f"results are in small letters: {', '.join(STATUSES)}"


def _run(order: dict[str, Any], timeout: float) -> Generator[Any]:
    """Yield what the other process writes, line by line, until it says that it is done."""
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 - our own module, by this very interpreter
        child_process.command(__name__, packages=_PACKAGES),
        env=child_process.environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # then it is gone, as its output will show
                process.stdin.write(json.dumps(order | {"timeout": timeout}).encode())
                process.stdin.close()
            for line in _lines(process.stdout.fileno(), timeout):
                answer = json.loads(line)
                if not isinstance(answer, dict):
                    yield answer
                elif "wrong" in answer:
                    raise ConfigError(answer["wrong"])
                elif "failed" in answer:
                    raise AuditError(answer["failed"])
                else:
                    return
        finally:
            process.kill()
    raise AuditError("the query was stopped: it needs more memory or processor time than it may use")


def _lines(descriptor: int, timeout: float) -> Iterator[bytes]:
    """Yield the lines of a pipe, each at most `ROW_MB` long; only the time spent waiting for them counts."""
    buffer, searched, left = bytearray(), 0, timeout
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            begun = time.monotonic()
            ready = selector.select(left)
            chunk = os.read(descriptor, 1 << 20) if ready else b""
            buffer += chunk
            end = buffer.rfind(b"\n", searched) + 1
            left -= time.monotonic() - begun
            if not ready or left <= 0:
                raise AuditError(
                    f"the query took longer than {timeout:g} s and was stopped: narrow it or give it more"
                )
            if not chunk:
                return
            if end:
                yield from bytes(buffer[:end]).splitlines()
                del buffer[:end]
            searched = len(buffer)
            if searched > ROW_MB << 20:
                raise AuditError(
                    f"a row of the answer has more than the {ROW_MB} MB that it may have: select less of it, "
                    "such as `left(action_params::VARCHAR, 1000)`, or write the answer to Parquet with "
                    "--output FILE.parquet"
                )


# --- in the process of its own ---


def _main() -> None:
    order = json.load(sys.stdin)
    _bound(order["timeout"])

    from aegis_otel.audit.lake.engine import duckdb  # noqa: PLC0415 - not to be loaded with this module
    from aegis_otel.audit.query.connection import left_out  # noqa: PLC0415
    from aegis_otel.audit.query.rows import unreadable  # noqa: PLC0415

    try:
        draft, directory = order.get("draft"), Path(order["directory"])
        try:
            audit = locked(directory, draft, mirrors=order["mirrors"])
            _say(left_out(audit, directory))
        except duckdb.Error as error:  # of the audit, not of the query
            raise unreadable(error) from error
        asked = only_read(order["sql"])
        if draft:
            form = "(FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
            ((count,),) = audit.execute(f"COPY ({asked}) TO {literal(draft)} {form}").fetchall()
            _say(count)
        else:
            _send(audit, asked)
        _say({})
    except duckdb.OutOfMemoryException:
        _say({"failed": f"the query needs more than the {MEMORY_MB} MB of memory that it may use"})
    except (
        *(duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.PermissionException),
        duckdb.DataError,  # such as a text in it that is no time
    ) as error:
        _say({"wrong": hinted(_wording(error), order["sql"])})
    except AuditError as error:
        _say({"failed": str(error)})
    except Exception as error:
        _say({"failed": _wording(error)})


def _bound(timeout: float) -> None:
    import resource  # noqa: PLC0415 - not on every system, and only of use in here

    memory = (MEMORY_MB + _OVERHEAD_MB) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # Nobody else would stop it if the caller were gone.
    seconds = int(timeout * (os.cpu_count() or 1)) + 10
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def only_read(sql: str) -> str:
    """Return `sql` as a statement that is refused unless it is one SELECT that changes nothing."""
    # A literal and no parameter, which the text could read.
    return f"FROM query({literal(sql)})"


def locked(directory: Path, draft: str | None = None, *, mirrors: bool = False) -> duckdb.DuckDBPyConnection:
    """Return the audit's views on a connection that opens no file but the audit's, and `draft`."""
    from aegis_otel.audit.query.connection import open_view  # noqa: PLC0415
    from aegis_otel.audit.query.views import create_views  # noqa: PLC0415

    audit = open_view(directory, mirrors=mirrors)
    create_views(audit, directory, mirrors=mirrors)
    # The views name files by patterns, and what may be opened is compared with both.
    names = {str(directory), glob.escape(str(directory))}
    # Not the audit's own folder: its key is there. And only folders that were checked: DuckDB allows what is
    # behind a link, and `mirror` may be one where no mirror is asked for.
    parts = (JOURNAL, LAKE, *([MIRROR] if mirrors else []))
    folders = [f"{name}/{part}/" for name in names for part in parts]
    seals = [f"{name}/{file}" for name in names for file in (SEALS, SEALS.replace("l", "[l]"))]
    for name, value in {
        "allowed_directories": f"[{', '.join(map(literal, folders))}]",
        "allowed_paths": f"[{', '.join(map(literal, ['/dev/null', *seals, *([draft] if draft else [])]))}]",
        "temp_directory": "''",
        "memory_limit": f"'{MEMORY_MB}MB'",
        "enable_external_access": False,
        "lock_configuration": True,
    }.items():
        audit.execute(f"SET {name} = {value}")
    audit.execute("BEGIN TRANSACTION READ ONLY")
    return audit


def _send(audit: duckdb.DuckDBPyConnection, sql: str) -> None:
    answer = audit.execute(sql)
    types = [(str(column[1]), column[0]) for column in answer.description]
    _say([name for _, name in types])
    while batch := answer.fetchmany(_BATCH):
        for row in batch:
            _say([_plain(value, sql_type) for value, (sql_type, _) in zip(row, types, strict=True)])


def _plain(value: Any, sql_type: str = "") -> Any:
    """Return a value as JSON has it: numbers and truth as they are, everything else as readable text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if sql_type == "JSON":
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return str(value)


def _wording(error: Exception) -> str:
    """Return DuckDB's first line, which says what is wrong, without the kind of error before it."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    if "Expected a single SELECT" in first:
        return "the statement is not one SELECT: only reading is possible here"
    return first.partition("Error: ")[2] or first


def _say(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    _main()
