"""Use object storage, with bounds on what is read of an object and on how long a listing takes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from aegis_otel.config.storage_schemes import missing_package
from aegis_otel.errors import AegisError, AuditError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

LISTED = timedelta(seconds=60)
"""The longest that a listing may take: a server can say of every page that there is one more."""
RETRIED = timedelta(seconds=60)
"""How long a request is tried again before it counts as failed."""


@contextmanager
def reaching(url: str) -> Iterator[ObjectStore]:
    """Yield the place on object storage.

    Raises:
        AuditError: the package for it is missing, or the place or a disk refuses what the block does.
    """
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise AuditError(missing_package(url)) from error
    with failing_as(f"cannot use `{url}`"):
        yield from_url(url, retry_config={"retry_timeout": RETRIED})


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise an AuditError that begins with `what` for whatever object storage or a disk refuses."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

    try:
        yield
    except AegisError:
        raise
    except BaseError as error:
        lines = filter(None, map(str.strip, str(error).splitlines()))
        raise AuditError(f"{what}: {next(lines, type(error).__name__)}") from error
    except OSError as error:
        raise AuditError(f"{what}: {error}") from error


def read_object(store: ObjectStore, name: str, limit: int) -> bytes | None:
    """Return an object, or None where there is none.

    Of an object with more than `limit` bytes this is a beginning, which is longer than `limit` as well.
    """
    try:
        return b"".join(chunks_of(store, name, limit))
    except FileNotFoundError:
        return None


def chunks_of(store: ObjectStore, name: str, limit: int) -> Iterator[bytes]:
    """Yield an object chunk by chunk, and stop once it is longer than `limit`."""
    left = limit
    for chunk in store.get(name).stream():
        yield bytes(chunk)
        left -= len(chunk)
        if left < 0:
            return


def list_folders(store: ObjectStore) -> list[str]:
    """Return the paths of the folders at the place.

    Raises:
        TimeoutError: the listing does not end.
    """

    async def list_all() -> list[str]:
        return list((await store.list_with_delimiter_async())["common_prefixes"])

    return _in_time(list_all())


def list_sizes(store: ObjectStore, folder: str) -> dict[str, int]:
    """Return the bytes of every object below a folder, by its name in it; errors as for `list_folders`."""

    async def list_all() -> dict[str, int]:
        pages = [page async for page in store.list(folder)]
        return {each["path"].partition(folder)[2]: each["size"] for page in pages for each in page}

    return _in_time(list_all())


def _in_time(listing: Coroutine[None, None, T]) -> T:
    """Return the result of a listing; its event loop is its own, since the caller may be in one."""
    bounded = asyncio.wait_for(listing, LISTED.total_seconds())
    with ThreadPoolExecutor(1, "aegis-listing") as pool:
        try:
            return pool.submit(asyncio.run, bounded).result()
        except TimeoutError:
            what = f"its listing has not ended in {LISTED.total_seconds():g} seconds"
            raise TimeoutError(errno.ETIMEDOUT, what) from None
