"""The versions of the schema. `data/` has the statements that lead from each version to the next.

To change the schema, raise `VERSION` and add a file for each engine, such as `sqlite-3.sql`.
"""

from __future__ import annotations

import pkgutil

from aegis_otel.errors import StateError

VERSION = 2
"""The version that this package writes and reads."""


def migration(engine: str, version: int) -> list[str]:
    """Return the statements that lead to `version` from the one before it, for `sqlite` or `postgres`."""
    text = (pkgutil.get_data(__package__, f"data/{engine}-{version}.sql") or b"").decode()
    return [statement for statement in (part.strip() for part in text.split(";\n")) if statement]


def check_version(found: int, place: str) -> None:
    """Check that this package knows the version of a store.

    Raises:
        StateError: a newer package has made it.
    """
    if found > VERSION:
        raise StateError(
            f"{place} was made by a newer aegis-otel (schema version {found}, and this one knows {VERSION}): "
            "install that one here as well"
        )
