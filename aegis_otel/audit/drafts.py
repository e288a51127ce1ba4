"""The files of a seal in the making: written beside their place, then put there all together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_otel.audit.lake import SCHEMA
from aegis_otel.audit.location import JOURNAL, LAKE
from aegis_otel.audit.seals import VERSION, Book, Carried, Segment, carried_name, segment_name
from aegis_otel.audit.segments import Workshop


class Drafts:
    """Makes the files of the next seal; none has its name before `publish`."""

    def __init__(self, directory: Path, book: Book) -> None:
        self._directory = directory
        self._book = book
        self._seal = len(book.seals) + 1
        self._segments = book.segments
        self._files: list[tuple[Path, Path]] = []

    def segment(self, workshop: Workshop, day: str, replaced: list[Path]) -> Segment:
        """Write the rows of a day, new ones and those of the segments that it replaces."""
        self._segments += 1
        name = segment_name(day, self._segments, self._book.tag)
        path = self._directory / LAKE / name
        for folder in (path.parent.parent, path.parent):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                _sync(folder.parent)
        schema = path.parent.parent / SCHEMA
        if not workshop.has_schema(schema.parent) and not any(path == schema for _, path in self._files):
            draft, descriptor = self._create(schema)
            os.close(descriptor)
            workshop.write_schema(draft)
        draft, descriptor = self._create(path)
        os.close(descriptor)
        metadata = {
            "aegis_version": str(VERSION),
            "aegis_audit": self._book.audit,
            "aegis_seal": str(self._seal),
            "aegis_segment": str(self._segments),
            "aegis_previous": self._book.head,
        }
        rows, first, last = workshop.write(draft, day, self._segments, replaced, metadata)
        with draft.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return Segment(self._segments, name, rows, draft.stat().st_size, digest, first, last)

    def carried(self, lines: list[bytes]) -> Carried | None:
        """Write the lines that are carried over; None without any."""
        if not lines:
            return None
        path = self._directory / JOURNAL / carried_name(self._seal, self._book.tag)
        content = b"".join(line + b"\n" for line in lines)
        _, descriptor = self._create(path)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
        return Carried(path.name, len(lines), hashlib.sha256(content).hexdigest())

    def publish(self) -> None:
        """Give all files their names, for good."""
        for draft, path in self._files:
            _sync(draft)
            os.rename(draft, path)
        for folder in {path.parent for _, path in self._files}:
            _sync(folder)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """On a failure, such as a full disk, remove what was written: no seal names it."""
        try:
            yield
        except BaseException:
            for draft, path in self._files:
                draft.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            raise

    def _create(self, path: Path) -> tuple[Path, int]:
        draft = path.with_name(f".{path.name}.draft")
        self._files.append((draft, path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return draft, os.open(draft, flags, 0o600)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
