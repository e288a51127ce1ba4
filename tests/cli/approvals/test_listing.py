"""`aegis approvals list`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from aegis_otel.audit.seals.ed25519_keys import make_key_pair
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person
from aegis_otel.state.opening import open_state
from tests.support.approvals_commands import ME, environment, id_of
from tests.support.approvals_page import put
from tests.support.inbox import run_sql
from tests.support.pages import read_page, section_of


def test_list_shows_what_waits(
    desk: AnswerDesk, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 80 columns, the oldest first; ended questions only where they are asked for."""
    monkeypatch.setenv("COLUMNS", "80")
    nobody: dict[str, Any] = {"user_id": None, "tenant_id": None}
    first, second = put(desk, expires_s=900.0, tenant_id=None), put(desk, action_target="default", **nobody)
    ended = put(desk)
    desk.inbox.end(id_of(ended), ended.digest, QuestionStatus.WITHDRAWN)
    lines = run("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if "charge" in line]
    assert [row[0] for row in rows] == [id_of(first)[-8:], id_of(second)[-8:]]
    assert rows[0][3:] == ["HIGH", "charge", "->", "card", "ann", "0", "of", "1", "15", "min"]
    assert rows[1][3:] == ["HIGH", "charge", "-", "0", "of", "1", "30", "days"]
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d", " ".join(rows[0][1:3])), "without the year"
    assert id_of(ended)[-8:] in run("list", "--status", "withdrawn").output
    assert run("list", "--status", "all", "--format", "json").output.count('"decision_id"') == 3
    assert "1 of 2 questions" in run("list", "--limit", "1").output


@pytest.mark.parametrize("columns", [60, 80])
def test_a_question_with_long_names_takes_two_lines_of_the_list(
    desk: AnswerDesk, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    put(desk, action_type="delete_customer", user_id="carl@example.com", tenant_id=None, expires_s=900.0)
    lines = run("list", "--status", "all").output.splitlines()
    assert max(map(len, lines)) <= columns
    (at,) = (number for number, line in enumerate(lines) if "delete_customer -> card" in line)
    assert "(carl@example.com)" in lines[at + 1]
    assert not "".join(lines[at + 2 :]).strip()


@pytest.mark.parametrize(
    ("columns", "said"), [(70, ["(carl)", "(tenant acme)"]), (200, ["carl, tenant acme"])]
)
def test_users_of_one_name_have_their_tenants(
    desk: AnswerDesk,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    said: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    state = put(desk, user_id="carl", tenant_id="acme")
    listed = run("list").output
    assert [each in listed for each in said] == [True] * len(said)
    run("approve", id_of(state), "--also", "1h")
    assert "for carl, tenant acme, by rule ask" in " ".join(run("list").output.replace("\n  | ", " ").split())
    (grant,) = json.loads(run("list", "--format", "json").output)["grants"]
    assert (grant["user_id"], grant["tenant_id"]) == ("carl", "acme")


def test_a_question_whose_time_is_over_waits_for_nobody(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    """Though nobody has ended it in the inbox yet: `approve` refuses it as expired."""
    state = put(desk, expires_s=0.01)
    time.sleep(0.02)
    shown = run("show", id_of(state)).output
    assert shown.startswith(f"{id_of(state)}  HIGH  expired: nobody answered in time\n")
    assert not re.search(r"until .*, in", shown)
    assert [line.split()[-1] for line in run("list").output.splitlines() if "charge" in line] == ["over"]
    listed = run("list", "--status", "all").output
    assert [line.split()[-1] for line in listed.splitlines() if "charge" in line] == ["expired"]
    (report,) = json.loads(run("list", "--format", "json").output)["questions"]
    assert report["status"] == "expired"


def test_an_answer_that_cannot_be_checked_here(
    desk: AnswerDesk, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it has not the key that the agents trust: that is said, and not that nobody gave it."""
    state = put(desk)
    run("approve", id_of(state), "--also", "1h")
    _, public = make_key_pair(tmp_path / "other", "key")
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(public))
    why = "it is signed with a key that is not trusted here: set `AEGIS_ANSWER_PUBLIC_KEY` to the agents' own"
    listed = " ".join(run("list", "--status", "all").output.replace("\n  | ", " ").split())
    assert f"There is an answer that cannot be checked here, as {why}." in listed
    assert f"given by somebody whose answer cannot be checked here ({why}), for" in listed
    shown = " ".join(run("show", id_of(state)).output.replace("\n  | ", " ").split())
    assert f"no answer proves that; there is one that cannot be checked here, as {why}" in shown
    assert ME not in listed + shown


def test_list_into_a_pipe_has_a_line_for_each_question(
    desk: AnswerDesk, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the length of names, with columns that two spaces separate."""
    monkeypatch.delenv("COLUMNS", raising=False)
    names = ("x" * 70, "delete_customer")
    for name in names:
        put(desk, action_type=name, user_id="carl@example.com", tenant_id="acme", expires_s=900.0)
    _, head, _, *lines = run("list").output.splitlines()
    assert re.split(" {2,}", head.strip()) == [
        *("ID", "Asked (UTC)", "Risk", "Action -> Target", "For", "Yes", "Ends in")
    ]
    rows = [re.split(" {2,}", line.strip()) for line in lines if line]
    assert [row[3:] for row in rows] == [
        [f"{name} -> card", "carl@example.com, tenant acme", "0 of 1", "15 min"] for name in names
    ]


def test_list_says_how_many_have_said_yes_and_what_became_of_a_question(
    desk: AnswerDesk, run: Callable[..., Result]
) -> None:
    two = Approvers(roles=("finance",), count=2)
    waiting, approved, denied = (put(desk, approvers=two) for _ in range(3))
    ann, bob = (Person(name, ("finance",), "oidc") for name in ("ann2", "bob"))
    for state, person, is_yes in (
        *((waiting, ann, True), (approved, ann, True), (approved, bob, True)),
        *((denied, ann, True), (denied, bob, False)),
    ):
        desk.give(id_of(state), state.digest, person, approved=is_yes)
    listed = {line.split()[0]: line for line in run("list", "--status", "all").output.splitlines() if line}
    for state, end in (
        (waiting, "1 of 2  waiting, 30 days"),
        (approved, "2 of 2  approved"),
        (denied, "1 of 2  denied"),
    ):
        assert listed[id_of(state)[-8:]].endswith(end)
    assert run("list").output.splitlines()[3].split()[-5:] == ["1", "of", "2", "30", "days"]


def test_list_of_nothing(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    desk.inbox.counts()
    assert run("list").output == "No question waits.\n"
    assert run("list", "--status", "denied").output == "No such questions.\n"


def test_list_for_programs(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    state = put(desk, expires_s=900.0, approvers=Approvers(roles=("finance",), count=2))
    report = json.loads(run("list", "--format", "json").output)
    (question,) = report["questions"]
    assert report["total"] == 1
    assert report["grants"] == []
    assert question["decision_id"] == id_of(state)
    assert question["digest"] == state.digest
    assert question["approvers"] == {"users": [], "roles": ["finance"], "count": 2, "self": False}
    assert question["yes_missing"] == 2
    assert question["expires_at"] > question["asked_at"]


def test_every_member_for_programs_is_in_the_documentation(
    desk: AnswerDesk, run: Callable[..., Result]
) -> None:
    text = read_page("approvals.md")
    commands = text.partition("\n### Commands\n")[2].partition("\n### ")[0]
    told = set(re.findall(r"`(\w+)`", commands + section_of(text, "Ask a web service")))
    state, other = put(desk), put(desk)
    given = json.loads(run("approve", id_of(state), "--also", "1h", "--format", "json").output)
    desk.inbox.refuse(id_of(other), "eve", "no")
    report = json.loads(run("list", "--status", "all", "--format", "json").output)
    answered = next(each for each in report["questions"] if each["answers"])
    refused = next(each for each in report["questions"] if each["refused_answers"])
    for members in (
        *(given, report, report["grants"][0], answered, refused, refused["refused_answers"][0]),
        answered["answers"][0].keys() - {"decision_id", "question_digest"},  # those of the question
    ):
        assert set(members) <= told


def test_list_into_a_pipe_that_ends(desk: AnswerDesk, tmp_path: Path) -> None:
    for _ in range(300):
        put(desk, params="x" * 500)
    command = (
        f"{sys.executable} -m aegis_otel approvals list --limit 300 --format json --path {tmp_path / 'audit'}"
    )
    ran = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (ran.returncode, ran.stderr, ran.stdout) == (141, "", "{\n")


def test_a_status_that_no_answer_proves(desk: AnswerDesk, run: Callable[..., Result], tmp_path: Path) -> None:
    """Somebody has written it into the inbox."""
    state = put(desk)
    stored = open_state(directory=tmp_path / "audit")
    run_sql(stored, "UPDATE aegis.question SET status = 'approved'")
    stored.close()
    (row,) = (line for line in run("list", "--status", "approved").output.splitlines() if "charge" in line)
    assert row.split()[-1] == "unknown"
    (report,) = json.loads(run("list", "--status", "approved", "--format", "json").output)["questions"]
    assert report["status"] == "unknown"
    assert "unknown: it is stored as approved" in " ".join(run("show", id_of(state)).output.split())
