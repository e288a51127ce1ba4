"""How arguments are shown, and how much of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest

from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_page import Visitor, now, path_of, put
from tests.support.inbox import shared_question


def test_arguments_of_a_megabyte_are_bounded_and_can_be_shown(
    desk: AnswerDesk, visit: Callable[..., Visitor]
) -> None:
    """What was not shown cannot be approved; it can be denied."""
    text = "a<\u202e" * 350_000 + "the end"
    state, other = put(desk, params=text), put(desk, params=text)
    bob = visit()
    path = path_of(state)
    first = bob.get(path)
    assert len(first.text) < 150_000
    assert "the first 19,996 of 1,400,009 characters" in first.text or "the first 19," in first.text
    assert 'value="yes"' not in first.text
    assert "the end" not in first.text
    part = bob.fields(path, f"{path}/answer")
    assert bob.post(f"{path}/answer", {**part, "answer": "yes"}).status == 409
    assert bob.post(f"{path}/answer", {**part, "answer": "yes", "shown": "all"}).status == 403
    assert now(desk, state).status is QuestionStatus.WAITING
    whole = bob.get(f"{path}?all=1")
    assert "the end" in whole.text
    assert whole.text.count(r"\u202e") >= 350_000
    all_of_it = bob.fields(f"{path}?all=1", f"{path}/answer")
    assert bob.post(f"{path}/answer", {**all_of_it, "answer": "yes"}).status == 303
    assert now(desk, state).status is QuestionStatus.APPROVED
    assert bob.answer(other.question.decision_id, "no").status == 303


@pytest.mark.parametrize(
    "params",
    [
        '{"a":' + "[" * 62 + ",".join(["1"] * 800_000) + "]" * 62 + "}",
        '{"a":' + "[" * 900 + ",".join(["1"] * 800_000) + "]" * 900 + "}",
        '{"a":' + "[".join(['{"a":'] * 300) + "1" + "]}" * 299 + "}}",
        '{"a":"' + r"\n" * 900_000 + '"}',
    ],
    ids=["nested", "deep", "steps", "lines"],
)
def test_what_a_model_writes_makes_no_page_much_larger(
    desk: AnswerDesk, visit: Callable[..., Visitor], params: str
) -> None:
    """Indentation does not, nor do the parts of a page."""
    state = put_arguments(desk, params)
    began = time.process_time()
    first, whole = visit().get(path_of(state)), visit().get(f"{path_of(state)}?all=1")
    assert time.process_time() - began < 3
    assert len(first.text) < 150_000
    assert len(whole.text) < 2 * len(params) + 100_000
    assert 'value="yes"' in whole.text


@pytest.mark.parametrize(
    "params",
    ["{" + ",".join(f'"{number:x}":1' for number in range(200_000)) + "}", '{"a":"' + "x" * 2_100_000 + '"}'],
    ids=["parts", "characters"],
)
def test_what_is_too_large_for_a_page_can_only_be_denied(
    desk: AnswerDesk, visit: Callable[..., Visitor], params: str
) -> None:
    state = put_arguments(desk, params)
    bob, path = visit(), path_of(state)
    for page in (path, f"{path}?all=1"):
        text = bob.get(page).text
        assert len(text) < 150_000
        assert "too large" in text
        assert 'value="yes"' not in text
        fields = bob.fields(page, f"{path}/answer")
        assert bob.post(f"{path}/answer", {**fields, "answer": "yes"}).status == 409
    assert bob.answer(state.question.decision_id, "no").status == 303
    assert now(desk, state).status is QuestionStatus.DENIED


def put_arguments(desk: AnswerDesk, params: str) -> QuestionState:
    shared = shared_question()
    return desk.inbox.put(
        msgspec.structs.replace(
            shared, question=msgspec.structs.replace(shared.question, action_params=params)
        )
    )
