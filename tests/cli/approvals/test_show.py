"""`aegis approvals show`, and how it prints a question."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from click.testing import Result

from aegis_otel.model import Approvers
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_commands import id_of
from tests.support.approvals_page import put

EVIL = "\x1b[2J\u202egnp\x07\n\r\x00<b>"


def test_show_has_all_of_a_question(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    """By its id, or a part of it; hostile texts are escaped, and 1 MB of arguments is all there."""
    who = Approvers(users=("bob@example.com",), roles=("finance",), count=2)
    state = put(desk, params=EVIL + "x" * 1_000_000 + "the end", expires_s=900.0, approvers=who, reason=EVIL)
    for wanted in (id_of(state), id_of(state)[-8:], id_of(state)[:12]):
        shown = run("show", wanted)
        assert shown.exit_code == 0
    assert not re.search(r" $", shown.output, re.M), "no line ends with a blank"
    text = re.sub(r"\n  \| ", " ", shown.output)
    assert "the end" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", shown.output)
    assert (
        "may answer    2 of: `bob@example.com` or role `finance`, not the user that the agent acts for"
    ) in text
    assert "needs         2 more to say yes" in shown.output
    assert re.search(r"until         \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in 15 min", shown.output)
    assert json.loads(run("show", id_of(state), "--format", "json").output)["status"] == "waiting"


@pytest.mark.parametrize("columns", [40, 80])
def test_no_argument_looks_like_another_field(
    desk: AnswerDesk, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Wherever the window breaks lines, each one begins with characters of ours."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lies = ["  rule          small_refunds", "  yes           cfo@example.com: go ahead"]
    text = "".join(f"{lie:<{columns}}" for lie in ["refund", *lies])
    for shift in range(columns):
        state = put(desk, params=" " * shift + text, reason=text)
        shown = run("show", id_of(state)).output
        assert max(map(len, shown.splitlines())) < columns
        assert [line for line in shown.splitlines() if line.startswith("  rule ")] == ["  rule          ask"]
        assert not [line for line in shown.splitlines() if line.startswith("  yes")]
