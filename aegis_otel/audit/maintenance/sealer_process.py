"""Seal an audit and send what is sealed, in the process that `audit.journal.seal_trigger` starts."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import msgspec

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.maintenance.upload import push
from aegis_otel.errors import AegisError


def main() -> None:
    """Seal and send the audit that the arguments name; write the seals to stdout and problems to stderr."""
    directory = Path(sys.argv[1])
    address = sys.argv[2] if len(sys.argv) > 2 else None
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        report = seal(directory)
    except AegisError as error:
        sys.exit(str(error))
    for each in report.seals:
        sys.stdout.write(msgspec.json.encode(each).decode() + "\n")
    sys.stderr.writelines(f"{problem}\n" for problem in report.problems)
    try:
        problems = push(directory, address)
    except AegisError as error:
        problems = [str(error)]  # what was not sent is sent next time
    sys.stderr.writelines(f"{problem}\n" for problem in problems)


if __name__ == "__main__":
    main()
