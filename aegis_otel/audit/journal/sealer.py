"""The sealer: a short process that seals what is complete, started by a journal now and then.

Sealing is DuckDB's work, and DuckDB has no place in an agent: importing it holds up the event loop, and its
threads do not survive a fork. The process is isolated (see `audit.journal.child_process`) and inherits no
descriptor and no secret of the environment but the name of the key and, where an address on object storage is
configured, those of object storage. If it fails, that is logged once, and the journal stays as it is: a
record never depends on its being sealed. For 5,000 calls it takes 0.5 s, most of it to start.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.journal import child_process
from aegis_otel.audit.location import SEALS
from aegis_otel.audit.seals.seal_log import Seal
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AegisError

_log = logging.getLogger(__name__)

OnSeal = Callable[[Seal], None]

_PROCESS = "aegis_otel.audit.maintenance.sealer_process"
_LONGEST_S = 600.0
RETRY_S = 60.0
"""Seconds after a sealing of an audit, or the attempt of one, in which a short process starts no other. What
is sealed is removed a minute later, and what cannot be sealed stays: the number of files alone would start
one in every process."""
_PACKAGES = (
    "msgspec",
    "duckdb",
    "_duckdb",
    "pytz",
    "cryptography",
    "_cffi_backend",
    "cffi",
    "typing_extensions",
)
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def claim(directory: Path) -> bool:
    """Return whether nobody has sealed, or tried to, within `RETRY_S`; then this process is to try.

    The time of the last attempt is that of `seals.jsonl`, whose lock keeps two from claiming it at once.
    """
    try:
        new = not os.path.lexists(directory / SEALS)
        descriptor = files.open_file(directory, SEALS, os.O_RDWR | os.O_CREAT, single_link=True)
    except (OSError, AegisError):
        return True  # the sealing says what is wrong
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not new and 0 <= time.time() - os.fstat(descriptor).st_mtime < RETRY_S:
            return False
        os.utime(descriptor)
    except OSError:  # such as that somebody is sealing
        return False
    else:
        return True
    finally:
        os.close(descriptor)


class Sealer:
    """Starts the process; one at a time. Of one process: the child of a fork makes its own."""

    def __init__(self, directory: Path, address: str | None = None) -> None:
        """
        Args:
            directory: The audit's.
            address: Where on object storage what is sealed is sent, as configured.
        """
        self._directory = directory
        self._address = address
        self._busy = threading.Lock()
        self._failed = False

    def start(self, on_seal: OnSeal | None, on_failed: Callable[[], None] | None) -> None:
        """Have the audit sealed in the background; does nothing while that is under way.

        Args:
            on_seal: Called with every seal that was made, in a thread of its own.
            on_failed: Called there when it could not be done.
        """
        if not self._busy.acquire(blocking=False):
            return
        work = threading.Thread(target=self._run, args=(on_seal, on_failed), name="aegis-sealer", daemon=True)
        try:
            work.start()
        except RuntimeError:  # the interpreter is about to end: somebody will seal later
            self._busy.release()

    def _run(self, on_seal: OnSeal | None, on_failed: Callable[[], None] | None) -> None:
        try:
            seals = self._seal_and_log_failure()
            if seals is None:
                if on_failed is not None:
                    on_failed()
            elif on_seal is not None:
                for seal in seals:
                    on_seal(seal)
        except Exception:
            _log.exception("`on_seal` failed")
        finally:
            self._busy.release()

    def _seal_and_log_failure(self) -> list[Seal] | None:
        try:
            seals = self._seal()
        except Exception as error:  # whatever it is, it must not reach the agent
            if not self._failed:
                _log.warning("cannot seal the audit at `%s`, its journal stays: %s", self._directory, error)
            self._failed = True
            return None
        self._failed = False
        return seals

    def _seal(self) -> list[Seal]:
        if getattr(sys, "frozen", False) or not Path(sys.executable).name.startswith(("python", "pypy")):
            raise RuntimeError("there is no Python interpreter to start: run `aegis audit seal` now and then")
        sent = self._address is not None
        arguments = [str(self._directory), *([self._address] if self._address else [])]
        packages = (*_PACKAGES, "obstore") if sent else _PACKAGES
        ran = subprocess.run(  # noqa: S603 - our own module, by this very interpreter
            child_process.command(_PROCESS, arguments, packages),
            env=child_process.environment((SEAL_KEY.env, *(_of_object_storage() if sent else ()))),
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
