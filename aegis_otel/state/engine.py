"""What every engine of shared state does, and what their rows have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from aegis_otel.audit.keys import keyed_digest
from aegis_otel.errors import StateError
from aegis_otel.model import Mark, SeriesQuery, Tally

PATIENCE_S = 2.0
"""Seconds to wait for a lock or an answer; then the state counts as not to be reached."""
OUTCOMES = {"success": True, "failed": False}
"""How a body can have ended, and the value of the column `succeeded` for it; null: not known."""
MOST_COUNTED = 1_000_000
"""Marks up to which `inspect` counts: it is to answer at once."""
PRUNE_EVERY = 64
"""Settled decisions of one process after which it removes old marks."""
PRUNE_AT_MOST = 512
"""Old marks that are removed at a time, so that nobody waits long for it."""
_SALT_BYTES = 32
_DIGEST_BYTES = 16

Decide = Callable[[Mapping[SeriesQuery, Tally]], Sequence[Mark]]
"""Decides by the answers, and returns the marks to keep."""


class StateBusyError(StateError):
    """Others held what one use of the state needed, and the rest of it may be free."""


class StateFacts(NamedTuple):
    """What `aegis doctor` says about a state."""

    engine: str
    place: str
    """The file or the address, without a password."""
    version: int
    """The version of its schema."""
    marks: int
    """The marks in it; `MOST_COUNTED` where there are more."""


class Transaction(Protocol):
    """Statements of which all count, or none. Each method raises StateError."""

    @property
    def salt(self) -> Salt:
        """Return the salt of the store."""

    def now_ns(self) -> int:
        """Return the time of the store: Unix time in nanoseconds."""

    def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, which is written as `inbox` says."""


class SharedState(Protocol):
    """The marks of calls, and transactions for the inbox.

    Any number of threads and processes can use it at once; never on an event loop. Every method raises
    StateError where the state cannot be reached or used. Then it is not known whether something was written.
    """

    def judge(
        self, decision_id: str, queries: Sequence[SeriesQuery], decide: Decide, without: Sequence[str] = ()
    ) -> None:
        """Answer all queries, decide, and keep the marks, as one step for everybody else.

        Nobody else asks or marks one of these series between the answers and the marks.

        Args:
            decision_id: The decision that the marks belong to, for `settle`. One that is judged again after
                its body may have run needs another id: its first marks count like everybody's.
            queries: What to answer.
            decide: Called with an answer to each query. It can be called once more, with newer answers,
                and then only the last call counts. What it raises is passed on, and nothing is kept.
            without: Decisions whose marks do not count in the answers: they are about the same call.
        """

    def read(self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()) -> dict[SeriesQuery, Tally]:
        """Return the answers as they are now, as `judge` does, and keep nothing."""

    def settle(self, decision_id: str, outcome: str | None) -> None:
        """Write down how the body of a decision ended, unless that is known already.

        Marks with a run are left as they are: tokens that a run has used stay used.

        Args:
            decision_id: As for `judge`. Nothing happens where it has no marks.
            outcome: `success` or `failed`; None where the body did not run, and the marks are removed.
        """

    def transaction(self, *, writes: bool = True) -> AbstractContextManager[Transaction]:
        """Return a context for statements about the inbox, committed where it ends without an error.

        Args:
            writes: Whether some of them write. Those that only read see one moment.
        """

    def inspect(self) -> StateFacts:
        """Return what there is, after a check that it can be read and written."""

    def close(self) -> None:
        """Close what is open. The next use opens it again."""


class Salt:
    """The random bytes of a store that stand in every digest of it.

    So a store holds neither the ids of users or orders nor digests that can be compared with a list of them.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._hash = hashlib.sha256(salt)

    def digest(self, text: str) -> bytes:
        """Return the digest of a series or a run: the first 16 bytes of SHA-256 over salt and text."""
        hashed = self._hash.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return hashed.digest()[:_DIGEST_BYTES]

    def keyed(self, payload: bytes) -> str:
        """Return the digest of a call or a grant: HMAC-SHA-256 with the salt, in hex digits."""
        return keyed_digest(self._salt, payload).hex()


def new_salt() -> bytes:
    """Return the salt of a new store."""
    import secrets  # noqa: PLC0415 - once in the life of a store

    return secrets.token_bytes(_SALT_BYTES)


def stored_salt(salts: Sequence[tuple[Any, ...]], place: str) -> Salt:
    """Return the salt that a store has.

    Args:
        salts: The rows of its table `store`, with the salt alone.
        place: The store, for the error.

    Raises:
        StateError: somebody has changed it: there is none, more than one, or it is no salt.
    """
    if len(salts) == 1 and isinstance(salt := salts[0][0], bytes) and len(salt) == _SALT_BYTES:
        return Salt(salt)
    raise StateError(
        f"{place} has no longer the one salt that aegis-otel gave it, so what is in it cannot be read: "
        'restore a copy, or begin anew (docs/state.md, "Backup")'
    )
