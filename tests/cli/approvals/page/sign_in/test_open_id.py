"""Sign-in by OpenID Connect, against a provider that is a process of its own."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from aegis_otel.cli.approvals.page.sign_in import open_id
from aegis_otel.cli.approvals.page.sign_in import provider as provider_module
from aegis_otel.cli.approvals.page.sign_in.allowed_people import EVERYBODY, AllowedPeople
from aegis_otel.cli.approvals.page.sign_in.claims import ClaimNames
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.cli.approvals.page.sign_in.open_id import REDIRECT_PATH, SESSION_S, OpenIdSignIn
from aegis_otel.cli.approvals.page.sign_in.provider import Attempt, Provider, ProviderFailed
from aegis_otel.errors import ConfigError
from tests.support import identity_provider
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET

PAGE = "http://127.0.0.1:8765"
KEY = bytes(range(32))
NAMES = ClaimNames(roles="groups")
NOT_BEGUN = "the answer is to no sign-in that was begun in this browser in the last ten minutes"


@pytest.fixture(scope="module")
def running_provider() -> Iterator[identity_provider.Provider]:
    with identity_provider.running(PAGE + REDIRECT_PATH) as provider:
        yield provider


@pytest.fixture
def provider(running_provider: identity_provider.Provider) -> identity_provider.Provider:
    running_provider.misbehave()
    return running_provider


class Page:
    """A page that says who is signed in, and what it was told to write down."""

    def __init__(
        self,
        issuer: str,
        *,
        names: ClaimNames = NAMES,
        secret: str | None = CLIENT_SECRET,
        client_id: str = CLIENT_ID,
        secure: bool = False,
        key: bytes = KEY,
        allowed: AllowedPeople = EVERYBODY,
        url: str = PAGE,
    ) -> None:
        self.recorded: list[str] = []
        self.time = time.time()
        self.sign_in = OpenIdSignIn(
            Provider(issuer, client_id, secret, url + REDIRECT_PATH, now=lambda: self.time),
            *(names,),
            key=key,
            secure=secure,
            allowed=allowed,
            now=lambda: self.time,
        )
        app = Starlette(
            routes=[
                Route("/{path:path}", self._who, methods=["GET"]),
                Route("/out", self._out, methods=["POST"]),
            ]
        )
        app.router.routes[:0] = self.sign_in.routes
        app.add_exception_handler(SignInRefused, self._refuse)
        self.app = app
        self.browser = self.new_browser()

    def new_browser(self) -> TestClient:
        return TestClient(self.app, base_url=PAGE, follow_redirects=False)

    async def _who(self, request: Request) -> Response:
        person = self.sign_in.person(request)
        return JSONResponse(None if person is None else [person.name, *person.roles, person.sign_in])

    async def _out(self, request: Request) -> Response:
        response = PlainTextResponse("bye")
        assert self.sign_in.sign_out(request, response)
        return response

    async def _refuse(self, request: Request, error: Exception) -> Response:
        self.recorded.append(str(error))
        return PlainTextResponse(str(error), 403)

    def who(self, browser: TestClient | None = None) -> Any:
        return (browser or self.browser).get("/").json()

    def begin(self, wanted: str = "/") -> str:
        """Return the address at the provider."""
        response = self.browser.get("/sign-in/start", params={"next": wanted})
        assert response.status_code == 302, response.text
        return str(response.headers["location"])

    def go(
        self, provider: identity_provider.Provider, user: str = "ann", wanted: str = "/"
    ) -> httpx2.Response:
        """Sign in, up to the response that the page gives to what comes back."""
        return self.browser.get(provider.sign_in(self.begin(wanted), user))


def refused(page: Page, provider: identity_provider.Provider, user: str = "ann") -> str:
    """Sign in, which is refused; return what was written down of it."""
    response = page.go(provider, user)
    assert response.status_code == 403, response.headers
    assert page.who() is None
    (why,) = page.recorded
    page.recorded.clear()
    return why


def test_somebody_signs_in_and_out(provider: identity_provider.Provider) -> None:
    page = Page(provider.issuer)
    assert page.who() is None
    response = page.go(provider, wanted="/questions/7?all=1")
    assert response.status_code == 303
    assert response.headers["location"] == "/questions/7?all=1"
    assert page.who() == ["ann@example.com", "finance", "staff", "oidc"]
    kept = dict(page.browser.cookies)
    assert list(kept) == ["aegis-session"], "the cookie of the sign-in is gone"
    assert page.browser.post("/out").text == "bye"
    assert not page.browser.cookies
    assert page.who() is None
    thief = page.new_browser()
    thief.cookies.update(kept)
    assert thief.get("/").status_code == 403
    assert page.recorded == ["the session of `ann@example.com` was ended by a sign-out"]


def test_who_is_let_in(provider: identity_provider.Provider) -> None:
    """Others get no session, and one of before counts no more where the page lets fewer people in."""
    page = Page(provider.issuer, allowed=AllowedPeople(roles=("finance",)))
    page.go(provider)
    assert page.who() == ["ann@example.com", "finance", "staff", "oidc"]
    page.browser.cookies.clear()
    assert "may not use this page" in refused(page, provider, "bob")
    before = Page(provider.issuer)
    before.go(provider, "bob")
    page.browser.cookies.update(before.browser.cookies)
    assert page.browser.get("/").status_code == 403


@pytest.mark.parametrize(
    "other",
    [
        {"issuer": "https://staging.example.com"},
        {"client_id": "another"},
        {"names": ClaimNames("preferred_username", "groups")},
        {"names": ClaimNames("email", "roles")},
        {"url": "http://127.0.0.1:8766"},
    ],
    ids=["issuer", "client", "user", "roles", "address"],
)
def test_a_session_counts_at_its_own_page_alone(
    provider: identity_provider.Provider, other: dict[str, Any]
) -> None:
    """Also where both pages have the same key; other processes of the same page take it."""
    first = Page(provider.issuer)
    first.go(provider)
    same, another = Page(provider.issuer), Page(**{"issuer": provider.issuer, **other})
    for page in (same, another):
        page.browser.cookies.update(first.browser.cookies)
    assert same.who() == ["ann@example.com", "finance", "staff", "oidc"]
    assert another.browser.get("/").status_code == 403
    assert another.recorded == ["the cookie `aegis-session` is not signed by this page"]


def test_the_request_to_the_provider(provider: identity_provider.Provider) -> None:
    """Code flow with PKCE by S256, and a `state` and `nonce` of its own each time."""
    page = Page(provider.issuer)
    first, second = (parse_qs(urlsplit(page.begin()).query) for _ in range(2))
    assert first["response_type"] == ["code"]
    assert first["scope"] == ["openid email profile"]
    assert first["redirect_uri"] == [PAGE + REDIRECT_PATH]
    assert first["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 43
        assert first[name] != second[name]


@pytest.mark.parametrize("secure", [False, True])
def test_cookies_are_for_the_page_alone(provider: identity_provider.Provider, secure: bool) -> None:
    page = Page(provider.issuer, secure=secure)
    started = page.browser.get("/sign-in/start")
    back = provider.sign_in(started.headers["location"])
    for name, value in started.cookies.items():
        page.browser.cookies.set(name, value, domain="127.0.0.1")  # which a browser does not send by http
    finished = page.browser.get(back)
    set_by = [*started.headers.get_list("set-cookie"), *finished.headers.get_list("set-cookie")]
    names = [cookie.partition("=")[0].removeprefix("__Host-") for cookie in set_by]
    assert names == [names[0], "aegis-session", names[0]]
    assert re.fullmatch(r"aegis-sign-in-[\w-]{16}", names[0])
    for cookie in set_by:
        flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} < flags
        assert not any(flag.startswith("domain") for flag in flags), "subdomains would get it"
        assert ("secure" in flags) is secure
        assert cookie.startswith("__Host-") is secure
    assert "ann" not in str(finished.headers), "names are for the page"


def test_a_session_is_short(provider: identity_provider.Provider) -> None:
    page = Page(provider.issuer)
    page.go(provider)
    page.time += SESSION_S - 1
    assert page.who()
    page.time += 2
    assert page.who() is None
    assert not page.recorded, "that is no attack"


def test_a_session_is_new_at_each_sign_in(provider: identity_provider.Provider) -> None:
    """Who plants a cookie in a browser gets nothing: the session has another id."""
    page = Page(provider.issuer)
    page.go(provider, "bob")
    planted = page.browser.cookies["aegis-session"]
    page.go(provider, "ann")
    assert page.browser.cookies["aegis-session"] != planted
    other = page.new_browser()
    other.cookies.set("aegis-session", planted)
    assert page.who(other) == ["bob@example.com", "oidc"], "the planted one is still its owner's, and no more"


@pytest.mark.parametrize("key", [b"", bytes(32)])
def test_a_cookie_of_somebody_else(provider: identity_provider.Provider, key: bytes) -> None:
    """A session that another key signed, a changed one, and a cookie of another kind are no session."""
    page, other = Page(provider.issuer), Page(provider.issuer, key=key)
    other.go(provider)
    page.go(provider)
    right = page.browser.cookies["aegis-session"]
    page.begin()
    (attempt,) = [value for name, value in page.browser.cookies.items() if "sign-in" in name]
    for wrong in (
        other.browser.cookies["aegis-session"],
        right[:-2] + "AA",
        "A" + right,
        attempt,
        "x",
        "a.b",
    ):
        browser = page.new_browser()
        browser.cookies.set("aegis-session", wrong)
        assert browser.get("/").status_code == 403
        assert page.recorded.pop() == "the cookie `aegis-session` is not signed by this page"


def test_two_processes_of_one_page_share_sessions(provider: identity_provider.Provider) -> None:
    """One begins the sign-in, another one ends it, and both know the session."""
    first, second = Page(provider.issuer), Page(provider.issuer)
    back = provider.sign_in(first.begin())
    second.browser.cookies.update(first.browser.cookies)
    assert second.browser.get(back).status_code == 303
    first.browser.cookies.update(second.browser.cookies)
    assert first.who() == second.who() == ["ann@example.com", "finance", "staff", "oidc"]


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "another-program"}, "is for another audience than this page"),
        ({"aud": ["another-program"], "azp": CLIENT_ID}, "is for another audience than this page"),
        ({"aud": [CLIENT_ID, "another-program"]}, "is for another party than this page"),
        (
            {"aud": [CLIENT_ID, "another-program"], "azp": "another-program"},
            "is for another party than this page",
        ),
        ({"aud": []}, "is for another audience than this page"),
        ({"aud": None}, "is for another audience than this page"),
        ({"aud": {"value": CLIENT_ID}}, "is for another audience than this page"),
        ({"iss": "http://127.0.0.1:1"}, "is from another issuer"),
        ({"iss": None}, "is from another issuer"),
        ({"nonce": "of another sign-in"}, "is for another sign-in"),
        ({"nonce": None}, "is for another sign-in"),
        ({"nonce": ""}, "is for another sign-in"),
        ({"exp": -120}, "has expired, or has no end"),
        ({"exp": None}, "has expired, or has no end"),
        ({"exp": "9999999999"}, "has expired, or has no end"),
        ({"iat": 86_400}, "was issued in the future, or at no time"),
        ({"iat": None}, "was issued in the future, or at no time"),
        ({"nbf": 86_400}, "is not valid yet"),
        ({"at_hash": "of another token"}, "is for another access token"),
        ({"sub": None}, "has no valid `sub`"),
        ({"sub": 7}, "has no valid `sub`"),
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_sign_in(
    provider: identity_provider.Provider, claims: dict[str, Any], why: str
) -> None:
    """Refused, recorded, and nobody is signed in; times are in seconds from now."""
    now = int(time.time())
    times = {"exp", "iat", "nbf"}
    provider.misbehave(claims={k: v + now if k in times and type(v) is int else v for k, v in claims.items()})
    assert refused(Page(provider.issuer), provider) == f"the provider's token {why}"


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("none", "unsupported_algorithm"),
        ("hs256", "unsupported_algorithm"),
        ("client_secret", "unsupported_algorithm"),
        ("stranger", "bad_signature"),
        ("unknown", "invalid_key_id"),
    ],
)
def test_a_token_that_is_not_signed_by_the_provider(
    provider: identity_provider.Provider, signature: str, why: str
) -> None:
    """`none` and `HS256` are refused, though the provider's metadata has them."""
    provider.misbehave(signature=signature)
    assert refused(Page(provider.issuer), provider) == (
        f"the provider's token is not signed as it has to be ({why})"
    )


@pytest.mark.parametrize(
    "token", [{"id_token": None}, {"id_token": ""}, {"id_token": "a.b.c"}, {"id_token": 7}], ids=str
)
def test_no_token_at_all(provider: identity_provider.Provider, token: dict[str, Any]) -> None:
    provider.misbehave(token=token)
    assert refused(Page(provider.issuer), provider).startswith("the provider")


def test_other_keys_and_algorithms(provider: identity_provider.Provider) -> None:
    """A token by ES256, and one by a key that the provider did not have before."""
    page = Page(provider.issuer)
    for signature in ("own", "es256", "new", "own"):
        provider.misbehave(signature=signature)
        assert page.go(provider).status_code == 303


def test_a_token_by_the_audience_of_several(provider: identity_provider.Provider) -> None:
    provider.misbehave(claims={"aud": [CLIENT_ID, "another-program"], "azp": CLIENT_ID})
    assert Page(provider.issuer).go(provider).status_code == 303


def test_what_comes_back_counts_for_the_browser_that_began(provider: identity_provider.Provider) -> None:
    """Nobody can have somebody else sign in to their account, and no answer counts twice."""
    page = Page(provider.issuer)
    attackers = provider.sign_in(page.begin(), "bob")
    victim = page.new_browser()
    assert victim.get(attackers).status_code == 403
    assert page.recorded.pop() == NOT_BEGUN
    victim.get("/sign-in/start")
    assert victim.get(attackers).status_code == 403
    assert page.recorded.pop() == NOT_BEGUN
    own = provider.sign_in(victim.get("/sign-in/start").headers["location"], "bob")
    state = parse_qs(urlsplit(own).query)["state"][0]
    assert victim.get(own.replace(state, f"{state[:16]}{state[17:]}x")).status_code == 403
    assert page.recorded.pop() == NOT_BEGUN, "by its cookie's name alone"
    assert page.who(victim) is None

    cookies = dict(page.browser.cookies)
    assert page.browser.get(attackers).status_code == 303
    again = page.new_browser()
    again.cookies.update(cookies)
    assert again.get(attackers).status_code == 403
    assert page.recorded.pop() == "the answer to this sign-in was given before"
    restarted = Page(provider.issuer)  # which remembers nothing; the provider does
    restarted.browser.cookies.update(cookies)
    assert restarted.browser.get(attackers).status_code == 403
    assert restarted.recorded == ["the provider refuses the code: invalid_grant"]


def test_two_tabs_that_sign_in_at_once(provider: identity_provider.Provider) -> None:
    """Each has a cookie of its own, so they may come back in any order."""
    page = Page(provider.issuer)
    begun = [provider.sign_in(page.begin(f"/questions/{number}")) for number in range(3)]
    for number in (1, 2, 0):
        response = page.browser.get(begun[number])
        assert (response.status_code, response.headers["location"]) == (303, f"/questions/{number}")
    assert list(page.browser.cookies) == ["aegis-session"]


def test_a_browser_has_few_cookies_of_sign_ins(provider: identity_provider.Provider) -> None:
    """Those that were begun first, and those that are none, go: all of them are sent with each request."""
    page = Page(provider.issuer)
    page.browser.cookies.set("aegis-sign-in-x", "none of this page", domain="127.0.0.1")
    begun = []
    for _ in range(9):
        begun.append(page.begin("/" + secrets.token_urlsafe(500)))
        page.time += 1
    assert len(page.browser.cookies) == 5
    assert sum(len(value) for value in page.browser.cookies.values()) < 8_000
    assert page.browser.get(provider.sign_in(begun[3])).status_code == 403
    assert page.browser.get(provider.sign_in(begun[4])).status_code == 303


def test_a_code_that_was_begun_with_another_verifier(provider: identity_provider.Provider) -> None:
    """PKCE: a code that somebody has read on its way is worth nothing in another sign-in."""
    page = Page(provider.issuer)
    stolen = parse_qs(urlsplit(provider.sign_in(page.begin(), "ann")).query)["code"][0]
    own = provider.sign_in(page.begin(), "bob")
    state = parse_qs(urlsplit(own).query)["state"][0]
    assert page.browser.get(REDIRECT_PATH, params={"code": stolen, "state": state}).status_code == 403
    assert page.recorded == ["the provider refuses the code: invalid_grant"]
    assert page.who() is None


def test_a_sign_in_that_takes_too_long(provider: identity_provider.Provider) -> None:
    page = Page(provider.issuer)
    back = provider.sign_in(page.begin())
    page.time += 601
    assert page.browser.get(back).status_code == 403


@pytest.mark.parametrize(
    "query", ["", "code=x", "state=x", "state=%C3%A9&code=x", "error=%1b[2J", "state=a&state=b"]
)
def test_what_comes_back_is_anything(provider: identity_provider.Provider, query: str) -> None:
    page = Page(provider.issuer)
    page.begin()
    response = page.browser.get(f"{REDIRECT_PATH}?{query}")
    assert response.status_code == 403
    assert "\x1b" not in response.text


def test_somebody_who_does_not_want_to(provider: identity_provider.Provider) -> None:
    page = Page(provider.issuer)
    assert page.browser.get(provider.sign_in(page.begin(), "")).status_code == 403
    assert page.recorded == ["the provider signs nobody in: access_denied"]


def test_the_issuer_of_the_answer(provider: identity_provider.Provider) -> None:
    """RFC 9207: where the provider names itself there, it must be this one."""
    page = Page(provider.issuer)
    provider.misbehave(iss=provider.issuer)
    assert page.go(provider).status_code == 303
    back = provider.sign_in(page.begin())
    assert page.browser.get(back.partition("&iss=")[0]).status_code == 403
    assert page.browser.get(back).status_code == 403
    assert page.recorded == [
        "the answer to the sign-in is from another issuer",
        "the answer to this sign-in was given before",
    ]
    page.recorded.clear()
    provider.misbehave(iss="https://another.example.com")
    assert refused(Page(provider.issuer), provider) == "the answer to the sign-in is from another issuer"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example.com",
        "/\\evil.example.com",
        "https://evil.example.com",
        "/a\\b",
        "/a b",
        "evil",
        "",
        "/a\r\nb",
    ],
)
def test_nobody_is_sent_elsewhere(provider: identity_provider.Provider, wanted: str) -> None:
    response = Page(provider.issuer).go(provider, wanted=wanted)
    assert response.headers["location"] == "/"


# --- who somebody is ---


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (ClaimNames(roles="groups"), ["finance", "staff"]),
        (ClaimNames(roles="scope_of_roles"), ["finance", "staff"]),
        (ClaimNames(roles="realm_access.roles"), ["payer"]),
        (ClaimNames(roles="https://example.com/roles"), ["custom"]),
        (ClaimNames(roles="nothing"), []),
        (ClaimNames(roles="email.roles"), []),
    ],
)
def test_roles_from_a_claim(
    provider: identity_provider.Provider, names: ClaimNames, roles: list[str]
) -> None:
    page = Page(provider.issuer, names=names)
    page.go(provider)
    assert page.who() == ["ann@example.com", *roles, "oidc"]


@pytest.mark.parametrize(
    "roles", [7, {"finance": True}, ["finance", 7], [["finance"]], ["x" * 257], ["x"] * 1001], ids=str
)
def test_roles_of_another_kind(provider: identity_provider.Provider, roles: Any) -> None:
    provider.misbehave(claims={"groups": roles})
    assert "role" in refused(Page(provider.issuer), provider) or "claim `groups`"


def test_more_roles_than_a_cookie_has_room_for(provider: identity_provider.Provider) -> None:
    provider.misbehave(claims={"groups": [f"{number:x}" + "0123456789abcdef" * 2 for number in range(200)]})
    page = Page(provider.issuer)
    assert page.go(provider).status_code == 303, "these are alike"
    provider.misbehave(claims={"groups": [secrets.token_hex(16) for _ in range(200)]})
    assert "have the provider send fewer" in refused(Page(provider.issuer), provider)


def test_an_address_that_nobody_verified(provider: identity_provider.Provider) -> None:
    """Who may enter any address at the provider is not its owner."""
    page = Page(provider.issuer)
    assert refused(page, provider, "eve") == (
        "the provider does not say that the address `ann@example.com` is verified"
    )
    provider.misbehave(claims={"email_verified": "true"})  # as some send it
    assert page.go(provider, "eve").status_code == 303


@pytest.mark.parametrize(
    "name", ["", " ann", "ann\n", "an\u202en", "ann, bob", "ann,bob", "x" * 257, 7, ["ann"]], ids=repr
)
def test_a_name_that_could_be_taken_for_another(provider: identity_provider.Provider, name: Any) -> None:
    provider.misbehave(claims={"preferred_username": name})
    page = Page(provider.issuer, names=ClaimNames(user="preferred_username"))
    why = refused(page, provider)
    assert "name" in why
    assert "\u202e" not in why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("token", "userinfo", "name"),
    [
        ({"email": "cfo@example.com", "email_verified": None}, {"email": "ann@example.com"}, None),
        ({"email": None, "email_verified": True}, {"email": "cfo@example.com", "email_verified": None}, None),
        ({"email": None, "email_verified": True}, {"email": "c@example.com", "email_verified": False}, None),
        ({"email_verified": False}, {}, None),
        ({"email": "cfo@example.com"}, {"email_verified": False}, "cfo@example.com"),
        ({"email_verified": None}, {}, "ann@example.com"),
        ({"email": None, "email_verified": None}, {}, "ann@example.com"),
    ],
)
def test_an_address_and_whether_it_is_verified_are_from_one_answer(
    provider: identity_provider.Provider, token: dict[str, Any], userinfo: dict[str, Any], name: str | None
) -> None:
    """Of token and userinfo, which is asked for the groups. One that both have may be verified in either."""
    page = Page(provider.issuer)
    provider.misbehave(claims={"groups": None, **token}, userinfo=userinfo)
    if name is None:
        assert "is verified" in refused(page, provider)
    else:
        page.go(provider)
        assert page.who()[0] == name


def test_claims_that_only_the_userinfo_endpoint_has(provider: identity_provider.Provider) -> None:
    """The token decides where both have a claim."""
    provider.misbehave(thin=True)
    page = Page(provider.issuer)
    page.go(provider)
    assert page.who() == ["ann@example.com", "finance", "staff", "oidc"]
    provider.misbehave(thin=True, userinfo={"sub": "bob"})
    assert refused(Page(provider.issuer), provider) == (
        "the provider's userinfo is about another person than its token"
    )
    provider.misbehave(claims={"groups": None}, userinfo={"email": "root@example.com", "groups": ["extra"]})
    page = Page(provider.issuer)
    page.go(provider)
    assert page.who() == ["ann@example.com", "extra", "oidc"]


# --- the provider fails, or is set up wrongly ---


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"issuer": "https://another.example.com"}, "names another issuer, `https://another.example.com`"),
        ({"issuer": None}, "names another issuer"),
        (
            {"token_endpoint": "http://provider.example.com/token"},
            "has no `token_endpoint` that begins with https",
        ),
        ({"authorization_endpoint": None}, "has no `authorization_endpoint`"),
        ({"jwks_uri": 7}, "has no `jwks_uri`"),
        ({"userinfo_endpoint": "ftp://127.0.0.1/"}, "has a `userinfo_endpoint`"),
    ],
    ids=str,
)
def test_metadata_that_cannot_be_used(
    provider: identity_provider.Provider, metadata: dict[str, Any], why: str
) -> None:
    provider.misbehave(metadata=metadata)
    response = Page(provider.issuer).browser.get("/sign-in/start")
    assert response.status_code == 502
    assert why in response.text


def test_keys_of_kinds_that_are_not_known(provider: identity_provider.Provider) -> None:
    """They do not matter where there are others; a shared secret among them is no key of a token."""
    unknown = [{"kty": "EC", "crv": "P-999", "x": "a", "y": "b"}, {"kty": "new"}, {"kty": "oct", "k": "c2Vj"}]
    provider.misbehave(keys=[*unknown, {"kid": "rsa-1"}])
    assert Page(provider.issuer).go(provider).status_code == 303
    provider.misbehave(keys=[])
    response = Page(provider.issuer).go(provider)
    assert response.status_code == 502
    assert "has no key that its tokens can be checked with" in response.text


def test_a_provider_that_fails_is_not_asked_by_everybody() -> None:
    """Who signs in within two seconds after a failure reads it at once."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        page = Page(f"http://127.0.0.1:{server.server_port}")
        for _ in range(5):
            assert "status 500" in page.browser.get("/sign-in/start").text
        page.time += 3
        assert page.browser.get("/sign-in/start").status_code == 502
        server.shutdown()
        thread.join()
    assert len(asked) == 2


def _dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def _huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_header("content-length", "40000000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(40):
            handler.wfile.write(b" " * 1_000_000)


def _compressed(handler: BaseHTTPRequestHandler) -> None:
    body = gzip.compress(b" " * 50_000_000, 1)
    handler.send_header("content-encoding", "gzip")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    with suppress(OSError):
        handler.wfile.write(body)


def _deep(handler: BaseHTTPRequestHandler) -> None:
    body = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("send", "why"),
    [
        (_dripping, "ReadTimeout"),
        (_huge, "_TooLarge"),
        (_compressed, "DecodingError"),
        (_deep, "RecursionError"),
    ],
)
def test_a_provider_that_sends_too_much_or_too_slowly(
    send: Callable[[BaseHTTPRequestHandler], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds nobody up for longer than a response may take, and is not read to its end."""
    monkeypatch.setattr(provider_module, "_TIMEOUT_S", 1.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            send(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        page = Page(f"http://127.0.0.1:{server.server_port}")
        began = time.monotonic()
        response = page.browser.get("/sign-in/start")
        assert time.monotonic() - began < 5
        server.shutdown()
        thread.join()
    assert response.status_code == 502
    assert f"cannot be read: {why}" in response.text


def test_a_key_that_the_provider_has_withdrawn(provider: identity_provider.Provider) -> None:
    """It counts for an hour at most after that."""
    page = Page(provider.issuer)
    old = identity_provider.new_key("old")
    provider.misbehave(keys=[old.public], signing_key=old.private)
    assert page.go(provider).status_code == 303
    provider.misbehave(signing_key=old.private)
    page.time += 3_601
    page.browser.cookies.clear()
    assert "is not signed as it has to be" in refused(page, provider)


def test_a_new_key_without_an_id(provider: identity_provider.Provider) -> None:
    """The keys are loaded again where a signature is wrong, unless they are ten seconds old or less."""
    page = Page(provider.issuer)
    first, second = identity_provider.new_key(None), identity_provider.new_key(None)
    provider.misbehave(keys=[first.public], only_these=True, signing_key=first.private)
    assert page.go(provider).status_code == 303
    page.browser.cookies.clear()
    provider.misbehave(keys=[second.public], only_these=True, signing_key=second.private)
    assert "bad_signature" in refused(page, provider)
    page.time += 11
    assert page.go(provider).status_code == 303


def test_what_is_remembered_is_bounded(
    provider: identity_provider.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And forgotten when its time is over."""
    monkeypatch.setattr(open_id, "_MOST", 3)
    page = Page(provider.issuer)
    for _ in range(5):
        page.go(provider)
    assert len(page.sign_in._used._added) == 3
    page.time += 601
    page.go(provider)
    assert len(page.sign_in._used._added) == 1


def test_a_provider_that_stops(provider: identity_provider.Provider) -> None:
    """Who is signed in stays so; who signs in reads what failed; later all goes on."""
    page = Page(provider.issuer)
    page.go(provider)
    back = provider.sign_in(page.begin())
    provider.misbehave(metadata={"token_endpoint": "http://127.0.0.1:1/token"})
    page.time += 3_500
    assert page.who()
    page.time += 600
    assert page.begin(), "with new metadata"
    fresh = Page(provider.issuer)
    response = fresh.browser.get(provider.sign_in(fresh.begin()))
    assert response.status_code == 502
    assert "gives no token" in response.text
    assert not fresh.recorded
    assert back


def test_a_provider_that_is_not_there() -> None:
    page = Page("http://127.0.0.1:1")
    response = page.browser.get("/sign-in/start")
    assert response.status_code == 502
    assert response.text == (
        "Nobody can sign in: http://127.0.0.1:1/.well-known/openid-configuration cannot be read: ConnectError"
    )


@pytest.mark.parametrize("secret", ["wrong", None])
def test_a_page_that_the_provider_does_not_know(
    provider: identity_provider.Provider, secret: str | None
) -> None:
    page = Page(provider.issuer, secret=secret)
    assert refused(page, provider) == "the provider refuses the code: invalid_client"


def test_the_secret_in_the_body(provider: identity_provider.Provider) -> None:
    """For a provider that takes it there alone."""
    provider.misbehave(metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]})
    assert Page(provider.issuer).go(provider).status_code == 303


@pytest.mark.parametrize(
    ("issuer", "client_id", "scope"),
    [
        ("http://provider.example.com", "page", "openid"),
        ("provider.example.com", "page", "openid"),
        ("https://", "page", "openid"),
        ("https://provider.example.com/?tenant=1", "page", "openid"),
        ("https://provider.example.com", "", "openid"),
        ("https://provider.example.com", "page", "email"),
    ],
)
def test_settings_that_cannot_work(issuer: str, client_id: str, scope: str) -> None:
    with pytest.raises(ConfigError):
        Provider(issuer, client_id, None, PAGE + REDIRECT_PATH, scope=scope)


def test_a_provider_at_an_address_with_a_path() -> None:
    """As Keycloak's realms are; whether its name ends with a slash does not matter."""
    for issuer in ("http://127.0.0.1:1/realms/a", "http://127.0.0.1:1/realms/a/"):
        provider = Provider(issuer, "page", None, PAGE + REDIRECT_PATH)
        with pytest.raises(ProviderFailed, match=r"/realms/a/\.well-known/openid-configuration"):
            asyncio.run(provider.address(Attempt.new()))


def test_the_session_shows_nothing_but_itself(provider: identity_provider.Provider) -> None:
    """No token of the provider is in a cookie."""
    page = Page(provider.issuer)
    page.go(provider)
    (text,) = [value.partition(".")[0] for value in page.browser.cookies.values()]
    inside = json.loads(base64.urlsafe_b64decode(text + "=="))
    assert set(inside) == {"id", "name", "roles", "ends"}
