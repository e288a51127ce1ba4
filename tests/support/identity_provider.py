"""An OpenID provider as a process of its own, built on the server side of Authlib, which can also misbehave.

It checks what a provider has to check: the client and its secret, the redirect URI, that a code is used once,
and PKCE by S256. Who signs in is chosen by a form, without a password.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

CLIENT_ID = "approvals-page"
CLIENT_SECRET = "the page's own secret: + % /"
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {
        "email": "Ann@Example.com",
        "email_verified": True,
        "preferred_username": "ann",
        "groups": ["finance", "staff"],
        "scope_of_roles": "finance staff",
        "realm_access": {"roles": ["payer"]},
        "https://example.com/roles": ["custom"],
    },
    "bob": {"email": "bob@example.com", "email_verified": True, "groups": []},
    "eve": {"email": "ann@example.com", "email_verified": False, "groups": ["finance"]},
}


@dataclass
class Provider:
    """The process, seen from a test."""

    issuer: str
    process: subprocess.Popen[str]

    def misbehave(self, **how: Any) -> None:
        """Change what it does from now on: see `_Behaviour`. Without arguments it behaves."""
        assert httpx2.post(f"{self.issuer}/test/behaviour", json=how, trust_env=False).status_code == 204

    def sign_in(self, url: str, user: str = "ann") -> str:
        """Sign in as a person at the provider's form, as a browser would; return where it sends it."""
        with httpx2.Client(trust_env=False) as browser:
            form = browser.get(url)
            assert form.status_code == 200, form.text
            answer = browser.post(url, data={"user": user})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


class KeyPair(NamedTuple):
    """A key of a provider, as JWKs."""

    private: dict[str, Any]
    public: dict[str, Any]


def new_key(key_id: str | None) -> KeyPair:
    """Return a new RSA key, with an id or without one."""
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(2048, {} if key_id is None else {"kid": key_id})
    return KeyPair(*(_without_id(key.as_dict(private=is_private), key_id) for is_private in (True, False)))


def _without_id(key: dict[str, Any], key_id: str | None) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name != "kid" or key_id is not None}


@contextmanager
def running(redirect_uri: str) -> Iterator[Provider]:
    """A provider that knows one client, which may be sent back to that address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.identity_provider", redirect_uri],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        issuer = process.stdout.readline().strip()
        assert issuer.startswith("http://127.0.0.1:"), issuer
        yield Provider(issuer, process)
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class _Behaviour:
    """What is wrong with the provider."""

    claims: dict[str, Any] | None = None
    """Claims of the ID token that replace its own; None removes one."""
    signature: str = "own"
    """`own`; `none` (unsigned); `hs256` (by the public key's text); `client_secret` (HS256); `stranger`
    (another key under the id of its own); `unknown` (another key under another id); `es256`; `new` (a new
    key, which it has from now on)."""
    metadata: dict[str, Any] | None = None
    """Members of its metadata that replace its own; None removes one."""
    token: dict[str, Any] | None = None
    """Members of the response of the token endpoint that replace its own; None removes one."""
    thin: bool = False
    """Whether the ID token lacks all claims of the person, which only the userinfo endpoint has."""
    userinfo: dict[str, Any] | None = None
    """Claims of the userinfo endpoint that replace its own."""
    keys: list[dict[str, Any]] | None = None
    """Keys beside its own; an empty list: no keys at all."""
    only_these: bool = False
    """Whether it has no keys of its own beside these."""
    signing_key: dict[str, Any] | None = None
    """The private key that it signs with; its id is in the token's header where it has one."""
    iss: str = ""
    """The issuer that it names in the response to the browser (RFC 9207)."""


def _changed(own: dict[str, Any], by: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**own, **(by or {})}.items() if value is not None}


def _serve(redirect_uri: str) -> None:
    """Run the provider until the process ends."""
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2 import OAuth2Error
    from authlib.oauth2.rfc6749 import ClientMixin, grants
    from authlib.oauth2.rfc7636 import CodeChallenge
    from authlib.oidc.core import AuthorizationCodeMixin, OpenIDCode
    from flask import Flask, request
    from joserfc import jwt
    from joserfc.jwk import ECKey, KeySet, RSAKey
    from joserfc.jws import JWSRegistry
    from werkzeug.serving import WSGIRequestHandler, make_server

    app = Flask(__name__)
    behaviour = _Behaviour()
    keys = [
        RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"}),
        ECKey.generate_key("P-256", {"kid": "ec-1"}),
    ]
    codes: dict[str, Any] = {}
    tokens: dict[str, str] = {}
    nonces: set[str] = set()

    class Client(ClientMixin):
        def get_client_id(self) -> str:
            return CLIENT_ID

        def get_default_redirect_uri(self) -> None:
            return None

        def get_allowed_scope(self, scope: str) -> str:
            return scope

        def check_redirect_uri(self, given: str) -> bool:
            return given == redirect_uri

        def check_client_secret(self, given: str) -> bool:
            return secrets.compare_digest(given.encode(), CLIENT_SECRET.encode())

        def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
            return method in {"client_secret_basic", "client_secret_post"}

        def check_response_type(self, response_type: str) -> bool:
            return response_type == "code"

        def check_grant_type(self, grant_type: str) -> bool:
            return grant_type == "authorization_code"

    class Code(AuthorizationCodeMixin):
        def __init__(self, user: str, nonce: str, challenge: str, method: str, scope: str) -> None:
            self.user, self.nonce, self.scope = user, nonce, scope
            self.code_challenge, self.code_challenge_method = challenge, method

        def get_redirect_uri(self) -> str:
            return redirect_uri

        def get_scope(self) -> str:
            return self.scope

        def get_nonce(self) -> str:
            return self.nonce

        def get_auth_time(self) -> int:
            return int(time.time())

        def get_acr(self) -> None:
            return None

        def get_amr(self) -> None:
            return None

    class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        def save_authorization_code(self, code: str, request: Any) -> Any:
            data = request.payload.data
            assert data.get("code_challenge_method") == "S256", "PKCE by S256 is required"
            nonces.add(data["nonce"])
            codes[code] = Code(
                *(request.user, data["nonce"], data["code_challenge"], "S256", request.payload.scope)
            )

        def query_authorization_code(self, code: str, client: Any) -> Any:
            return codes.get(code)

        def delete_authorization_code(self, authorization_code: Any) -> None:
            for code in [code for code, value in codes.items() if value is authorization_code]:
                del codes[code]

        def authenticate_user(self, authorization_code: Any) -> Any:
            return authorization_code.user

    class IdToken(OpenIDCode):  # type: ignore[misc]
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return nonce in nonces

        def generate_user_info(self, user: str, scope: str) -> dict[str, Any]:
            return {"sub": user} if behaviour.thin else {"sub": user, **PEOPLE[user]}

        def encode_id_token(self, token: Any, request: Any) -> str:
            now = int(time.time())
            own = {
                "iss": request_issuer(),
                "aud": CLIENT_ID,
                "iat": now,
                "exp": now + 300,
                **self.get_authorization_code_claims(request.authorization_code),
                **self.generate_user_info(request.user, token["scope"]),
            }
            return sign(_changed(own, behaviour.claims))

    def request_issuer() -> str:
        return f"http://{request.host}"

    def sign(claims: dict[str, Any]) -> str:
        own, registry = keys[0], JWSRegistry(algorithms=["RS256", "ES256", "none"])
        if behaviour.signing_key is not None:
            other = RSAKey.import_key(behaviour.signing_key)
            named = {"kid": behaviour.signing_key["kid"]} if "kid" in behaviour.signing_key else {}
            return jwt.encode({"alg": "RS256", **named}, claims, other, registry=registry)
        if behaviour.signature == "new" and own.kid == "rsa-1":
            own = keys[0] = RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"})
        if behaviour.signature in {"hs256", "client_secret"}:
            secret = (
                CLIENT_SECRET.encode()
                if behaviour.signature == "client_secret"
                else own.as_pem(private=False)
            )
            return by_hand({"alg": "HS256", "kid": own.kid}, claims, secret)
        algorithm, key = {
            "own": lambda: ("RS256", own),
            "new": lambda: ("RS256", own),
            "none": lambda: ("none", None),
            "stranger": lambda: ("RS256", RSAKey.generate_key(2048, {"kid": own.kid})),
            "unknown": lambda: ("RS256", RSAKey.generate_key(2048, {"kid": "nobody's"})),
            "es256": lambda: ("ES256", keys[1]),
        }[behaviour.signature]()
        header = {"alg": algorithm, **({} if key is None else {"kid": key.kid})}
        return jwt.encode(header, claims, key, registry=registry)

    def by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
        """Sign by HS256 with any secret: the library refuses a public key as one."""
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)
        ]
        signature = hmac.new(secret, b".".join(parts), "sha256").digest()
        return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()

    def save_token(token: dict[str, Any], request: Any) -> None:
        tokens[token["access_token"]] = request.user

    server = AuthorizationServer(app, lambda given: Client() if given == CLIENT_ID else None, save_token)
    server.register_grant(CodeGrant, [IdToken(require_nonce=True), CodeChallenge(required=True)])

    @app.get("/.well-known/openid-configuration")
    def metadata() -> dict[str, Any]:
        issuer = request_issuer()
        own = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
            "authorization_response_iss_parameter_supported": bool(behaviour.iss),
        }
        return _changed(own, behaviour.metadata)

    @app.get("/keys")
    def jwks() -> Any:
        own = (
            []
            if behaviour.keys == [] or behaviour.only_these
            else KeySet(keys).as_dict(private=False)["keys"]
        )
        return {"keys": [*(behaviour.keys or []), *own]}

    @app.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Any:
        try:
            grant = server.get_consent_grant(end_user=request.form.get("user"))
        except OAuth2Error as error:
            return server.handle_error_response(request, error)
        if request.method == "GET":
            choices = "".join(f"<button name=user value={user}>{escape(user)}</button>" for user in PEOPLE)
            no = "<button name=user value=>No</button>"
            return f"<title>Provider</title><form method=post>{choices}{no}</form>"
        user = request.form["user"] or None
        response = server.create_authorization_response(request, grant_user=user, grant=grant)
        if behaviour.iss:
            response.headers["Location"] += f"&iss={behaviour.iss}"
        return response

    @app.post("/token")
    def token() -> Any:
        response = server.create_token_response(request)
        if behaviour.token is not None:
            response.data = json.dumps(_changed(response.get_json(), behaviour.token))
        return response

    @app.get("/userinfo")
    def userinfo() -> Any:
        user = tokens.get(request.headers["Authorization"].removeprefix("Bearer "))
        if user is None:
            return "", 401
        return _changed({"sub": user, **PEOPLE[user]}, behaviour.userinfo)

    @app.post("/test/behaviour")
    def change() -> Any:
        behaviour.__dict__.update(_Behaviour(**request.get_json()).__dict__)
        return "", 204

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None:
            pass

    listening = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(f"http://127.0.0.1:{listening.server_port}", flush=True)
    listening.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
