"""Signatures of seals: Ed25519, with a key that lies outside of the audit directory.

A signature covers the chain value that the seal's line would have without it, and then becomes part of the
line. So it vouches for everything before it, and later chain values, also those that a witness holds, vouch
for the signature.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aegis_otel.audit.seals.ed25519_keys import is_signed_by, load_private_key
from aegis_otel.audit.seals.hash_chain import link, without_chain
from aegis_otel.config import SEAL_KEY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from aegis_otel.audit.seals.seal_log import Seal


Signer = Callable[[str, str], str]
"""Takes the id of an audit and a chain value, and returns the signature: 128 hex digits."""


def load_signer(path: str | None = None) -> Signer | None:
    """Return the function that signs seals; None if no key is set.

    Args:
        path: The PEM file of the private key. Default: `AEGIS_SEAL_KEY`.

    Raises:
        ConfigError: the file is not such a key, others can read it, or the package `cryptography` is missing.
        AuditError: the file cannot be read.
    """
    name = SEAL_KEY.value(path)
    if not name:
        return None
    key = load_private_key(Path(name), "sign seals with")
    return lambda audit, value: key.sign(_message(audit, value)).hex()


def is_signed_here(seal: Seal) -> bool:
    """Return whether the key of `AEGIS_SEAL_KEY` made the signature of a seal whose `previous` is set.

    Raises:
        ConfigError: as for `load_signer`.
    """
    sign = load_signer() if seal.signature else None
    if sign is None:
        return False
    bare = msgspec.structs.replace(seal, signature="", chain="", previous="")
    value, _ = link(seal.previous, msgspec.json.encode(bare))
    return hmac.compare_digest(sign(seal.audit, value), seal.signature)  # Ed25519 is deterministic


def is_signed(
    previous: str, line: bytes, audit: str, signature: str, keys: Sequence[Ed25519PublicKey]
) -> bool:
    """Return whether one of the keys made the signature in a seal's line, which follows `previous`."""
    member = b',"signature":"%b"}' % signature.encode()
    value, _ = link(previous, without_chain(line).removesuffix(member) + b"}")
    with suppress(ValueError):
        return is_signed_by(keys, bytes.fromhex(signature), _message(audit, value))
    return False


def _message(audit: str, value: str) -> bytes:
    return f"aegis seal {audit} {value}".encode()
