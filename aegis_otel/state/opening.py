"""Find the state that the setting `AEGIS_STATE` names, and open it when it is first used."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit.location import locate, prepare
from aegis_otel.config import DURABILITY, STATE
from aegis_otel.errors import AuditError, ConfigError, StateError
from aegis_otel.state.engine import SharedState
from aegis_otel.state.lazy_state import LazyState

if TYPE_CHECKING:
    from aegis_otel.governance.approvals.inbox import Inbox

FILE = "state.sqlite3"
"""The name of the file in the audit's local directory."""
_SQLITE = "sqlite:///"
_POSTGRES = "postgresql://", "postgres://"


def open_state(
    address: str | None = None, *, directory: Path | None = None, durability: str | None = None
) -> LazyState:
    """Return the state at an address. Nothing is imported, made or opened before it is used.

    Args:
        address: `sqlite:///path` or `postgresql://...`. Default: `AEGIS_STATE`, else SQLite in `directory`.
        directory: The local directory of the audit. Default: that of the settings.
        durability: What marks in SQLite survive, as for the audit. Default: `AEGIS_DURABILITY`.

    Raises:
        ConfigError: the address is neither. No message has the address, because it may hold a password.
    """
    address = STATE.value(address)
    kept = DURABILITY.value(durability)
    if not address:
        folder = locate() if directory is None else directory
        return LazyState(lambda: _in_audit(folder, kept))
    if address.startswith(_SQLITE) and (path := address.removeprefix(_SQLITE).strip()) and "\0" not in path:
        return LazyState(lambda: _sqlite(Path(path).expanduser().absolute(), kept))
    if address.startswith(_POSTGRES):
        # PostgreSQL's library would take a part of such a password for the host, and name it in its errors.
        authority, *rest = re.split("[/?#]", address.partition("://")[2], maxsplit=1)
        if authority.count("@") > 1 or "#" in address or any("@" in part for part in rest):
            raise ConfigError(
                f"`{STATE.env}` can be read in two ways: write `@`, `/`, `?` and `#` in its password in "
                "percent-encoding (`%40`, `%2F`, `%3F`, `%23`)"
            )
        return LazyState(lambda: _postgres(address))
    raise ConfigError(
        f"`{STATE.env}` is no address of a state: expected `postgresql://user@host/database`, or "
        "`sqlite:///path/state.sqlite3` (an absolute path has a fourth slash)"
    )


def has_state(directory: Path) -> bool:
    """Return whether there is a state that `open_state` finds without making one: of the setting, or a file.

    Args:
        directory: The local directory of the audit.
    """
    return bool(STATE.value()) or os.path.lexists(directory / FILE)


def open_inbox(
    address: str | None = None, *, directory: Path | None = None, durability: str | None = None
) -> Inbox:
    """Return the inbox in the state at an address; arguments and errors are those of `open_state`.

    A program that has opened its state already makes a `StateInbox` of that: both share its connections.
    """
    from aegis_otel.state.inbox import StateInbox  # noqa: PLC0415 - only what is used is imported

    return StateInbox(open_state(address, directory=directory, durability=durability))


def _in_audit(directory: Path, durability: str) -> SharedState:
    try:
        prepare(directory)
    except AuditError as error:
        raise StateError(str(error)) from error
    return _sqlite(directory / FILE, durability)


def _sqlite(path: Path, durability: str) -> SharedState:
    from aegis_otel.state.sqlite import SqliteState  # noqa: PLC0415 - only what is used is imported

    return SqliteState(path, durability=durability)


def _postgres(address: str) -> SharedState:
    try:
        from aegis_otel.state.postgres import PostgresState  # noqa: PLC0415 - a package that may not be there
    except ImportError as error:
        raise StateError(
            f"`{STATE.env}` names PostgreSQL, which needs `psycopg` ({error}): "
            "run `pip install 'aegis-otel[postgres]'`"
        ) from error
    return PostgresState(address)
