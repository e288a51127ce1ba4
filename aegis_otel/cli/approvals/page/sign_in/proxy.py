"""Sign-in by a proxy before the page, which authenticates people and names them in headers.

Only the proxy may name anybody, so the page believes these headers from the addresses of the proxy alone. Any
program that can connect from such an address could name anybody: a secret in a further header keeps them out.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from aegis_otel.cli.approvals.page.sign_in.allowed_people import EVERYBODY, AllowedPeople
from aegis_otel.cli.approvals.page.sign_in.claims import checked_name, checked_roles
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused, log_sign_in
from aegis_otel.cli.rendering import echo
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.approval.answer_desk import Person

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_IPV4_IN_IPV6 = IPv6Network("::ffff:0:0/96")
_MOST_LOGGED = 10_000
"""People of whom it is remembered that they are in the log."""
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


class ProxySignIn:
    """Takes people's names from the headers of a trusted proxy.

    Args:
        user_header: The header with the person's name.
        roles_header: The header with their roles, separated by commas; empty where there is none.
        addresses: The addresses that the proxy connects from, or networks, such as `10.0.7.0/24`.
        secret_header: The header with a secret that only the proxy knows; empty where there is none.
        secret: That secret, of 16 characters or more.
        allowed: Who of those that the proxy names is let in.

    Raises:
        ConfigError: one of them is unusable.
    """

    routes: Sequence[BaseRoute] = ()
    start: str | None = None

    def __init__(
        self,
        user_header: str,
        addresses: Sequence[str],
        *,
        roles_header: str = "",
        secret_header: str = "",
        secret: str = "",
        allowed: AllowedPeople = EVERYBODY,
    ) -> None:
        if not user_header:
            raise ConfigError("name the header in which the proxy says who somebody is")
        named = [header for header in (user_header, roles_header, secret_header) if header]
        for header in named:
            if not _HEADER.fullmatch(header):
                raise ConfigError(f"`{header}` is no name of a header, such as X-Forwarded-Email")
        if len({header.lower() for header in named}) < len(named):
            raise ConfigError("the headers of the proxy must have different names")
        if not addresses:
            raise ConfigError("name the addresses that the proxy connects from: anybody can send a header")
        if bool(secret_header) != bool(secret) or (secret and len(secret) < 16):
            raise ConfigError("a header with a secret needs its secret, of 16 characters or more")
        self._user, self._roles, self._secret_header = user_header, roles_header, secret_header
        self._named = [header.lower() for header in named]
        self._secret = secret.encode()
        self._allowed = allowed
        self._logged: dict[str, tuple[str, ...]] = {}
        self._networks = [_network(each) for each in addresses]

    def begin(self) -> None:
        """Print whom the page lets in."""
        echo(self._allowed.sentence("the proxy"))

    def person(self, request: Request) -> Person | None:
        """Return whom the proxy names.

        Raises:
            SignInRefused: somebody else than the proxy names anybody, the headers are unusable, or the person
                is not let in.
        """
        present = [header for header in self._named if header in request.headers]
        if not present:
            return None
        address = request.client.host if request.client else ""
        if not self._is_proxy(address):
            raise SignInRefused(
                f"the header `{present[0]}` came from {address or 'no address'}, which is not the proxy"
            )
        if self._secret:
            given = self._value(request, self._secret_header).encode()
            if not hmac.compare_digest(given, self._secret):
                raise SignInRefused(f"the header `{self._secret_header}` does not have the proxy's secret")
        if self._user.lower() not in present:
            return None
        if not (said := self._value(request, self._user)):
            return None  # so some proxies say that nobody is signed in
        roles = self._value(request, self._roles) if self._roles else ""
        found = [role.strip() for role in roles.split(",")]
        name = checked_name(said)
        person = self._allowed.admit(Person(name, checked_roles(found), "proxy"))
        self._log_once(person)
        return person

    def _log_once(self, person: Person) -> None:
        """Write down who came, at their first request and where their roles have changed."""
        if self._logged.get(person.name) == person.roles:
            return
        if len(self._logged) >= _MOST_LOGGED:
            self._logged.clear()
        self._logged[person.name] = person.roles
        log_sign_in(person)

    def sign_out(self, request: Request, response: Response) -> bool:  # noqa: ARG002
        """Return False: the session is the proxy's."""
        return False

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)

    def _value(self, request: Request, header: str) -> str:
        """Return the value of a header that may be there once, as UTF-8; empty where it is not there."""
        name = header.lower().encode()
        values = [value for each, value in request.headers.raw if each == name]
        if len(values) > 1:
            raise SignInRefused(f"the header `{header}` is there {len(values)} times")
        try:
            return values[0].decode().strip() if values else ""
        except UnicodeDecodeError:
            raise SignInRefused(f"the header `{header}` is not UTF-8") from None


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ConfigError(f"`{text}` is no address or network of the proxy: {error}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_IN_IPV6):
        network = IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ConfigError(f"`{text}` is everybody, not a proxy")
    return network
