"""The interface between the page and a way to sign in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from aegis_otel.redaction.terminal import escape, name_list

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from aegis_otel.runtime.approval.answer_desk import Person


_log = logging.getLogger("aegis_otel.approvals")


def log_sign_in(person: Person) -> None:
    """Write down who has signed in, and with which roles."""
    roles = name_list(person.roles) or "none"
    _log.info("%s has signed in at the page of approvals, with roles: %s", escape(person.name), escape(roles))


class SignInRefused(Exception):
    """Something was presented that proves nobody's name. The text says why, without any secret in it.

    The page writes it down, and treats the request as one of nobody.
    """


class SignIn(Protocol):
    """A way to sign in. Its methods run on the event loop, so they wait for nothing."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Routes of its own, all below `/sign-in/`. They need nobody signed in.

        Of the page's checks they get that of the `Host` header, and its headers are added to their responses;
        others are theirs. They may raise SignInRefused: the page writes it down and answers with status 403.
        """

    @property
    def start(self) -> str | None:
        """The path below `/sign-in/` that a browser is sent to, by GET with the wanted path as `next`.

        None where people sign in elsewhere, as at a proxy.
        """

    def begin(self) -> None:
        """Print whom the page lets in, or a link to sign in. Called when the page is ready."""

    def person(self, request: Request) -> Person | None:
        """Return who is signed in; None where the request does not say so.

        Raises:
            SignInRefused: it says so, and does not prove it.
        """

    def sign_out(self, request: Request, response: Response) -> bool:
        """End the session of a request, on the response; return False where the page keeps no sessions."""
