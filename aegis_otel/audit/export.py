"""Rows as a file of JSON lines, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from aegis_otel.audit.location import failure
from aegis_otel.audit.rows import Row, to_json
from aegis_otel.errors import AuditError


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Row]) -> int:
    """Write one row a line to a file that only this user can read; returns how many.

    The file appears, or replaces an older one, only when it is complete.

    Raises:
        AuditError: when it cannot be written.
    """
    target = Path(os.path.realpath(os.fsdecode(path)))
    draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    if target.exists() and not target.is_file():
        raise AuditError(f"cannot export to `{target}`: it is not a regular file")
    try:
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                count = sum(1 for row in rows if file.write(to_json(row) + "\n"))
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
    except AuditError:
        raise
    except OSError as error:
        raise failure("export to", target, error, "choose another place") from error
    return count
