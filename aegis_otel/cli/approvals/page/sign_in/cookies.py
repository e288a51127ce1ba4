"""Cookies of the page: their names and attributes, and those that are signed.

What is in a signed cookie is not secret from its browser, and nobody can change it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from itsdangerous import BadData, URLSafeSerializer

from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_LARGEST = 3_800  # browsers keep 4,096 bytes of a cookie, its name and attributes among them
_ENDS = "ends"


class _Attributes(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["lax"]


def _attributes(*, secure: bool) -> _Attributes:
    """Return the attributes of every cookie: no script reads it, and forms of other sites do not send it."""
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "lax"}


def cookie_name(name: str, *, secure: bool) -> str:
    """Return the full name of a cookie: by `__Host-`, no other host of the domain can set it."""
    return f"__Host-{name}" if secure else name


def set_cookie(
    response: Response, name: str, value: str, *, secure: bool, seconds: int | None = None
) -> None:
    """Set a cookie.

    Args:
        response: Sets it.
        name: Its full name.
        value: Its value.
        secure: Whether it is sent by https alone.
        seconds: For how long the browser has it. Default: until it is closed.
    """
    response.set_cookie(name, value, max_age=seconds, **_attributes(secure=secure))


def remove_cookie(response: Response, name: str, *, secure: bool) -> None:
    """Have the browser forget a cookie, by its full name."""
    response.delete_cookie(name, **_attributes(secure=secure))


class Cookies:
    """Writes and reads the signed cookies of one page.

    Args:
        key: Signs them. Several processes of one page share it.
        secure: Whether browsers reach the page by https. Then a cookie is sent by https alone, and its name
            begins with `__Host-`, so that no other host of the domain can set it.
        now: The clock, in seconds.
    """

    def __init__(self, key: bytes, *, secure: bool, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._secure = secure
        self._now = now

    def put(self, response: Response, name: str, value: dict[str, Any], seconds: int) -> None:
        """Set a cookie that is valid for some seconds. By `SameSite=Lax` it is there on return.

        Raises:
            SignInRefused: the value does not fit into a cookie.
        """
        text = self._serializer(name).dumps({**value, _ENDS: int(self._now()) + seconds})
        if len(text) > _LARGEST:
            raise SignInRefused(
                f"the roles do not fit into a cookie of {_LARGEST} bytes: have the provider send fewer"
            )
        set_cookie(response, self._full(name), str(text), secure=self._secure, seconds=seconds)

    def get(self, request: Request, name: str) -> dict[str, Any] | None:
        """Return the value of a cookie; None where there is none, or its time is over.

        Raises:
            SignInRefused: it is not signed with the key.
        """
        text = request.cookies.get(self._full(name))
        if not text:
            return None
        try:
            value = self._serializer(name).loads(text)
        except BadData:
            raise SignInRefused(f"the cookie `{self._full(name)}` is not signed by this page") from None
        return value if isinstance(value, dict) and value[_ENDS] > self._now() else None

    def names(self, request: Request, prefix: str) -> list[str]:
        """Return the names of cookies that begin so, those first that end first or are not signed."""
        ends = {}
        for full in request.cookies:
            if full.startswith(self._full(prefix)):
                name = full.removeprefix(self._full(""))
                try:
                    value = self.get(request, name)
                except SignInRefused:
                    value = None
                ends[name] = value[_ENDS] if value else 0
        return sorted(ends, key=ends.__getitem__)

    def remove(self, response: Response, name: str) -> None:
        """Have the browser forget a cookie."""
        remove_cookie(response, self._full(name), secure=self._secure)

    def _full(self, name: str) -> str:
        return cookie_name(name, secure=self._secure)

    def _serializer(self, name: str) -> URLSafeSerializer:
        """Return what signs cookies of a name; one of another name does not verify."""
        return URLSafeSerializer(
            self._key, name, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )
