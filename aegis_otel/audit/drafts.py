"""The files of a seal in the making: written beside their place, then put there all together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.audit.lake import SCHEMA
from aegis_otel.audit.location import JOURNAL, LAKE
from aegis_otel.audit.seals import VERSION, Amended, Book, Carried, Segment, carried_name, segment_name
from aegis_otel.audit.segments import Workshop


class Drafts:
    """Makes the files of the next seal; none has its name before `publish`."""

    def __init__(self, directory: Path, book: Book) -> None:
        self._directory = directory
        self._book = book
        self._seal = len(book.seals) + 1
        self._segments = book.segments
        self.amended: list[Amended] = []
        """What was changed in rows of segments that were replaced."""
        self._files: list[tuple[str, str]] = []
        """The names below the directory that each has at first, and in the end."""

    def segment(self, workshop: Workshop, day: str, replaced: Sequence[Segment]) -> Segment:
        """Write the rows of a day, new ones and those of the segments that it replaces."""
        self._segments += 1
        name = segment_name(day, self._segments, self._book.tag)
        files.make_folder(self._directory, f"{LAKE}/{name.partition('/')[0]}")
        schema = f"{LAKE}/{SCHEMA}"
        if not workshop.has_schema(self._directory / LAKE) and not any(
            path == schema for _, path in self._files
        ):
            draft, descriptor = self._create(schema)
            os.close(descriptor)
            workshop.write_schema(self._directory / draft)
        draft, descriptor = self._create(f"{LAKE}/{name}")
        os.close(descriptor)
        metadata = {
            "aegis_version": str(VERSION),
            "aegis_audit": self._book.audit,
            "aegis_seal": str(self._seal),
            "aegis_segment": str(self._segments),
            "aegis_previous": self._book.head,
        }
        paths = {self._directory / LAKE / each.file: bool(each.digest) for each in replaced}
        made = workshop.write(self._directory / draft, day, self._segments, paths, metadata)
        self.amended += made.amended
        with files.open_stream(self._directory, draft) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = os.fstat(content.fileno()).st_size
        return Segment(
            self._segments, name, made.rows, size, digest, made.first, made.last, made.new, made.digest
        )

    def carried(self, lines: list[bytes]) -> Carried | None:
        """Write the lines that are carried over; None without any."""
        if not lines:
            return None
        name = carried_name(self._seal, self._book.tag)
        content = b"".join(line + b"\n" for line in lines)
        _, descriptor = self._create(f"{JOURNAL}/{name}")
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
        return Carried(name, len(lines), hashlib.sha256(content).hexdigest())

    def publish(self) -> None:
        """Give all files their names, for good."""
        for draft, path in self._files:
            files.sync(self._directory, draft)
            files.rename_file(self._directory, draft, path.rpartition("/")[2])
        for folder in {path.rpartition("/")[0] for _, path in self._files}:
            files.sync(self._directory, folder)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """On a failure, such as a full disk, remove what was written: no seal names it."""
        try:
            yield
        except BaseException:
            for draft, path in self._files:
                files.remove_file(self._directory, draft)
                files.remove_file(self._directory, path)
            raise

    def _create(self, path: str) -> tuple[str, int]:
        folder, _, last = path.rpartition("/")
        draft = f"{folder}/.{last}.draft"
        self._files.append((draft, path))
        return draft, files.create_file(self._directory, draft)
