"""Forms that count only where this page made them, for this person, in this browser, for this very purpose.

Three things have to hold, each of which would do alone: the browser says that the form was sent from our
origin, the cookie that it does not send along from other sites is there, and the form's token is bound to
that cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aegis_otel.cli.approvals.page.guard import Site
from aegis_otel.cli.approvals.page.sign_in.cookies import cookie_name, set_cookie
from aegis_otel.runtime.approval.answer_desk import Person

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

LARGEST_BODY = 64 << 10
_VALID_S = 12 * 3600
"""Seconds after which a form has to be loaded again."""
_MOST_FIELDS = 16
_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")


class FormRefused(Exception):
    """A form that was not sent by a person from this page; the text says why.

    Args:
        why: One of a few texts, so that nobody can have many recorded with a question.
        detail: What was sent, for people and for the log; empty where there is nothing to say.
    """

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why)
        self.detail = detail


class FormGuard:
    """Signs and checks the forms of one page.

    Args:
        site: Where the page is.
        key: Signs the tokens. Several processes of one page share it.
        now: The clock, in seconds.
    """

    def __init__(self, site: Site, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._site = site
        self._key = key
        self._now = now
        self._name = cookie_name("aegis-form", secure=site.is_secure)

    def browser(self, request: Request) -> str:
        """Return the value that stands for the browser: that of its cookie, or a new one."""
        value = request.cookies.get(self._name, "")
        return value if _BROWSER.fullmatch(value) else secrets.token_urlsafe(32)

    def remember(self, response: Response, browser: str) -> None:
        """Set the cookie of a browser; `SameSite=Lax` keeps it from forms of other sites."""
        set_cookie(response, self._name, browser, secure=self._site.is_secure)

    def token(self, browser: str, person: Person, purpose: str, target: str) -> str:
        """Return the token of a form.

        Args:
            browser: See `browser`.
            person: Who gets the form.
            purpose: What it does.
            target: What the form acts on, such as the id of a question.
        """
        return self._signed(int(self._now()), browser, person, purpose, target)

    async def read(self, request: Request) -> dict[str, str]:
        """Return the fields of a form that was sent from this page.

        Raises:
            FormRefused: it was sent from elsewhere, or is too large.
        """
        origins = request.headers.getlist("origin")
        if origins != [self._site.origin]:
            said = f"it was sent from `{origins[0][:200]}`" if origins else "it has no `Origin`"
            raise FormRefused("the form was not sent from this page", said)
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise FormRefused("the browser says that the form was sent from another site")
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise FormRefused("it is not a form of this page")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_BODY:
                raise FormRefused(f"it has more than {LARGEST_BODY:,} bytes")
        try:
            fields = parse_qsl(body.decode("ascii"), True, True, errors="strict", max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise FormRefused("it is not a form of this page") from error
        if len(dict(fields)) < len(fields):
            raise FormRefused("a field is there twice")
        return dict(fields)

    def check(
        self, fields: dict[str, str], request: Request, person: Person, purpose: str, target: str
    ) -> None:
        """Check the token of a form.

        Raises:
            FormRefused: it was not made for this, in this browser, for this person, within 12 hours.
        """
        browser = request.cookies.get(self._name, "")
        token = fields.get("token", "")
        made = token.partition(".")[0]
        if not (browser and made.isascii() and made.isdecimal() and len(made) < 16):
            raise FormRefused("the form is without its cookie or its token")
        if not hmac.compare_digest(
            self._signed(int(made), browser, person, purpose, target).encode(), token.encode()
        ):
            raise FormRefused("the form was made for another person, another browser or another question")
        if not 0 <= self._now() - int(made) < _VALID_S:
            raise FormRefused("the form is older than 12 hours: load the page again")

    def _signed(self, made: int, browser: str, person: Person, purpose: str, target: str) -> str:
        text = json.dumps([made, browser, person.name, person.sign_in, purpose, target])
        return f"{made}.{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"
