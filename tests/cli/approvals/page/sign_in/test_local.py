"""Sign-in by a printed link."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.cli.approvals.page.sign_in.local import LocalSignIn

PAGE = "http://127.0.0.1:8484"


async def refuse(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 403)


def test_a_link_works_for_ten_minutes() -> None:
    """Whoever opens an older one has a new one printed, once."""
    links: list[str] = []
    clock = [1000.0]
    sign_in = LocalSignIn("ann", PAGE, links.append, lambda: clock[0])
    app = Starlette(routes=sign_in.routes, exception_handlers={SignInRefused: refuse})
    browser = TestClient(app, base_url=PAGE, follow_redirects=False)
    sign_in.begin()
    clock[0] += 601
    refused = browser.get(links[0])
    assert (refused.status_code, len(links)) == (403, 2)
    assert "older than ten minutes" in refused.text
    assert not browser.cookies
    assert (browser.get(links[0]).status_code, len(links)) == (403, 2)
    clock[0] += 599
    assert (browser.get(links[1]).status_code, len(links)) == (303, 3)
    assert list(browser.cookies) == ["aegis-local-8484"]
