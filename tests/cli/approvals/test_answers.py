"""`aegis approvals approve` and `deny`, also at a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_commands import ME, environment, id_of
from tests.support.approvals_page import now, put


def at_a_terminal(
    tmp_path: Path, *arguments: str, typed: str, output: Path | None = None, typed_before: str = ""
) -> tuple[int, str]:
    """Run a command at a terminal, type at its question, and return the exit code and what was to be seen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aegis_otel", "approvals", *arguments]
    with open(output or os.devnull, "wb") as file:
        child = subprocess.Popen(
            [*command, "--path", str(tmp_path / "audit")],
            stdin=theirs,
            stdout=file if output else theirs,
            stderr=theirs,
            env=environment(),
        )
    os.close(theirs)
    os.write(ours, typed_before.encode())
    shown, is_asked = b"", False
    try:
        while True:
            try:
                part = os.read(ours, 10_000)
            except OSError:  # nobody has the other end any more
                break
            shown += part
            if b"[y/N]" in shown and not is_asked:
                is_asked = True
                os.write(ours, typed.encode())
        return child.wait(30), shown.decode().replace("\r\n", "\n")
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def test_approve_is_signed_by_the_user_of_the_machine(
    desk: AnswerDesk, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever variables say."""
    for variable in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(variable, "ann@example.com")
    state = put(desk)
    ran = run("approve", id_of(state), "--reason", "ticket 4711")
    assert (ran.exit_code, ran.output) == (0, f"{id_of(state)} approved by {ME}\n")
    after = now(desk, state)
    assert after.status is QuestionStatus.APPROVED
    (answer,) = desk.answers(after)
    assert (answer.approved, answer.approver, answer.roles, answer.sign_in) == (True, ME, (), "local")
    assert answer.reason == "ticket 4711"
    assert "yes" in run("show", id_of(state)).output


def test_deny(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    state = put(desk)
    ran = run("deny", id_of(state), "--format", "json")
    assert json.loads(ran.output) == {"decision_id": id_of(state), "status": "denied", "approver": ME}
    assert now(desk, state).status is QuestionStatus.DENIED


def test_what_does_not_count_is_said_and_recorded(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    """Not entitled, the requester, twice, over."""
    entitled = put(desk, approvers=Approvers(roles=("finance",)))
    own = put(desk, user_id=ME.upper(), approvers=Approvers())
    twice = put(desk, approvers=Approvers(count=2))
    assert run("approve", id_of(twice)).output.endswith("; more persons have to say yes\n")
    for state, why in (
        (
            entitled,
            f"you are none of the rule's approvers: you answer as {ME}, the user of this machine, who has no",
        ),
        (own, "the agent acts for you"),
        (twice, "answered"),
    ):
        ran = run("approve", id_of(state))
        assert ran.exit_code == 1
        assert "your answer does not count" in ran.output
        assert why in ran.output
        assert now(desk, state).status is QuestionStatus.WAITING
        assert [each.approver for each in desk.refused(state.question.decision_id)] == [ME]
    over = put(desk)
    run("deny", id_of(over))
    assert run("approve", id_of(over)).exit_code == 1
    assert now(desk, over).status is QuestionStatus.DENIED


def test_a_key_that_does_not_count_is_said_and_nothing_is_written(
    desk: AnswerDesk, run: Callable[..., Result], tmp_path: Path
) -> None:
    """With the key that counts, and what to do; at a terminal before the question is shown and asked."""
    state = put(desk, trusted_keys=("0123456789abcdef",))
    for command in ("approve", "deny"):
        ran = run(command, id_of(state))
        assert (ran.exit_code, now(desk, state).change) == (1, state.change)
        assert desk.refused(id_of(state)) == ()
        assert "your answer does not count" in ran.output
        assert "trusts 0123456789abcdef: name the private key" in ran.output
        assert "`AEGIS_ANSWER_KEY`" in ran.output
    code, shown = at_a_terminal(tmp_path, "approve", id_of(state), typed="y\n")
    assert (code, "[y/N]" in shown, "does not count" in shown) == (1, False, True)
    assert "trusted keys  0123456789abcdef" in run("show", id_of(state)).output
    assert json.loads(run("show", id_of(state), "--format", "json").output)["trusted_keys"] == [
        "0123456789abcdef"
    ]


@pytest.mark.parametrize("command", ["approve", "deny"])
def test_what_was_typed_before_the_question_is_no_answer(
    desk: AnswerDesk, tmp_path: Path, command: str
) -> None:
    """Nobody has read it by then."""
    state = put(desk)
    code, shown = at_a_terminal(tmp_path, command, id_of(state), typed="\n", typed_before="y\ny\n")
    assert "[y/N]" in shown
    assert code == 1
    assert now(desk, state).status is QuestionStatus.WAITING


@pytest.mark.parametrize("also", ["", "25h", "2d", "for ever", "-1h", "0s"])
def test_a_grant_that_is_none(desk: AnswerDesk, run: Callable[..., Result], also: str) -> None:
    state = put(desk)
    assert run("approve", id_of(state), "--also", also).exit_code == 2
    assert now(desk, state).status is QuestionStatus.WAITING


@pytest.mark.parametrize(
    ("typed", "status"), [("y\n", QuestionStatus.APPROVED), ("\n", QuestionStatus.WAITING)]
)
def test_at_a_terminal_the_question_is_shown_first(
    desk: AnswerDesk, tmp_path: Path, typed: str, status: QuestionStatus
) -> None:
    """A part of its id is enough then."""
    state = put(desk, params="order 7")
    code, shown = at_a_terminal(tmp_path, "approve", id_of(state)[-8:], typed=typed)
    assert "order 7" in shown
    assert code == (0 if typed == "y\n" else 1)
    assert now(desk, state).status is status


def test_the_question_is_seen_where_the_output_is_a_file(desk: AnswerDesk, tmp_path: Path) -> None:
    """And the file has the output only."""
    state = put(desk, params="order 7")
    output = tmp_path / "output.json"
    code, shown = at_a_terminal(
        tmp_path, "approve", id_of(state), "--format", "json", typed="y\n", output=output
    )
    assert code == 0
    assert "order 7" in shown
    assert json.loads(output.read_text())["status"] == "approved"


def test_what_nobody_reads_at_a_terminal_is_not_approved_there(desk: AnswerDesk, tmp_path: Path) -> None:
    """It can be denied, and approved on the page."""
    state = put(desk, params="x " * 9_000)
    code, shown = at_a_terminal(tmp_path, "approve", id_of(state), typed="y\n")
    assert code == 1
    assert "more than the 200 lines" in shown
    assert "aegis approvals serve" in shown
    assert now(desk, state).status is QuestionStatus.WAITING
    code, shown = at_a_terminal(tmp_path, "deny", id_of(state), typed="y\n")
    assert shown.count("\n") < 220
    assert now(desk, state).status is QuestionStatus.DENIED


def test_an_answer_counts_where_its_output_cannot_be_written(desk: AnswerDesk, tmp_path: Path) -> None:
    """And the exit code says so."""
    state = put(desk)
    command = [sys.executable, "-m", "aegis_otel", "approvals", "approve", id_of(state)]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*command, "--path", str(tmp_path / "audit")],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert ran.returncode == 0
    assert "approved by" in ran.stderr
    assert "no space left" in ran.stderr
    assert now(desk, state).status is QuestionStatus.APPROVED
