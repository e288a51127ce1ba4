"""What every request and every response of the page passes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_page import EVIL, FailingInbox, Visitor, path_of, put, serving


def test_a_failure_is_written_down_once_and_escaped(
    desk: AnswerDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """The server does not add what the exception says as it is."""

    class Broken(FailingInbox):
        def look(self, decision_ids: Any, after: int = 0) -> Any:
            raise RuntimeError(f"no {EVIL} {decision_ids} {after}")

    broken = AnswerDesk(Broken(desk.inbox), desk._signer, desk._check)  # type: ignore[arg-type]
    with serving(broken) as port:
        answer = Visitor(port, "bob").get("/questions/any")
    assert (answer.status, answer.headers["x-frame-options"]) == (500, "DENY")
    assert "Its log says why" in answer.text
    assert [each.name for each in caplog.records if each.levelno >= logging.ERROR] == ["aegis_otel"]
    assert not any(each.exc_info for each in caplog.records)


def test_its_health_is_said_to_anybody(port: int) -> None:
    answer = Visitor(port).get("/health", host="10.0.7.20:8484")
    assert (answer.status, answer.text) == (200, "The page runs.\n")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_another_host_is_not_this_page(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    """A name whose address was changed to ours gets nothing (DNS rebinding)."""
    put(desk, params="secret plans")
    for host in ("evil.example", "localhost", "127.0.0.1", ""):
        answer = visit().get("/", host=host)
        assert answer.status in (400, 421)
        assert "secret plans" not in answer.text


def test_every_response_has_the_strict_headers(desk: AnswerDesk, visit: Callable[..., Visitor]) -> None:
    state = put(desk)
    bob = visit()
    assets = re.findall(r'(?:src|href)="(/static/[^"]+)"', bob.get("/").text)
    assert len(assets) == 3
    paths = ["/", path_of(state), "/ended", "/grants", "/questions/none", "/nope", f"{path_of(state)}/answer"]
    for path in [*paths, *assets]:
        headers = bob.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert ("no-store" in headers["cache-control"]) is (path not in assets)
        assert "server" not in headers
    cookies = bob.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookies
    assert "SameSite=lax" in cookies
