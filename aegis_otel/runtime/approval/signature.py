"""Messages signed with a shared secret, as the Standard Webhooks specification has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: HMAC-SHA256 over
`<id>.<timestamp>.<body>`, in the header `webhook-signature` as `v1,<base64>`; libraries for it exist in most
languages.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping

from aegis_otel.audit.key import keyed_digest
from aegis_otel.errors import ConfigError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"


class Signer:
    """Signs and checks with one secret.

    Args:
        secret: `whsec_` and base64 of 24 to 64 random bytes.

    Raises:
        ConfigError: it is not of this form.
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
        """The value of `webhook-signature`."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        return f"v1,{b64encode(keyed_digest(self._key, signed)).decode()}"

    def has_signed(self, message_id: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether `headers` have a signature of `body` for this very message.

        How old it is does not matter where every message has an id of its own.
        """
        expected = self.sign(message_id, headers.get(TIMESTAMP, ""), body).encode()
        given = headers.get(SIGNATURE, "").encode().split()  # more than one while a secret is replaced
        return any(hmac.compare_digest(expected, one) for one in given)
