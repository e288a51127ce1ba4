"""Which inbox the commands open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from aegis_otel.cli.approvals.opening import inbox_words
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_commands import ME, id_of, process
from tests.support.approvals_page import now, put


def test_no_inbox_is_not_made(run: Callable[..., Result], tmp_path: Path) -> None:
    for arguments in (["list"], ["show", "x"], ["approve", "x"], ["expire"], ["revoke", "x"]):
        ran = run(*arguments)
        assert ran.exit_code == 1
        assert "no inbox" in ran.output
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (
            "postgresql://ann:secret@db.example.com:5432/agents?sslmode=require",
            "PostgreSQL, `db.example.com/agents`",
        ),
        ("postgresql:///agents", "PostgreSQL, `this machine/agents`"),
        ("sqlite:////var/lib/state.sqlite3", "/var/lib/state.sqlite3"),
        ("sqlite:///state.sqlite3", "state.sqlite3"),
    ],
)
def test_where_the_inbox_is(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_STATE", address)
    assert inbox_words(None) == words


def test_processes_share_inbox_and_key(desk: AnswerDesk, tmp_path: Path) -> None:
    """A command approves, and another process finds an answer that it can check."""
    state = put(desk, expires_s=900.0)
    where = ["--path", str(tmp_path / "audit")]
    assert id_of(state)[-8:] in process("list", *where).stdout
    done = process("approve", id_of(state), *where)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.approver for each in desk.answers(now(desk, state))] == [ME]
    again = process("approve", id_of(state), *where)
    assert again.returncode == 1
    assert again.stderr == "Error: your answer does not count: it was approved already\n"


def test_people_may_be_in_their_home_directory(desk: AnswerDesk, tmp_path: Path) -> None:
    """Where the user's own key lies below it; agents refuse that."""
    state = put(desk)
    where = ["--path", str(tmp_path / "audit")]
    done = process("approve", id_of(state), *where, cwd=os.environ["XDG_STATE_HOME"])
    assert (done.returncode, done.stderr) == (0, "")
