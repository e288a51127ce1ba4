"""When complete files of the journal are sealed, and the start of the short process that seals them.

Sealing takes DuckDB, which must not run in an agent: importing it holds up the event loop, and its threads do
not survive a fork. The process is isolated (see `audit.journal.child_process`). It inherits no descriptor,
and of the environment only the settings that are for it (`config.Setting`), where the user's own files are,
and, if the audit has an address on object storage, what using the storage takes (`storage_schemes`). A
failure is logged once and leaves the journal as it is: a record need not be sealed. A sealing of 5,000 calls
takes 0.5 s, most of it to start the process.
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
from aegis_otel.audit.seals.seal_log import JOURNAL_FILE, Seal
from aegis_otel.config import SETTINGS
from aegis_otel.config.storage_schemes import PACKAGE, reads_variable
from aegis_otel.errors import AegisError

_log = logging.getLogger(__name__)

OnSeal = Callable[[Seal], None]

_PROCESS = "aegis_otel.audit.maintenance.sealer_process"
_LONGEST_S = 600.0
SEAL_BYTES = 4 << 20
"""The bytes in complete files at which a sealing is started: some 5,000 calls, folded in milliseconds."""
LITTER = 64
"""The number of journal files at which a sealing is started too, when a process makes its first one."""
RETRY_S = 60.0
"""Seconds after a sealing, or an attempt, in which a short-lived process starts no other. Sealed files are
removed a minute later, and files that cannot be sealed stay: their number alone would start a sealer in every
process."""
_PACKAGES = (
    *("msgspec", "duckdb", "_duckdb", "pytz"),
    *("cryptography", "_cffi_backend", "cffi", "typing_extensions"),
)


def claim(directory: Path) -> bool:
    """Return whether this process is to seal, since nobody has tried within `RETRY_S`.

    The time of the last attempt is that of `seals.jsonl`; its lock keeps two processes from claiming at once.
    """
    try:
        new = not os.path.lexists(directory / SEALS)
        descriptor = files.open_file(directory, SEALS, os.O_RDWR | os.O_CREAT, single_link=True)
    except (OSError, AegisError):
        return True  # the sealing reports what is wrong
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


class SealTrigger:
    """Starts sealer processes, one at a time. The child of a fork needs a sealer of its own."""

    def __init__(self, directory: Path, address: str | None = None) -> None:
        """
        Args:
            address: The address on object storage that sealed files are sent to.
        """
        self._directory = directory
        self._address = address
        self._busy = threading.Lock()
        self._failed = False

    def is_due(self, journal: Path, unsealed: int, *, is_first: bool) -> bool:
        """Return whether a sealing is worth starting a process, where a writer begins a new file.

        Args:
            journal: The directory of the journal.
            unsealed: The bytes in the writer's complete files since the last sealing.
            is_first: Whether it is the writer's first file. Short-lived processes never have enough bytes:
                there the number of files counts, and one process of many seals them.
        """
        return unsealed >= SEAL_BYTES or (is_first and _many_files(journal) and claim(self._directory))

    def start(self, on_seal: OnSeal | None, on_failed: Callable[[], None] | None) -> None:
        """Seal the audit in the background, unless a sealing is under way.

        Args:
            on_seal: Called in a background thread with every seal that was made.
            on_failed: Called there if the sealing failed.
        """
        if not self._busy.acquire(blocking=False):
            return
        work = threading.Thread(target=self._run, args=(on_seal, on_failed), name="aegis-sealer", daemon=True)
        try:
            work.start()
        except RuntimeError:  # the interpreter is about to end; another process will seal
            self._busy.release()

    def _run(self, on_seal: OnSeal | None, on_failed: Callable[[], None] | None) -> None:
        try:
            try:
                seals = self._seal()
            except Exception as error:  # no error may reach the agent
                if not self._failed:
                    _log.warning(
                        "cannot seal the audit at `%s`, its journal stays: %s", self._directory, error
                    )
                self._failed = True
                if on_failed is not None:
                    on_failed()
                return
            self._failed = False
            if on_seal is not None:
                for seal in seals:
                    on_seal(seal)
        except Exception:
            _log.exception("`on_seal` failed")
        finally:
            self._busy.release()

    def _seal(self) -> list[Seal]:
        if getattr(sys, "frozen", False) or not Path(sys.executable).name.startswith(("python", "pypy")):
            raise RuntimeError("there is no Python interpreter to start: run `aegis audit seal` now and then")
        arguments, packages = [str(self._directory)], [*_PACKAGES]
        # The directories are where the user's own approval key is, with which answers are proven.
        names = [*(setting.env for setting in SETTINGS if setting.is_for_sealer), "HOME", "XDG_STATE_HOME"]
        if self._address is not None:
            arguments.append(self._address)
            packages.append(PACKAGE)
            names += [name for name in os.environ if reads_variable(self._address, name)]
        ran = subprocess.run(  # noqa: S603 - our own module, by this interpreter
            child_process.command(_PROCESS, arguments, packages),
            env=child_process.environment(names),
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


def _many_files(journal: Path) -> bool:
    with os.scandir(journal) as entries:
        return sum(1 for entry in entries if JOURNAL_FILE.fullmatch(entry.name)) > LITTER
