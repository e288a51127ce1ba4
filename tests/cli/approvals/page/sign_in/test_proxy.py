"""Sign-in by the headers of a trusted proxy."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from aegis_otel.cli.approvals.page.sign_in.allowed_people import AllowedPeople
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.cli.approvals.page.sign_in.proxy import ProxySignIn
from aegis_otel.errors import ConfigError
from aegis_otel.runtime.approval.answer_desk import Person

SECRET = "0123456789abcdef"


def request(address: str | None = "10.0.7.5", *headers: tuple[str, str | bytes]) -> Request:
    raw = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    ]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": raw}
    return Request({**scope, "client": None if address is None else (address, 5000)})


def sign_in(**options: Any) -> ProxySignIn:
    own: dict[str, Any] = {"roles_header": "X-Forwarded-Groups"}
    return ProxySignIn("X-Forwarded-Email", ["10.0.7.5", "192.168.0.0/24", "::1"], **{**own, **options})


USER = ("X-Forwarded-Email", "Ann@Example.com")


@pytest.mark.parametrize("address", ["10.0.7.5", "192.168.0.77", "::1", "::ffff:10.0.7.5"])
def test_the_proxy_says_who_it_is(address: str) -> None:
    person = sign_in().person(request(address, USER, ("X-Forwarded-Groups", "staff, finance team,,staff")))
    assert person == Person("ann@example.com", ("finance team", "staff"), "proxy")
    assert sign_in().person(request(address, USER)) == Person("ann@example.com", (), "proxy")


def test_who_comes_is_logged_once_and_again_with_other_roles(caplog: pytest.LogCaptureFixture) -> None:
    """As each sign-in at a provider is: name and roles, not each request."""
    caplog.set_level(logging.INFO, "aegis_otel.approvals")
    proxy = sign_in()
    for roles in ("staff", "staff", "finance, staff"):
        proxy.person(request("10.0.7.5", USER, ("X-Forwarded-Groups", roles)))
    said = "ann@example.com has signed in at the page of approvals, with roles:"
    assert caplog.messages == [f"{said} staff", f"{said} finance, staff"]


@pytest.mark.parametrize(
    "address", ["10.0.7.6", "192.168.1.0", "127.0.0.1", "::2", "", None, "unix:", "10.0.7.5.evil"]
)
@pytest.mark.parametrize("header", ["X-Forwarded-Email", "x-forwarded-groups"])
def test_anybody_else_says_nothing(address: str | None, header: str) -> None:
    """A forged header is refused, wherever it comes from."""
    with pytest.raises(SignInRefused, match="which is not the proxy"):
        sign_in().person(request(address, (header, "finance")))


def test_who_names_nobody_is_nobody() -> None:
    assert sign_in().person(request("10.0.7.6")) is None
    assert sign_in().person(request("10.0.7.5")) is None
    assert sign_in().person(request("10.0.7.5", ("X-Forwarded-Groups", "finance"))) is None
    assert sign_in().person(request("10.0.7.5", ("X-Forwarded-Email", " "))) is None
    with pytest.raises(SignInRefused):
        sign_in().person(request("10.0.7.6", ("X-Forwarded-Email", "")))


@pytest.mark.parametrize("network", ["::ffff:10.0.7.0/120", "::ffff:10.0.7.5", "10.0.7.0/24"])
def test_an_address_of_ipv4_in_the_form_of_ipv6(network: str) -> None:
    proxy = ProxySignIn("X-Forwarded-Email", [network])
    for address in ("10.0.7.5", "::ffff:10.0.7.5"):
        assert proxy.person(request(address, USER))
    for address in ("10.0.8.5", "::ffff:10.0.8.5", "::a00:705"):
        with pytest.raises(SignInRefused):
            proxy.person(request(address, USER))


def test_all_of_ipv4_in_the_form_of_ipv6_is_everybody() -> None:
    with pytest.raises(ConfigError, match="is everybody"):
        ProxySignIn("X-Forwarded-Email", ["::ffff:0.0.0.0/96"])


def test_other_headers_of_addresses_are_nothing() -> None:
    forged = (("X-Forwarded-For", "10.0.7.5"), ("X-Real-IP", "10.0.7.5"), ("Forwarded", "for=10.0.7.5"))
    with pytest.raises(SignInRefused):
        sign_in().person(request("10.9.9.9", USER, *forged))


@pytest.mark.parametrize("given", [(), ("",), ("wrong",), (SECRET[:-1],), (SECRET, SECRET)], ids=str)
def test_a_secret_of_the_proxy(given: tuple[str, ...]) -> None:
    proxy = sign_in(secret_header="X-Proxy-Secret", secret=SECRET)
    with pytest.raises(SignInRefused) as error:
        proxy.person(request("10.0.7.5", USER, *(("X-Proxy-Secret", each) for each in given)))
    assert SECRET not in str(error.value)
    assert proxy.person(request("10.0.7.5", USER, ("X-Proxy-Secret", SECRET)))
    assert proxy.person(request("10.0.7.5", ("X-Proxy-Secret", SECRET))) is None


@pytest.mark.parametrize("value", ["ann,bob", "an\x1bn", b"\xff", b"an\xe2\x80\xaen", "x" * 257], ids=repr)
def test_a_name_that_could_be_taken_for_another(value: str | bytes) -> None:
    with pytest.raises(SignInRefused):
        sign_in().person(request("10.0.7.5", ("X-Forwarded-Email", value)))


def test_two_names() -> None:
    with pytest.raises(SignInRefused, match="2 times"):
        sign_in().person(request("10.0.7.5", USER, ("X-Forwarded-Email", "bob@example.com")))


def test_a_name_in_another_script() -> None:
    assert sign_in().person(request("10.0.7.5", ("X-Forwarded-Email", "Zoë"))) == Person("Zoë", (), "proxy")


def test_who_is_let_in() -> None:
    """By name or by a role; others are refused, also where the proxy names them."""
    proxy = sign_in(allowed=AllowedPeople(("*@example.com",), ("finance*",)))
    assert proxy.person(request("10.0.7.5", USER))
    eve = ("X-Forwarded-Email", "eve@elsewhere.example.com")
    assert proxy.person(request("10.0.7.5", eve, ("X-Forwarded-Groups", "finance team")))
    for roles in ("", "staff, finan"):
        with pytest.raises(SignInRefused, match="may not use this page"):
            proxy.person(request("10.0.7.5", eve, ("X-Forwarded-Groups", roles)))


def test_the_session_is_the_proxys() -> None:
    proxy = sign_in()
    assert proxy.start is None
    assert not proxy.routes
    assert proxy.sign_out(request("10.0.7.5", USER), Response()) is False


@pytest.mark.parametrize(
    "options",
    [
        {"addresses": []},
        {"addresses": ["proxy.example.com"]},
        {"addresses": ["10.0.7.5/24"]},
        {"addresses": ["0.0.0.0/0"]},
        {"addresses": ["::/0"]},
        {"user_header": "X Email"},
        {"user_header": "X_Email"},
        {"roles_header": "x-forwarded-email"},
        {"secret_header": "X-Secret"},
        {"secret": SECRET},
        {"secret_header": "X-Secret", "secret": "short"},
    ],
    ids=str,
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ProxySignIn(**{"user_header": "X-Forwarded-Email", "addresses": ["10.0.7.5"], **options})
