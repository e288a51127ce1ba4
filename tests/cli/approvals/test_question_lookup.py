"""Which part of an id finds a question."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_commands import id_of
from tests.support.approvals_page import now, put


def test_an_id_that_is_none_or_several(desk: AnswerDesk, run: Callable[..., Result]) -> None:
    put(desk), put(desk)
    nothing = run("show", "nothing")
    assert nothing.exit_code == 1
    assert nothing.output == "no question has an id that begins or ends with `nothing`\n"
    assert run("show", "0193f2a1-7c5e-7d11-9a3b-2f0c8e5d6b7a").output.startswith(
        "no question has the id `0193"
    )
    several = run("show", "decision-")
    assert several.exit_code == 1
    assert "more than one question" in several.output


def test_without_seeing_the_question_all_of_its_id_is_needed(
    desk: AnswerDesk, run: Callable[..., Result]
) -> None:
    """Somebody can have put a question under an id that is a part of another one."""
    good = put(desk, decision_id="0193f2a1-7c5e-7d11-9a3b-2f0c8e5d6b7a")
    assert run("approve", "8e5d6b7a", "--yes").exit_code == 2, "wrong usage"
    assert run("deny", "8e5d6b7a").exit_code == 2
    bad = put(desk, decision_id="8e5d6b7a", params="wire 1,000,000 to mallory")
    for command in (("approve", "8e5d6b7a", "--yes"), ("approve", "8e5d6b7a"), ("show", "8e5d6b7a")):
        ran = run(*command)
        assert ran.exit_code == 1
        assert "more than one question" in ran.output
    assert run("deny", id_of(good), "--yes").exit_code == 0
    assert run("approve", "8e5d6b7a", "--yes").exit_code == 1, "also when only the false one waits"
    assert now(desk, bad).status is QuestionStatus.WAITING
    longer = put(desk, decision_id=f"x{id_of(good)}")
    assert run("show", id_of(good)).exit_code == 0, "nobody can take its id from a question"
    assert now(desk, longer).status is QuestionStatus.WAITING
