"""Listings of the journal that race with writers: a file that is made meanwhile may be missing in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from tests.support.records import completed, decided, files, statuses, wait_until_seen


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "aegis_audit"


@pytest.fixture
def writer(audit: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A living writer of a file for each call, five so far."""
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 500)
    journal = Journal(audit)
    for n in range(5):
        call(journal, str(n))
    assert len(files(audit)) == 5
    yield journal
    journal.close()


def call(journal: Journal, name: str) -> None:
    time = datetime.now(UTC).isoformat()
    journal.append(decided(decision_id=name, timestamp=time))
    journal.append(completed(decision_id=name, timestamp=time, result_error="x" * 500))


def is_journal(path: Any) -> bool:
    return not isinstance(path, int) and Path(path).name == "journal"  # who removes a tree lists descriptors


def listing(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, list[str]], list[str]]) -> None:
    """Have `change` say what the n-th listing of a journal finds, of what there is."""
    scandir, listdir = os.scandir, os.listdir
    count = 0

    def names(path: Any = ".") -> list[str]:
        nonlocal count
        if not is_journal(path):
            return listdir(path)
        count += 1
        return change(count, sorted(listdir(path)))

    def entries(path: Any = ".") -> Any:
        if not is_journal(path):
            return scandir(path)
        found = names(path)
        with scandir(path) as every:
            return _Entries(entry for entry in list(every) if entry.name in found)

    monkeypatch.setattr(os, "scandir", entries)
    monkeypatch.setattr(os, "listdir", names)


class _Entries:
    """What `os.scandir` returns."""

    def __init__(self, entries: Iterator[os.DirEntry[str]]) -> None:
        self._entries = entries

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries


@pytest.mark.parametrize("missed", [[1], [2], [1, 2], [2, 4], [4, 5]])
@pytest.mark.parametrize("which", range(1, 7))
def test_a_listing_that_missed_new_files_is_no_broken_chain(
    audit: Path, writer: Journal, monkeypatch: pytest.MonkeyPatch, missed: list[int], which: int
) -> None:
    """They and all later ones are made while it goes on, so that the listings before have none of these."""

    def change(n: int, names: list[str]) -> list[str]:
        numbers = {name: int(name[-12:-6]) for name in names}
        return [
            name
            for name in names
            if n > which or (number := numbers[name]) < missed[0] or (n == which and number not in missed)
        ]

    with monkeypatch.context() as patch:
        listing(patch, change)
        assert verify(audit).findings == []
    with monkeypatch.context() as patch:
        listing(patch, change)
        assert seal(audit).problems == []
    assert seal(audit).problems == []
    assert sum(len(each.journals) for each in read_seals(audit)) == 4
    wait_until_seen(audit)
    assert statuses(audit) == {str(n): "success" for n in range(5)}


def test_a_file_that_is_gone_is_a_broken_chain(audit: Path, writer: Journal) -> None:
    """However often one looks."""
    files(audit)[1].unlink()
    third = files(audit)[1]
    (problem,) = seal(audit).problems
    assert problem.startswith(f"line 1 of `{third}` does not follow the files of its writer")
    assert [each.file for each in verify(audit).findings] == [f"journal/{third.name}"]


def test_a_writer_that_comes_back_while_it_is_looked_at_keeps_its_file(
    audit: Path, writer: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that was closed may go on: what it writes then is in no file that is taken for complete."""
    for when in range(1, 6):
        writer.close()
        before = len(files(audit))

        def come_back(n: int, names: list[str], when: int = when, before: int = before) -> list[str]:
            if n != when or len(names) != before:
                return names
            writer.append(decided(decision_id=f"back {when}", timestamp=datetime.now(UTC).isoformat()))
            return [path.name for path in (audit / "journal").glob("*")]

        with monkeypatch.context() as patch:
            listing(patch, come_back)
            assert seal(audit).problems == []
        came_back = len(files(audit)) > before
        if not came_back:
            writer.append(decided(decision_id=f"back {when}", timestamp=datetime.now(UTC).isoformat()))
        writer.append(completed(decision_id=f"back {when}"))
        wait_until_seen(audit)
        assert statuses(audit)[f"back {when}"] == "success", when
    assert verify(audit).findings == []
