"""Ask a web service, such as the backend of a chat bot, which asks the human.

The service is sent the question again, under the same id, until it has an answer. So it needs one endpoint
and a place to keep answers by id; no connection has to outlive a proxy's patience, and there is no second
address to be sent to.

Messages are signed with a shared secret, as the Standard Webhooks specification says
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): HMAC-SHA256 over
`<id>.<timestamp>.<body>`, in the header `webhook-signature` as `v1,<base64>`. Services have libraries for it
in most languages.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import httpx2
import msgspec

from aegis_otel.audit.keys import keyed_digest
from aegis_otel.errors import ConfigError
from aegis_otel.governance.approvals.question import ApprovalAnswer, Question, current_question, wait_for_turn
from aegis_otel.governance.approvals.terms import decode_terms
from aegis_otel.governance.recording import timestamp
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"


# By hand, since the library `standardwebhooks` would not make it smaller: it takes a secret of any length,
# refuses an answer that is five minutes old, and raises several exceptions for a header that it cannot split.
# The tests verify our messages with it.
class Signer:
    """Signs and checks messages with one secret.

    Args:
        secret: `whsec_` and base64 of 24 to 64 random bytes.

    Raises:
        ConfigError: the secret does not have this form.
    """

    def __init__(self, secret: str) -> None:
        try:
            self._key = b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (AttributeError, ValueError):
            self._key = b""
        if not (24 <= len(self._key) <= 64 and secret.startswith(_PREFIX)):
            raise ConfigError(
                f"`secret` must be `{_PREFIX}` and base64 of 24 to 64 random bytes, "
                f'such as "{_PREFIX}" + base64.b64encode(secrets.token_bytes(32)).decode()'
            )

    def sign(self, message_id: str, timestamp: str, body: bytes) -> str:
        """Return the value of `webhook-signature`."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        return f"v1,{b64encode(keyed_digest(self._key, signed)).decode()}"

    def has_signed(self, message_id: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether `headers` have a signature of `body` for this very message.

        How old it is does not matter where every message has an id of its own.
        """
        expected = self.sign(message_id, headers.get(TIMESTAMP, ""), body).encode()
        given = headers.get(SIGNATURE, "").encode().split()  # more than one while a secret is replaced
        return any(hmac.compare_digest(expected, one) for one in given)


_AGAIN_S = 1.0
_REQUESTS = 100
"""How many requests are under way at once on one event loop, for all handlers."""
_NO_IDLE_CONNECTION = httpx2.Limits(max_keepalive_connections=0)
"""Questions that wait hold no connection between two requests: thousands may wait."""
_LARGEST_QUESTION = 1_000_000
_LARGEST_ANSWER = 65_536


_Answer = ApprovalAnswer | list[ApprovalAnswer]


class WebhookError(Exception):
    """The response of the service is not an answer."""


class WebhookApprovalHandler(ApprovalHandler):
    """Asks by POST to `url`; docs/approvals.md has the messages.

    Redirects are not followed, and the proxies of the environment are not used. Certificates are checked
    against the system's, or `SSL_CERT_FILE`.

    Args:
        url: Where to ask: https, or http on this machine.
        secret: Shared with the service (`whsec_...`): the question is signed with it, and so must the
            answer be. Required for http.
        headers: More headers, such as a gateway's `Authorization`.
        timeout: Seconds to connect, and seconds that the service may take for one response. One that
            takes longer is asked again; how long the human has is the Runtime's `approval_timeout`.

    Raises:
        ConfigError: one of them is unusable.
    """

    channel = "webhook"

    _turns: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._url = checked_url(url, signed=secret is not None)
        self._signer = None if secret is None else Signer(secret)
        if not 0 < timeout < math.inf:
            raise ConfigError(f"`timeout` is `{timeout}`: expected a number of seconds above 0, such as 30")
        self._headers = httpx2.Headers(headers)
        self._headers.update({"content-type": "application/json", "accept-encoding": "identity"})
        self._timeout = timeout
        self._tls = httpx2.create_ssl_context()  # takes 30 ms: not in a call, on the event loop

    async def request_approval(self, decision: PolicyDecision) -> _Answer:  # noqa: ARG002
        body = _payload(current_question())
        message_id = f"msg_{uuid.uuid4().hex}"
        turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_REQUESTS))
        begin = wait_for_turn(f"its turn never came, because {_REQUESTS} requests were not answered")
        async with httpx2.AsyncClient(
            verify=self._tls, trust_env=False, timeout=self._timeout, limits=_NO_IDLE_CONNECTION
        ) as client:
            while True:
                async with turn:
                    begin()
                    answer = await self._ask(client, message_id, body)
                if answer is not None:
                    return answer
                await asyncio.sleep(_AGAIN_S)

    async def _ask(self, client: httpx2.AsyncClient, message_id: str, body: bytes) -> _Answer | None:
        """Send one request; return None when the human has not answered yet."""
        headers = self._headers.copy()
        headers[ID], headers[TIMESTAMP] = message_id, str(int(time.time()))
        if self._signer is not None:
            headers[SIGNATURE] = self._signer.sign(message_id, headers[TIMESTAMP], body)
        try:
            async with client.stream("POST", self._url, content=body, headers=headers) as response:
                if response.status_code == 202:
                    return None
                answer = await _read(response)
        except httpx2.ReadTimeout:
            return None
        except httpx2.TransportError as error:
            raise WebhookError(f"the webhook could not be reached ({type(error).__name__})") from error
        if self._signer is not None and not self._signer.has_signed(message_id, response.headers, answer):
            raise WebhookError("the webhook's answer is not signed with the secret")
        return _parsed(answer)


def checked_url(url: str, *, signed: bool, instead: str = "pass it in `headers`") -> httpx2.URL:
    """Return the address if its answers can be trusted. No message quotes it: it may hold a password.

    Args:
        url: The address.
        signed: Whether the answers are signed.
        instead: What to do instead of a password in the address.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise ConfigError("`url` is no URL: expected one such as https://approvals.example.com/ask") from None
    if parsed.userinfo:
        raise ConfigError(f"`url` has a user or password in it, and URLs get logged: {instead}")
    if not is_protected(parsed):
        raise ConfigError("`url` must be https://..., or http://... on this machine")
    if parsed.scheme == "http" and not signed:
        raise ConfigError("`url` is http, so its answers prove nothing: pass a `secret`, or use https")
    return parsed


def is_protected(url: httpx2.URL) -> bool:
    """Return whether nobody on the way can change what is exchanged: by https, or by http on this machine."""
    is_here = url.host == "localhost"
    with suppress(ValueError):
        is_here = is_here or ip_address(url.host).is_loopback
    return bool(url.host) and (url.scheme == "https" or (url.scheme == "http" and is_here))


def _payload(question: Question) -> bytes:
    """Return the question as JSON. It is never cut: what a human cannot see, they cannot approve."""
    message = message_of(question)
    message["expires_at"] = timestamp(time.time_ns() + int(question.timeout * 1e9))
    body = msgspec.json.encode(message)
    if len(body) > _LARGEST_QUESTION:
        raise WebhookError(
            f"the question has {len(body)} bytes; the webhook is sent {_LARGEST_QUESTION} at most"
        )
    return body


def message_of(question: Question) -> dict[str, Any]:
    """Return the members of a question as services read them, without the time that is left."""
    message: dict[str, Any] = msgspec.structs.asdict(question)
    del message["timeout"]
    message["action_params"] = msgspec.Raw(question.action_params.encode())
    if question.user_roles is not None:
        message["user_roles"] = json.loads(question.user_roles)
    approvers = decode_terms(message.pop("approval_terms")).approvers
    message["approvers"] = None if approvers is None else approvers.as_written
    return message


async def _read(response: httpx2.Response) -> bytes:
    """Return the body of a response that can be an answer."""
    if response.status_code != 200:
        raise WebhookError(f"the webhook answered with status {response.status_code}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in response.headers:
        raise WebhookError("the webhook answered with something else than plain application/json")
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > _LARGEST_ANSWER:
            raise WebhookError(f"the webhook's answer is larger than {_LARGEST_ANSWER} bytes")
    return body


def _parsed(body: bytes) -> _Answer:
    """Return what a body answers; `approved` is a JSON boolean, and no key is there twice."""
    try:
        answer = json.loads(body.decode(), object_pairs_hook=_once)
        if not isinstance(answer, dict) or "answers" not in answer:
            return msgspec.convert(answer, ApprovalAnswer)
        if "approved" in answer or not answer["answers"]:
            raise ValueError("it has `answers` and `approved`, or no answer in `answers`")
        return msgspec.convert(answer["answers"], list[ApprovalAnswer])
    except (ValueError, RecursionError) as error:  # a ValidationError of msgspec is a ValueError
        raise WebhookError(f"the webhook answered JSON that is no answer, or no JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    answer = dict(pairs)
    if len(answer) < len(pairs):
        raise WebhookError("the webhook's answer has a key twice")
    return answer
