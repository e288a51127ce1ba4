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
from typing import TYPE_CHECKING, Any

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.location import audit_errors
from aegis_otel.audit.seals.hash_chain import link, without_chain
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from aegis_otel.audit.seals.seal_log import Seal


Signer = Callable[[str, str], str]
"""Takes the id of an audit and a chain value, and returns the signature: 128 hex digits."""

_LARGEST = 64 << 10
_FIX = "make one with `openssl genpkey -algorithm ed25519`"


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
    content = _read(Path(name), private=True)
    ed25519, serialization = _library()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # there are many kinds, also for a key with a passphrase
        raise ConfigError(f"`{name}` is no private key to sign seals with: {error}; {_FIX}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"`{name}` is a private key of another kind than Ed25519: {_FIX}")
    return lambda audit, value: key.sign(_message(audit, value)).hex()


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Return a key that signatures are checked with.

    Raises:
        ConfigError: the file is not such a key, or the package `cryptography` is missing.
        AuditError: the file cannot be read.
    """
    content = _read(path, private=False)
    ed25519, serialization = _library()
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:
        raise ConfigError(f"`{path}` is no public key: {error}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"`{path}` is a public key of another kind than Ed25519")
    public: Ed25519PublicKey = key
    return public


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
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - optional

    member = b',"signature":"%b"}' % signature.encode()
    value, _ = link(previous, without_chain(line).removesuffix(member) + b"}")
    for key in keys:
        with suppress(InvalidSignature, ValueError):
            key.verify(bytes.fromhex(signature), _message(audit, value))
            return True
    return False


def _message(audit: str, value: str) -> bytes:
    return f"aegis seal {audit} {value}".encode()


def _read(path: Path, *, private: bool) -> bytes:
    with audit_errors("read the key", path, "correct the path or its permissions"):
        return files.read_secret(path, "the key", _LARGEST, private=private)


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - optional
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "signatures need the package `cryptography`: `pip install '.[sign]'` in a clone"
        ) from None
    return ed25519, serialization
