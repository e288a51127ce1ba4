"""The schemes of object storage that an audit can be at. To add one, add a row to `STORAGE_SCHEMES`.

A row is all that the code needs: `obstore` opens the store of any scheme that it knows by its address
(https://developmentseed.org/obstore/latest/api/store/). docs/audit-storage.md says how users reach it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PACKAGE = "obstore"
"""The package that object storage takes; nothing imports it where an audit is a directory."""
_EXTRA = "s3"
"""The extra of this project that installs it."""
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_PATH = "(/[!-.0-~]+)*/?"
"""What may follow the name of a bucket: printable ASCII, without empty steps."""


class StorageScheme(NamedTuple):
    """A kind of object storage, as addresses name it."""

    scheme: str
    bucket: str
    """A regular expression of the names that a bucket may have."""
    least_chars: int
    """The shortest name that a bucket may have, in characters."""
    variables: str
    """What the variables begin with that hold credentials, region and endpoint. The process that sends sealed
    files gets these, and no others."""


STORAGE_SCHEMES = (
    StorageScheme(scheme="s3", bucket="[A-Za-z0-9][A-Za-z0-9.-]+", least_chars=3, variables="AWS_"),
)


def examples(quote: str = "") -> str:
    """Return an address of each scheme for help and messages, each between two `quote`."""
    return " or ".join(f"{quote}{each.scheme}://bucket/prefix{quote}" for each in STORAGE_SCHEMES)


def address_fault(url: str) -> str | None:
    """Return what is wrong with an address, or None where an audit can be there."""
    scheme, _, place = url.partition("://")
    row = _row(scheme)
    if row is not None:
        if 0 < len(place.partition("/")[0]) < row.least_chars:
            return f"a bucket's name has at least {row.least_chars} characters"
        if re.fullmatch(row.bucket + _PATH, place):
            return None
    return f"expected a directory, or {examples('`')}"


def reads_variable(url: str, name: str) -> bool:
    """Return whether to use the storage at an address takes this variable of the environment."""
    row = _row(url.partition("://")[0])
    return row is not None and (name.startswith(row.variables) or name in _NETWORK)


def missing_package(url: str) -> str:
    """Return the message for an address where `PACKAGE` is not installed."""
    return f"`{url}` needs object storage: pip install '.[{_EXTRA}]' in a clone"


def _row(scheme: str) -> StorageScheme | None:
    return next((each for each in STORAGE_SCHEMES if each.scheme == scheme), None)
