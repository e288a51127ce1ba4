"""Sign in the user of this machine: by a link that `aegis approvals serve` prints at their terminal."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aegis_otel.cli.approvals.page.sign_in.cookies import remove_cookie, set_cookie
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.runtime.approval.answer_desk import Person

_LINK_S = 600.0


class LocalSignIn:
    """Signs in one person, who can read what this process prints. A link works once, for ten minutes.

    Whoever reads the terminal or the log later finds no link that works. The user opens the newest one again,
    and then a new one is printed.

    Args:
        user: Whom the operating system says that this process runs as.
        origin: Where the page is: on this machine.
        print_link: Prints a new link, at the beginning and whenever one was used or is too old.
        now: A clock, in seconds.
    """

    start: str | None = None

    def __init__(
        self,
        user: str,
        origin: str,
        print_link: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.routes: list[BaseRoute] = [Route("/sign-in/link/{token}", self._enter, methods=["GET"])]
        self._person = Person(user, (), "local")
        self._origin = origin
        self._print_link = print_link
        self._now = now
        # Browsers send a cookie to all ports of a host: the name keeps two pages of one machine apart.
        self._cookie = f"aegis-local-{origin.rpartition(':')[2]}"
        self._sessions: set[str] = set()
        self._token = ""
        self._made = 0.0

    def begin(self) -> None:
        """Print the first link."""
        self._renew()

    def person(self, request: Request) -> Person | None:
        """Return the user, in a browser that has used a link.

        Raises:
            SignInRefused: the cookie is none of this process.
        """
        session = request.cookies.get(self._cookie)
        if session is None:
            return None
        if session not in self._sessions:
            raise SignInRefused(
                "the session is none of this page, or was ended: use the link that it printed"
            )
        return self._person

    def sign_out(self, request: Request, response: Response) -> bool:
        """End the session of a request."""
        self._sessions.discard(request.cookies.get(self._cookie, ""))
        remove_cookie(response, self._cookie, secure=False)
        return True

    async def _enter(self, request: Request) -> Response:
        if not secrets.compare_digest(request.path_params["token"].encode(), self._token.encode()):
            raise SignInRefused("the link is none of this page, or was used already: use the newest one")
        is_too_old = self._now() > self._made + _LINK_S
        self._renew()
        if is_too_old:
            raise SignInRefused("the link is older than ten minutes: use the one that was printed just now")
        session = secrets.token_urlsafe(32)
        self._sessions.add(session)
        response = RedirectResponse("/", status_code=303)
        set_cookie(response, self._cookie, session, secure=False)
        return response

    def _renew(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._made = self._now()
        self._print_link(f"{self._origin}/sign-in/link/{self._token}")
