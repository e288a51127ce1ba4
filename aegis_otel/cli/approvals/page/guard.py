"""Check the host of every request, answer the health check, and add security headers to every response."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aegis_otel.errors import ConfigError
from aegis_otel.governance.error_text import traced

_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}|\[::1\]|localhost")
_log = logging.getLogger("aegis_otel")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f.:]+\]")
_PORTS = {"http": 80, "https": 443}
_HEADERS = {
    # No script and no style but our files, nothing from elsewhere, and no page around this one. By Trusted
    # Types, no text becomes markup in a script of ours either.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With `no-referrer` browsers would send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


HEALTH = "/health"
"""Says that the page runs, to whoever asks by whatever name: a balancer knows only its address."""


class Site(NamedTuple):
    """Where people open the page."""

    origin: str
    """As browsers write it: `https://approvals.example.com`, without the usual port and a path."""
    host: str
    """The `Host` header of requests to it."""

    @property
    def is_secure(self) -> bool:
        """Return whether browsers reach it by https."""
        return self.origin.startswith("https:")


def read_site(url: str) -> Site:
    """Return the site at a URL.

    Raises:
        ConfigError: it is none, or cookies and answers would go over a network unencrypted.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    is_host = not host.isascii() or _HOST.fullmatch(name)
    if parts.scheme not in _PORTS or not is_host or parts.username is not None:
        raise ConfigError(f"`{url}` is no address of a page: write it as `https://approvals.example.com`")
    if not host.isascii():
        raise ConfigError(f"`{url}` has letters that no `Host` header has: write its name as `xn--...`")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"`{url}` has a path: the page needs a host of its own, such as `{parts.netloc}`")
    if parts.scheme == "http" and not _LOOPBACK.fullmatch(name):
        raise ConfigError(
            f"`{url}` is not encrypted: put a proxy with TLS before the page, and give its https address"
        )
    full = name if port in (None, _PORTS[parts.scheme]) else f"{name}:{port}"
    return Site(f"{parts.scheme}://{full}", full)


class Guard:
    """Answers requests to the page's own host only, and adds the headers.

    Another `Host` is a page elsewhere that a browser was led to here by a changed address of its name (DNS
    rebinding), or a proxy that does not pass the header on.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_started
            is_started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                if self._site.is_secure:
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        if scope["path"] == HEALTH:
            await PlainTextResponse("The page runs.\n")(scope, receive, send_with_headers)
            return
        hosts = Headers(scope=scope).getlist("host")
        if [each.lower() for each in hosts] != [self._site.host]:
            text = f"This page is at {self._site.origin} and nowhere else.\n"
            await PlainTextResponse(text, 421)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # which the server would write with all that the exception says
            _log.error("the page of approvals failed: %s", traced(error))
            if not is_started:
                await PlainTextResponse("The page failed.\n", 500)(scope, receive, send_with_headers)
