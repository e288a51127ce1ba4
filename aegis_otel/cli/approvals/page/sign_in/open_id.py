"""Sign in by OpenID Connect: the authorization code flow with PKCE, and a session in a signed cookie.

A session begins at the provider, and nothing that a browser had before goes into it: its id is new, and the
cookie and `state` of a sign-in are used once. So nobody can have others sign in to a session that they know.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aegis_otel.cli.approvals.page.sign_in.allowed_people import EVERYBODY, AllowedPeople
from aegis_otel.cli.approvals.page.sign_in.claims import ClaimNames, has_roles, name_of, roles_of
from aegis_otel.cli.approvals.page.sign_in.cookies import Cookies
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused, log_sign_in
from aegis_otel.cli.approvals.page.sign_in.provider import Attempt, Provider, ProviderFailed
from aegis_otel.cli.rendering import echo
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_desk import Person

_log = logging.getLogger("aegis_otel.approvals")
REDIRECT_PATH = "/sign-in/back"
_SESSION, _ATTEMPT = "aegis-session", "aegis-sign-in-"
SESSION_S = 3600
"""Seconds after which somebody signs in again, and so has the roles that the provider says by then."""
_ATTEMPT_S = 600
"""Seconds that a person has at the provider."""
_MOST_ATTEMPTS = 5
"""Sign-ins that one browser has begun, each with a cookie: all of them are sent with each request."""
_MOST = 100_000
"""Ended sessions, and states that came back, that are remembered."""
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,700}")
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")


class OpenIdSignIn:
    """Signs people in at an OpenID provider.

    Args:
        provider: The provider, whose redirect URI is `REDIRECT_PATH` on this page.
        names: Which of its claims name a person and their roles.
        key: Signs the cookies: 32 random bytes. Several processes of one page share it. Pages with another
            provider, claim or address do not believe each other's cookies, whatever their keys.
        secure: Whether browsers reach the page by https.
        allowed: Who of those that the provider signs in is let in.
        now: The clock, in seconds.
    """

    start: str | None = "/sign-in/start"

    def __init__(
        self,
        provider: Provider,
        names: ClaimNames,
        *,
        key: bytes,
        secure: bool,
        allowed: AllowedPeople = EVERYBODY,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.routes: Sequence[BaseRoute] = [
            Route("/sign-in/start", self._start, methods=["GET"]),
            Route(REDIRECT_PATH, self._back, methods=["GET"]),
        ]
        self._provider = provider
        self._names = names
        self._allowed = allowed
        # A session is worth what the sign-in behind it proves: at another page, another provider or another
        # claim may name the same person.
        own = json.dumps([provider.issuer, provider.client_id, provider.redirect_uri, *names])
        self._cookies = Cookies(hmac.new(key, own.encode(), "sha256").digest(), secure=secure, now=now)
        self._now = now
        self._ended = _Remembered(SESSION_S, now)
        """The ids of sessions that were ended."""
        self._used = _Remembered(_ATTEMPT_S, now)
        """The states that came back."""

    def begin(self) -> None:
        """Print whom the page lets in, and warn where nobody can sign in: the issuer may be misspelt."""
        echo(self._allowed.sentence(self._provider.issuer))
        try:
            asyncio.run(self._provider.address(Attempt.new()))
        except ProviderFailed as error:
            _log.warning("nobody can sign in now: %s", error)  # it is escaped

    def person(self, request: Request) -> Person | None:
        """Return whose session a request is in.

        Raises:
            SignInRefused: the session is not from this page, was ended, or is of somebody who is not let in:
                the page may have been started with other options since.
        """
        session = self._cookies.get(request, _SESSION)
        if session is None:
            return None
        if session["id"] in self._ended:
            raise SignInRefused(f"the session of `{session['name']}` was ended by a sign-out")
        return self._allowed.admit(Person(session["name"], tuple(session["roles"]), "oidc"))

    def sign_out(self, request: Request, response: Response) -> bool:
        """End the session of a request."""
        try:
            session = self._cookies.get(request, _SESSION)
        except SignInRefused:
            session = None
        if session is not None:
            self._ended.add(session["id"])
        self._cookies.remove(response, _SESSION)
        return True

    async def _start(self, request: Request) -> Response:
        """Send a browser to the provider."""
        attempt = Attempt.new()
        with _ProviderErrorAsResponse():
            response = RedirectResponse(await self._provider.address(attempt), status_code=302)
        wanted = request.query_params.get("next", "/")
        value = {**attempt._asdict(), "next": wanted if _PATH.fullmatch(wanted) else "/"}
        for name in self._cookies.names(request, _ATTEMPT)[: 1 - _MOST_ATTEMPTS]:
            self._cookies.remove(response, name)
        self._cookies.put(response, _attempt_cookie(attempt.state), value, _ATTEMPT_S)
        return response

    async def _back(self, request: Request) -> Response:
        """Take the answer of the provider, and begin a session."""
        given = {name: _once(request, name) for name in ("state", "code", "iss", "error")}
        state = given["state"] or ""
        begun = self._cookies.get(request, _attempt_cookie(state)) if _STATE.fullmatch(state) else None
        if begun is None or not secrets.compare_digest(state, begun["state"]):
            raise SignInRefused(
                "the answer is to no sign-in that was begun in this browser in the last ten minutes"
            )
        attempt = Attempt(begun["state"], begun["nonce"], begun["code_verifier"])
        if attempt.state in self._used:
            raise SignInRefused("the answer to this sign-in was given before")
        self._used.add(attempt.state)
        if given["error"] is not None or not given["code"]:
            raise SignInRefused(f"the provider signs nobody in: {escape(str(given['error'])[:100])}")
        with _ProviderErrorAsResponse():
            claims = await self._provider.redeem(given["code"], attempt, given["iss"], self._are_enough)
        person = self._allowed.admit(
            Person(name_of(claims, self._names), roles_of(claims, self._names), "oidc")
        )
        log_sign_in(person)
        session = {"id": secrets.token_urlsafe(32), "name": person.name, "roles": person.roles}
        response = RedirectResponse(begun["next"], status_code=303)
        self._cookies.put(response, _SESSION, session, SESSION_S)
        self._cookies.remove(response, _attempt_cookie(attempt.state))
        return response

    def _are_enough(self, claims: dict[str, Any]) -> bool:
        return self._names.user in claims and has_roles(claims, self._names)


def _attempt_cookie(state: str) -> str:
    """Return the name of the cookie of a sign-in: each has its own, as several tabs may begin one at once."""
    return f"{_ATTEMPT}{state[:16]}"


class _ProviderErrorAsResponse:
    """Turns a failure of the provider into a response that says what failed."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ProviderFailed):
            raise HTTPException(502, f"Nobody can sign in: {error}") from None


class _Remembered:
    """Texts that are remembered for some seconds; the oldest are forgotten where there are too many."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._added: OrderedDict[str, float] = OrderedDict()

    def add(self, text: str) -> None:
        now = self._now()
        while self._added and (len(self._added) >= _MOST or self._oldest() < now - self._seconds):
            self._added.popitem(last=False)
        self._added[text] = now

    def _oldest(self) -> float:
        return next(iter(self._added.values()))

    def __contains__(self, text: str) -> bool:
        return text in self._added


def _once(request: Request, name: str) -> str | None:
    """Return a parameter that may be there once."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise SignInRefused(f"the answer has `{name}` {len(values)} times")
    return values[0] if values else None
