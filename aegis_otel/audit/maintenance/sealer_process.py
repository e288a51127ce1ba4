"""Seal one audit and send what is sealed to object storage: a process that `audit.journal.sealer` starts."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import msgspec

from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.maintenance.remote_copy import push
from aegis_otel.errors import AegisError


def main() -> None:
    """Seal the directory of the arguments; write its seals to stdout and what was wrong to stderr."""
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
    for problem in report.problems:
        sys.stderr.write(f"{problem}\n")
    try:
        problems = push(directory, address)
    except AegisError as error:
        problems = [str(error)]  # the seals are made and told; what was not sent is sent next time
    for problem in problems:
        sys.stderr.write(f"{problem}\n")


if __name__ == "__main__":
    main()
