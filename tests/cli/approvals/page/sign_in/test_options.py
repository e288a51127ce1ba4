"""The options of `aegis approvals serve` about sign-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from aegis_otel.cli.approvals.page.guard import Site, read_site
from aegis_otel.cli.approvals.page.sign_in.interface import SignIn
from aegis_otel.cli.approvals.page.sign_in.local import LocalSignIn
from aegis_otel.cli.approvals.page.sign_in.open_id import OpenIdSignIn
from aegis_otel.cli.approvals.page.sign_in.options import chosen_sign_in, secret_of, sign_in_options
from aegis_otel.cli.approvals.page.sign_in.proxy import ProxySignIn
from aegis_otel.errors import ConfigError

SITE = read_site("https://approvals.example.com")
STAFF = ("--allow-user", "*@example.com")
PROVIDER = ("--oidc-issuer", "https://login.example.com", "--oidc-client-id", "page")
OPEN_ID = (*PROVIDER, *STAFF)
PROXY = ("--proxy-address", "10.0.7.5", "--proxy-user-header", "X-Forwarded-Email")


def chosen(*arguments: str, site: Site = SITE, **environment: str) -> SignIn:
    found: list[SignIn] = []

    @click.command()
    @sign_in_options
    def command(**options: Any) -> None:
        found.append(chosen_sign_in(options, site, bytes(32), "http://127.0.0.1:8484"))

    result = CliRunner().invoke(command, arguments, env=environment)
    if result.exception is not None:
        raise result.exception
    return found[0]


def test_the_user_of_this_machine() -> None:
    """Signs in by a link, at a page that no other machine can reach."""
    assert isinstance(chosen(site=read_site("http://127.0.0.1:8484")), LocalSignIn)
    with pytest.raises(ConfigError, match="needs a way to sign in"):
        chosen()


def test_open_id() -> None:
    assert isinstance(chosen(*OPEN_ID), OpenIdSignIn)
    environment = {"AEGIS_OIDC_ISSUER": "https://login.example.com", "AEGIS_OIDC_CLIENT_ID": "page"}
    assert isinstance(chosen(*STAFF, **environment), OpenIdSignIn)


def test_a_proxy() -> None:
    assert isinstance(chosen(*PROXY), ProxySignIn)
    several = {"AEGIS_PROXY_ADDRESS": "10.0.7.5 10.0.8.0/24", "AEGIS_PROXY_USER_HEADER": "X-Forwarded-Email"}
    assert isinstance(chosen(**several), ProxySignIn)


@pytest.mark.parametrize(
    "arguments",
    [
        (*OPEN_ID, *PROXY),
        (*PROVIDER[:2], *STAFF),
        PROXY[:2],
        PROXY[2:],
        (*PROXY, "--proxy-secret-header", "X-Secret"),
        (*OPEN_ID, "--oidc-scope", "email"),
        ("--allow-user", "ann@example.com"),
        (*OPEN_ID, "--allow-role", ""),
        PROVIDER,
        PROVIDER[2:],
        ("--oidc-client-secret-file", "secret"),
        ("--proxy-roles-header", "X-Groups"),
        ("--proxy-secret-file", "secret"),
        (*OPEN_ID, "--proxy-secret-header", "X-Secret"),
        (*PROXY, "--oidc-user-claim", "oid"),
    ],
    ids=" ".join,
)
def test_what_cannot_work_together(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        chosen(*arguments)


def test_who_is_let_in_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Of those whom a provider signs in; a page that lets in everybody says it, too."""
    for arguments, environment, said in (
        (OPEN_ID, {}, 'these are let in: users "*@example.com".'),
        ((*OPEN_ID, "--allow-role", "finance? eu"), {}, 'users "*@example.com"; roles "finance? eu".'),
        (PROVIDER, {"AEGIS_ALLOW_USER": "*@example.com bob@x.org"}, 'users "*@example.com", bob@x.org.'),
        (
            (*PROVIDER, "--allow-user", "*"),
            {},
            "Everybody whom https://login.example.com signs in is let in.",
        ),
        ((*PROVIDER, "--allow-role", "a\x1b"), {}, 'roles "a\\u001b".'),
        (PROXY, {}, "Everybody whom the proxy signs in is let in."),
        ((*PROXY, *STAFF), {}, 'whom the proxy signs in, these are let in: users "*@example.com".'),
    ):
        chosen(*arguments, **environment).begin()
        assert capsys.readouterr().out.endswith(f"{said}\n")


@pytest.mark.parametrize("value", ["", "  "], ids=["empty", "blank"])
@pytest.mark.parametrize("variable", ["AEGIS_ALLOW_USER", "AEGIS_ALLOW_ROLE"])
@pytest.mark.parametrize("sign_in", [PROXY, OPEN_ID[:4]], ids=["proxy", "provider"])
def test_an_empty_variable_lets_nobody_in(sign_in: tuple[str, ...], variable: str, value: str) -> None:
    """It would be one that was never filled in; so the page does not start."""
    with pytest.raises(ConfigError, match=f"{variable} is empty"):
        chosen(*sign_in, **{variable: value})


@pytest.mark.parametrize("sign_in", [PROXY, PROVIDER], ids=["proxy", "provider"])
@pytest.mark.parametrize("option", ["--allow-user", "--allow-role"])
def test_a_comma_separates_nothing(sign_in: tuple[str, ...], option: str) -> None:
    """One that is meant to would let in none of those that are named, so the page does not start."""
    variable = f"AEGIS_{option.strip('-').replace('-', '_').upper()}"
    for arguments, environment in (((option, "b@x,c@x"), {}), ((), {variable: "a@x b@x,c@x"})):
        with pytest.raises(ConfigError, match=f"{option} is given `b@x,c@x`.*by blanks in {variable}"):
            chosen(*sign_in, *arguments, **environment)
    assert chosen(*sign_in, **{variable: "a@x b@x c@x"})


def test_the_secret_of_the_proxy() -> None:
    more = ("--proxy-secret-header", "X-Secret")
    assert isinstance(chosen(*PROXY, *more, AEGIS_PROXY_SECRET="0123456789abcdef"), ProxySignIn)


def test_a_secret_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file comes first; it has to be closed to others; its last newline is none of the secret."""
    monkeypatch.setenv("A_SECRET", "of the variable")
    file = tmp_path / "secret"
    file.write_text("of the file\n")
    file.chmod(0o600)
    assert secret_of("A_SECRET", str(file)) == "of the file"
    assert secret_of("A_SECRET", "") == "of the variable"
    monkeypatch.setenv("A_SECRET", "of the variable\n")
    assert secret_of("A_SECRET", "") == "of the variable", "as of the file"
    assert secret_of("ANOTHER_SECRET", "") is None
    for content, mode in ((b"\n", 0o600), (b"\xff", 0o600), (b"of the file", 0o640)):
        file.write_bytes(content)
        file.chmod(mode)
        with pytest.raises(ConfigError) as error:
            secret_of("A_SECRET", str(file))
        assert "of the file" not in str(error.value)


def test_every_option_is_explained() -> None:
    @click.command()
    @sign_in_options
    def command(**options: Any) -> None:
        pass

    for parameter in command.params:
        assert isinstance(parameter, click.Option)
        assert parameter.help
        assert parameter.envvar == f"AEGIS_{str(parameter.name).upper()}"
