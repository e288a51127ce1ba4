"""The sealer: a short process that seals what is complete, started by a journal now and then.

Sealing is DuckDB's work, and DuckDB has no place in an agent: importing it holds up the event loop, and its
threads do not survive a fork. The process inherits the import path and nothing else: no descriptor, no
secret of the environment but those of object storage where that is used, no `sitecustomize` that would
instrument it. If it fails, that is logged once, and
the journal stays as it is: a record never depends on its being sealed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from aegis_otel.audit.location import address_of
from aegis_otel.audit.seals import Seal
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AegisError

_log = logging.getLogger(__name__)

_LONGEST_S = 600.0
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL", SEAL_KEY.env)


_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Sealer:
    """Starts the process; one at a time. Of one process: the child of a fork makes its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._busy = threading.Lock()
        self._failed = False

    def start(self, told: Callable[[Seal], None] | None, failed: Callable[[], None] | None) -> None:
        """Have the audit sealed in the background; does nothing while that is under way.

        Args:
            told: Called with every seal that was made, in a thread of its own.
            failed: Called there when it could not be done.
        """
        if not self._busy.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._run, args=(told, failed), name="aegis-sealer", daemon=True).start()
        except RuntimeError:  # the interpreter is about to end: somebody will seal later
            self._busy.release()

    def _run(self, told: Callable[[Seal], None] | None, failed: Callable[[], None] | None) -> None:
        try:
            self._seal_and_tell(told, failed)
        except Exception:
            _log.exception("`on_seal` failed")
        finally:
            self._busy.release()

    def _seal_and_tell(self, told: Callable[[Seal], None] | None, failed: Callable[[], None] | None) -> None:
        try:
            seals = self._seal()
        except Exception as error:  # whatever it is, it must not reach the agent
            if not self._failed:
                _log.warning("cannot seal the audit at `%s`, its journal stays: %s", self._directory, error)
            self._failed = True
            if failed is not None:
                failed()
            return
        self._failed = False
        if told is not None:
            for seal in seals:
                told(seal)

    def _seal(self) -> list[Seal]:
        if getattr(sys, "frozen", False) or not Path(sys.executable).name.startswith(("python", "pypy")):
            raise RuntimeError("there is no Python interpreter to start: run `aegis audit seal` now and then")
        place = Path(__file__).parents[2]
        kept = _KEPT if address_of(self._directory) is None else (*_KEPT, *_of_object_storage())
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(place), *filter(None, sys.path)])
        ran = subprocess.run(  # noqa: S603 - our own module, by this very interpreter
            [sys.executable, "-S", "-P", "-m", __name__, str(self._directory)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            timeout=_LONGEST_S,
            check=False,
        )
        if ran.stderr:
            _log.warning("%s", ran.stderr.decode(errors="replace").strip())
        if ran.returncode:
            raise RuntimeError(f"the sealer ended with status {ran.returncode}")
        return [msgspec.json.decode(line, type=Seal) for line in ran.stdout.splitlines()]


def _of_object_storage() -> list[str]:
    return [name for name in os.environ if name.startswith("AWS_") or name in _NETWORK]


def main() -> None:
    """The process: seals one directory, writes its seals to stdout and what was wrong to stderr."""
    from aegis_otel.audit.remote import push  # noqa: PLC0415 - nor obstore
    from aegis_otel.audit.sealing import seal  # noqa: PLC0415 - DuckDB, in this process only

    directory = Path(sys.argv[1])
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
        problems = push(directory)
    except AegisError as error:
        problems = [str(error)]  # the seals are made and told; what was not sent is sent next time
    for problem in problems:
        sys.stderr.write(f"{problem}\n")


if __name__ == "__main__":
    main()
