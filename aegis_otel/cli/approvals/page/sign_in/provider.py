"""An OpenID provider: its endpoints, and what its ID tokens say (OpenID Connect Core 1.0, section 3.1).

Its endpoints come from its metadata (OpenID Connect Discovery 1.0). An ID token counts if a key of the
provider has signed it, and it is from this issuer, for this page and this very sign-in, and valid now.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from aegis_otel.cli.approvals.page.sign_in.claims import with_userinfo
from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.errors import ConfigError
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.webhook import is_protected

# `none` and `HS...` are left out: the first proves nothing, and the key of the others is the client's secret.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_KEY_TYPES = ("RSA", "EC", "OKP")
_TIMEOUT_S = 10.0
"""Seconds that a response of the provider may take, down to its last byte."""
_LARGEST = 1_000_000
"""Bytes of a response."""
_KEYS_AGAIN_S = 10.0
"""Seconds in which keys are not read again for a token whose signature is wrong."""
_METADATA_S = 3600.0
"""Seconds after which metadata and keys are read again."""
_AGAIN_S = 2.0
"""Seconds in which a provider that could not be read is not asked again."""
_LEEWAY_S = 60
"""Seconds that the clocks of the provider and of this machine may differ."""
_BY_CLAIM = {
    "iss": "is from another issuer",
    "aud": "is for another audience than this page",
    "azp": "is for another party than this page",
    "nonce": "is for another sign-in",
    "exp": "has expired, or has no end",
    "iat": "was issued in the future, or at no time",
    "nbf": "is not valid yet",
    "at_hash": "is for another access token",
}


class ProviderFailed(Exception):
    """The provider cannot be reached, or is set up so that no sign-in can work. The text is for people."""


class Attempt(NamedTuple):
    """What a sign-in that has begun has to come back with."""

    state: str
    nonce: str
    code_verifier: str

    @classmethod
    def new(cls) -> Attempt:
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))


class Provider:
    """One OpenID provider, and this page as its client.

    Redirects are not followed. The proxies of the environment are used to reach a provider by https, and
    certificates are checked against the system's, or `SSL_CERT_FILE`.

    Args:
        issuer: Its address, as its metadata and its tokens name it: https, or http on this machine.
        client_id: The id of the page at the provider.
        client_secret: The page's secret there; None for a public client, which PKCE alone protects.
        redirect_uri: Where the provider sends browsers back to.
        scope: What is asked for; `openid` is required.
        now: The clock, in seconds.

    Raises:
        ConfigError: one of them is unusable.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None,
        redirect_uri: str,
        *,
        scope: str = "openid email profile",
        now: Callable[[], float] = time.time,
    ) -> None:
        if not _is_protected(issuer) or "?" in issuer or "#" in issuer:
            raise ConfigError(
                f"the issuer is `{issuer}`: expected https://..., or http://... on this machine, "
                "as the provider names it"
            )
        if not client_id:
            raise ConfigError("the client id of the page at the provider is empty")
        if "openid" not in scope.split():
            raise ConfigError(f"the scope is `{scope}`: `openid` must be in it")
        self.issuer = issuer
        self.client_id = client_id
        self._client_secret = client_secret
        self.redirect_uri = redirect_uri
        self._scope = scope
        self._now = now
        self._tls = httpx2.create_ssl_context()  # takes 30 ms: not in a request, on the event loop
        self._metadata: dict[str, Any] = {}
        self._metadata_until = 0.0
        self._failure: tuple[float, str] = (0.0, "")
        """Until when the metadata is not asked for again, and why it could not be had."""
        self._loading = asyncio.Lock()
        self._keys: KeySet | None = None
        self._keys_at = float("-inf")

    async def address(self, attempt: Attempt) -> str:
        """Return where a browser signs in.

        Raises:
            ProviderFailed: the provider cannot be reached, or its metadata is unusable.
        """
        metadata = await self._load()
        async with self._client(metadata) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.code_verifier,
            )
        return str(url)

    async def redeem(
        self, code: str, attempt: Attempt, issuer: str | None, needed: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Return the claims of the person who has signed in.

        Args:
            code: The code that the browser brought back.
            attempt: What the sign-in began with.
            issuer: The issuer that the browser brought back, if any (RFC 9207).
            needed: Whether claims have all that is needed; else the userinfo endpoint is asked as well.

        Raises:
            SignInRefused: code or token prove nothing.
            ProviderFailed: the provider cannot be reached, or its metadata is unusable.
        """
        metadata = await self._load()
        names_itself = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != self.issuer and (issuer is not None or names_itself):
            raise SignInRefused("the answer to the sign-in is from another issuer")
        async with self._client(metadata) as client:
            try:
                tokens = await client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=attempt.code_verifier
                )
            except AuthlibBaseError as error:
                raise SignInRefused(f"the provider refuses the code: {_word(error.error)}") from None
            except (httpx2.HTTPError, ValueError, RecursionError) as error:
                raise ProviderFailed(f"{self.issuer} gives no token: {_kind(error)}") from None
            claims = await self._checked(tokens, attempt.nonce)
            endpoint = metadata.get("userinfo_endpoint")
            if endpoint is None or needed(claims):
                return claims
            more = await self._get(client, endpoint, withhold_token=False)
        if more.get("sub") != claims["sub"]:  # section 5.3.2
            raise SignInRefused("the provider's userinfo is about another person than its token")
        return with_userinfo(claims, more)

    async def _checked(self, tokens: dict[str, Any], nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that counts."""
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise SignInRefused("the provider gave no ID token")
        try:
            try:
                token = self._decoded(text, await self._key_set())
            except InvalidKeyIdError:  # the provider has new keys
                token = self._decoded(text, await self._key_set(anew=True))
            except BadSignatureError:  # or new ones without an id
                if self._now() < self._keys_at + _KEYS_AGAIN_S:
                    raise
                token = self._decoded(text, await self._key_set(anew=True))
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": self.issuer},
                    "aud": {"essential": True, "value": self.client_id},
                },
                {"nonce": nonce, "client_id": self.client_id, "access_token": tokens.get("access_token")},
            )
            claims.validate(now=int(self._now()), leeway=_LEEWAY_S)
        except JoseError as error:
            claim = str(getattr(error, "claim", None) or "")
            why = _BY_CLAIM.get(claim.partition(",")[0])
            if why is None:
                why = (
                    f"has no valid `{claim}`"
                    if claim
                    else f"is not signed as it has to be ({_word(error.error)})"
                )
            raise SignInRefused(f"the provider's token {why}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SignInRefused(f"the provider's token cannot be read ({type(error).__name__})") from None
        return dict(claims)

    def _decoded(self, text: str, keys: KeySet) -> jwt.Token:
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        return jwt.decode(text, keys, registry=registry)

    async def _key_set(self, *, anew: bool = False) -> KeySet:
        if self._keys is None or anew:
            async with self._client(self._metadata) as client:
                found = await self._get(client, self._metadata["jwks_uri"])
            keys = [key for each in _listed(found.get("keys")) for key in _usable(each)]
            if not keys:
                raise ProviderFailed(f"{self.issuer} has no key that its tokens can be checked with")
            self._keys, self._keys_at = KeySet(keys), self._now()
        return self._keys

    async def _load(self) -> dict[str, Any]:
        """Return the provider's metadata. Where it cannot be had anew, the last one stays."""
        async with self._loading:
            if self._now() < self._metadata_until:
                return self._metadata
            until, why = self._failure
            if self._now() < until:
                raise ProviderFailed(why)
            return await self._load_anew()

    async def _load_anew(self) -> dict[str, Any]:
        address = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            async with self._client({}) as client:
                found = await self._get(client, address)
            self._check_metadata(found)
        except ProviderFailed as error:
            if not self._metadata:
                self._failure = (self._now() + _AGAIN_S, str(error))
                raise
            found = self._metadata
        self._metadata, self._metadata_until = found, self._now() + _METADATA_S
        self._keys = None  # one that the provider has withdrawn proves nothing any more
        return found

    def _check_metadata(self, metadata: dict[str, Any]) -> None:
        if metadata.get("issuer") != self.issuer:
            named = escape(str(metadata.get("issuer"))[:200])
            raise ProviderFailed(
                f"{self.issuer} names another issuer, `{named}`: state the issuer as it does"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not _is_protected(metadata.get(name)):
                raise ProviderFailed(f"{self.issuer} has no `{name}` that begins with https://")
        if metadata.get("userinfo_endpoint") is not None and not _is_protected(metadata["userinfo_endpoint"]):
            raise ProviderFailed(f"{self.issuer} has a `userinfo_endpoint` that does not begin with https://")

    def _client(self, metadata: dict[str, Any]) -> AsyncOAuth2Client:
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return _BoundedClient(
            *(self.client_id, self._client_secret),
            token_endpoint_auth_method="none" if self._client_secret is None else method,
            scope=self._scope,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            verify=self._tls,
            trust_env=self.issuer.startswith("https:"),  # else a proxy would be sent what is for this machine
            timeout=_TIMEOUT_S,
        )

    async def _get(
        self, client: AsyncOAuth2Client, address: str, *, withhold_token: bool = True
    ) -> dict[str, Any]:
        """Return the JSON object at an address."""
        try:
            response = await client.request("GET", address, withhold_token=withhold_token)
            response.raise_for_status()
            found = response.json()
        except (httpx2.HTTPError, AuthlibBaseError, ValueError, RecursionError) as error:
            raise ProviderFailed(f"{escape(address)} cannot be read: {_kind(error)}") from None
        if not isinstance(found, dict):
            raise ProviderFailed(f"{escape(address)} is no JSON object")
        return found


class _TooLarge(httpx2.HTTPError):
    pass


class _BoundedClient(AsyncOAuth2Client):  # type: ignore[misc]
    """A client that reads neither longer nor more than it may, whatever is at the other end."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    return await self._whole(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout("the response takes too long", request=request) from None

    async def _whole(self, response: httpx2.Response) -> httpx2.Response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("the response is compressed", request=response.request)
        body = b""
        async for part in response.aiter_raw():
            body += part
            if len(body) > _LARGEST:
                raise _TooLarge(f"the response has more than {_LARGEST} bytes")
        return httpx2.Response(
            response.status_code,
            headers={"content-type": response.headers.get("content-type", "")},
            content=body,
            request=response.request,
        )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _usable(key: object) -> list[Any]:
    """Return a key of a provider where it is of a kind that signs tokens; others do not matter."""
    if not isinstance(key, dict) or key.get("kty") not in _KEY_TYPES:
        return []
    try:
        return list(KeySet.import_key_set({"keys": [key]}).keys)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _is_protected(address: object) -> bool:
    """Return whether an address is one, and nobody on the way can change what comes from it."""
    try:
        return isinstance(address, str) and is_protected(httpx2.URL(address))
    except httpx2.InvalidURL:
        return False


def _kind(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"status {error.response.status_code}"
    return type(error).__name__


def _word(text: object) -> str:
    """Return a code of an error, which comes from outside."""
    return escape(str(text)[:100])
