"""The options of `aegis approvals serve` about sign-in, and the way to sign in that they ask for."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from aegis_otel.cli.rendering import echo
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.approval.local_user import local_user_name

if TYPE_CHECKING:
    from aegis_otel.cli.approvals.page.guard import Site
    from aegis_otel.cli.approvals.page.sign_in.allowed_people import AllowedPeople
    from aegis_otel.cli.approvals.page.sign_in.interface import SignIn

_Command = TypeVar("_Command", bound=Callable[..., Any])
_LARGEST_SECRET = 4_096
_OPEN_ID = {
    "issuer": ("URL", "", "the OpenID provider, as its metadata names it"),
    "client_id": ("ID", "", "the id of the page at the provider"),
    "client_secret_file": (
        "FILE",
        "",
        "the file with its secret there; or the secret in AEGIS_OIDC_CLIENT_SECRET",
    ),
    "user_claim": ("NAME", "email", "the claim with a person's name"),
    "roles_claim": (
        "NAME",
        "roles",
        "the claim with their roles: a list, or a text with spaces between them",
    ),
    "scope": ("SCOPES", "openid email profile", "what the provider is asked for"),
}
_PROXY = {
    "user_header": ("NAME", "", "the header in which a proxy before the page names a person"),
    "roles_header": ("NAME", "", "the header with their roles, separated by commas"),
    "secret_header": ("NAME", "", "the header with a secret of the proxy"),
    "secret_file": ("FILE", "", "the file with that secret; or the secret in AEGIS_PROXY_SECRET"),
}
_SEVERAL = "can be given several times, and in the variable several are separated by blanks"
_ALLOWED = {
    "allow_user": (
        "GLOB",
        f"who is let in by name: a glob, as in *@example.com; * is everybody; {_SEVERAL}",
    ),
    "allow_role": ("GLOB", f"who is let in by a role: a glob; {_SEVERAL}"),
}


def sign_in_options(command: _Command) -> _Command:
    """Add the options to a command, which gets them all as keyword arguments."""
    for name, (kind, meaning) in reversed(_ALLOWED.items()):
        command = _option(name, kind, (), meaning, multiple=True)(command)
    command = _option(
        *("proxy_address", "ADDRESS", ()),
        f"an address or network that the proxy connects from; {_SEVERAL}",
        multiple=True,
    )(command)
    for prefix, options in (("proxy", _PROXY), ("oidc", _OPEN_ID)):
        for name, (kind, default, meaning) in reversed(options.items()):
            command = _option(f"{prefix}_{name}", kind, default, meaning)(command)
    return command


def _option(
    name: str, kind: str, default: Any, meaning: str, *, multiple: bool = False
) -> Callable[[_Command], _Command]:
    return click.option(
        f"--{name.replace('_', '-')}",
        metavar=kind,
        default=default,
        multiple=multiple,
        envvar=f"AEGIS_{name.upper()}",
        help=f"{meaning[0].upper()}{meaning[1:]}.",
        show_default=bool(default),
        show_envvar=True,
    )


def chosen_sign_in(options: dict[str, Any], site: Site, key: bytes, address: str) -> SignIn:
    """Return the way to sign in that options ask for: by a printed link where they ask for none.

    Args:
        options: The values of `sign_in_options`.
        site: Where people open the page.
        key: Signs cookies: 32 secret bytes. Several processes of one page share it.
        address: The URL at which this process listens.

    Raises:
        ConfigError: they cannot work, or not together.
    """
    from aegis_otel.cli.approvals.page.sign_in.allowed_people import AllowedPeople

    open_id = {name: options[f"oidc_{name}"] for name in _OPEN_ID}
    proxy = {name: options[f"proxy_{name}"] for name in _PROXY}
    addresses = options["proxy_address"]
    for name in _ALLOWED:
        variable = f"AEGIS_{name.upper()}"
        # For click an empty one is none, and so a variable that was never filled in would let everybody in.
        if not options[name] and variable in os.environ:
            raise ConfigError(
                f"{variable} is empty: name whom to let in, as in `*@example.com`, or remove it"
            )
        _check_separation(f"--{name.replace('_', '-')}", variable, options[name])
    allowed = AllowedPeople(tuple(options["allow_user"]), tuple(options["allow_role"]))
    allowed.check_globs()
    has_proxy = bool(proxy["user_header"] or addresses)
    if open_id["issuer"] and has_proxy:
        raise ConfigError(
            "people sign in by OpenID Connect or by a proxy: leave out --oidc-issuer, or --proxy-..."
        )
    for given, needed, table in (
        (open_id, "" if open_id["issuer"] else "--oidc-issuer", _OPEN_ID),
        (proxy, "" if has_proxy else "--proxy-user-header", _PROXY),
    ):
        unused = [name for name, (_, default, _) in table.items() if given[name] != default]
        if needed and unused:
            kind = "oidc" if table is _OPEN_ID else "proxy"
            raise ConfigError(f"--{kind}-{unused[0].replace('_', '-')} does nothing without {needed}")
    if open_id["issuer"]:
        return _open_id_sign_in(open_id, site, key, allowed)
    if has_proxy:
        from aegis_otel.cli.approvals.page.sign_in.proxy import ProxySignIn

        return ProxySignIn(
            proxy["user_header"],
            addresses,
            roles_header=proxy["roles_header"],
            secret_header=proxy["secret_header"],
            secret=secret_of("AEGIS_PROXY_SECRET", proxy["secret_file"]) or "",
            allowed=allowed,
        )
    if not allowed.is_open:
        raise ConfigError(
            "--allow-user and --allow-role need a way to sign in: --oidc-issuer, or --proxy-user-header"
        )
    return _local_sign_in(site, address)


def _check_separation(option: str, variable: str, globs: Sequence[str]) -> None:
    """Check that no glob is a list, which would let in none of the people that it names.

    Raises:
        ConfigError: one of them has a comma.
    """
    for glob in globs:
        if "," in glob:
            raise ConfigError(
                f"{option} is given `{glob}`, and a comma separates nothing there: give the option once for "
                f"each, or separate them by blanks in {variable}; a `?` stands for a comma within a name"
            )


def _local_sign_in(site: Site, address: str) -> SignIn:
    """Return the sign-in of the user of this machine.

    Raises:
        ConfigError: the page can be reached from other machines.
    """
    from aegis_otel.cli.approvals.page.sign_in.local import LocalSignIn

    host = urlsplit(address).hostname or ""
    if not ipaddress.ip_address(host).is_loopback or site.origin != address:
        raise ConfigError(
            "a page for others needs a way to sign in: --oidc-issuer, or --proxy-user-header and "
            "--proxy-address (docs/approvals-production.md)"
        )
    return LocalSignIn(
        local_user_name(),
        site.origin,
        lambda link: echo(f"Open {link}\nThe link works once, within ten minutes."),
    )


def _open_id_sign_in(options: dict[str, str], site: Site, key: bytes, allowed: AllowedPeople) -> SignIn:
    if allowed.is_open:  # at some providers, everybody in the world has an account
        raise ConfigError(
            f"say which of the people that {options['issuer']} signs in are let in: "
            "--allow-user '*@example.com', --allow-role finance, or --allow-user '*' for all of them"
        )
    from aegis_otel.cli.approvals.page.sign_in.claims import ClaimNames
    from aegis_otel.cli.approvals.page.sign_in.open_id import REDIRECT_PATH, OpenIdSignIn
    from aegis_otel.cli.approvals.page.sign_in.provider import Provider

    secret = secret_of("AEGIS_OIDC_CLIENT_SECRET", options["client_secret_file"])
    if not secret:
        click.echo(
            "Warning: without --oidc-client-secret-file or AEGIS_OIDC_CLIENT_SECRET, sign-in works only if "
            "the provider has the page as a public client.",
            err=True,
        )
    provider = Provider(
        *(options["issuer"], options["client_id"], secret),
        f"{site.origin}{REDIRECT_PATH}",
        scope=options["scope"],
    )
    names = ClaimNames(options["user_claim"], options["roles_claim"])
    return OpenIdSignIn(provider, names, key=key, secure=site.is_secure, allowed=allowed)


def secret_of(variable: str, path: str) -> str | None:
    """Return a secret from a file, or else from a variable of the environment; None where it is in neither.

    Raises:
        ConfigError: the file is empty, open to others, or no text.
        OSError: the file cannot be read.
    """
    if not path:
        return os.environ.get(variable, "").strip() or None
    from aegis_otel.audit.files import read_secret

    try:
        secret = read_secret(Path(path), "the secret", _LARGEST_SECRET).decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise ConfigError(f"the secret `{path}` is empty, or no text")
    return secret
