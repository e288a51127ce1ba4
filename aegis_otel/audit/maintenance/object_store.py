"""Object storage as an audit uses it: bounded in what is read of an object, and in how long is listed."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from aegis_otel.errors import AegisError, AuditError

if TYPE_CHECKING:
    from obstore.store import S3Store


T = TypeVar("T")

LISTED = timedelta(seconds=60)
"""So long a listing may take: who answers can say of every page that there is one more."""
RETRIED = timedelta(seconds=60)
"""So long a request is tried again and again before it counts as failed."""


@contextmanager
def reaching(url: str) -> Iterator[S3Store]:
    """Yield the place; what goes wrong with it is an AuditError."""
    try:
        from obstore.store import S3Store  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise AuditError(f"`{url}` needs object storage: pip install '.[s3]' in a clone") from error
    with failing_as(f"cannot use `{url}`"):
        yield S3Store.from_url(url, retry_config={"retry_timeout": RETRIED})


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise an AuditError, which begins with `what`, for whatever object storage or a disk refuses."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

    try:
        yield
    except AegisError:
        raise
    except BaseError as error:
        raise AuditError(f"{what}: {_first_line(error)}") from error
    except OSError as error:
        raise AuditError(f"{what}: {error}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_object(store: S3Store, name: str, limit: int) -> bytes | None:
    """Return an object, or None; of one that is longer than `limit`, a beginning that is longer as well."""
    try:
        return b"".join(chunks_of(store, name, limit))
    except FileNotFoundError:
        return None


def chunks_of(store: S3Store, name: str, limit: int) -> Iterator[bytes]:
    """Yield an object, chunk by chunk, and no more of it once it is longer than `limit`."""
    left = limit
    for chunk in store.get(name).stream():
        yield bytes(chunk)
        left -= len(chunk)
        if left < 0:
            return


def list_folders(store: S3Store) -> list[str]:
    """Return the names of the folders at the place, with what leads to them.

    Raises:
        TimeoutError: there is more of them, and more.
    """

    async def listed() -> list[str]:
        return list((await store.list_with_delimiter_async())["common_prefixes"])

    return _in_time(listed)


def list_sizes(store: S3Store, folder: str) -> dict[str, int]:
    """Return the bytes of every object below a folder, by its name in it; raises as `list_folders` does."""

    async def listed() -> dict[str, int]:
        return {
            each["path"].partition(folder)[2]: each["size"]
            async for page in store.list(folder)
            for each in page
        }

    return _in_time(listed)


def _in_time(listed: Callable[[], Coroutine[None, None, T]]) -> T:
    """Take a listing, in an event loop of its own since the caller may be in one, and give it up in time."""

    async def bounded() -> T:
        return await asyncio.wait_for(listed(), LISTED.total_seconds())

    with ThreadPoolExecutor(1, "aegis-listing") as pool:
        try:
            return pool.submit(asyncio.run, bounded()).result()
        except TimeoutError:
            what = f"its listing has not ended in {LISTED.total_seconds():g} seconds"
            raise TimeoutError(errno.ETIMEDOUT, what) from None
