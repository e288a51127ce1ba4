"""A page that is served, and people who visit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_page import Visitor, serving


@pytest.fixture
def port(desk: AnswerDesk) -> Iterator[int]:
    with serving(desk) as port:
        yield port


@pytest.fixture
def visit(port: int) -> Callable[..., Visitor]:
    return lambda name="bob", roles="": Visitor(port, name, roles)
