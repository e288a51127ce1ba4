"""Signatures of seals: Ed25519, with a key that lies outside of the audit directory.

A signature is made over the chain value that the seal's line would have without it, and is then part of the
line: so it vouches for all that stands before it, and the chain, and with it a witness, vouches for it.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.location import failure
from aegis_otel.audit.seals.hash_chain import link, without_chain
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from aegis_otel.audit.seals.seal_log import Seal


Signer = Callable[[str, str], str]
"""From the id of an audit and a chain value to a signature, 128 hex digits."""

_LARGEST = 64 << 10
_FIX = "make one with `openssl genpkey -algorithm ed25519`"


def load_signer(path: str | None = None) -> Signer | None:
    """Return the function that signs seals; None where no key is set.

    Args:
        path: Of the private key, PEM. Default: `AEGIS_SEAL_KEY`.

    Raises:
        ConfigError: it is no such key, others can read it, or the package `cryptography` is missing.
        AuditError: it cannot be read.
    """
    name = SEAL_KEY.value(path)
    if not name:
        return None
    content = _read(Path(name), private=True)
    ed25519, serialization = _library()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # of many kinds, also for a key with a passphrase
        raise ConfigError(f"`{name}` is no private key to sign seals with: {error}; {_FIX}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"`{name}` is a private key of another kind than Ed25519: {_FIX}")
    return lambda audit, value: key.sign(_message(audit, value)).hex()


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Return a key that signatures are checked with.

    Raises:
        ConfigError: it is no such key, or the package `cryptography` is missing.
        AuditError: it cannot be read.
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
    """Return whether the key of `AEGIS_SEAL_KEY` made the signature of a seal, for which `previous` is known.

    Raises:
        ConfigError: as for `load_signer`.
    """
    sign = load_signer() if seal.signature else None
    if sign is None:
        return False
    bare = msgspec.structs.replace(seal, signature="", chain="", previous="")
    value, _ = link(seal.previous, msgspec.json.encode(bare))
    return hmac.compare_digest(sign(seal.audit, value), seal.signature)  # of Ed25519 it is always the same


def is_signed(
    previous: str, line: bytes, audit: str, signature: str, keys: Sequence[Ed25519PublicKey]
) -> bool:
    """Return whether one of the keys made the signature of a seal's line, which follows `previous`."""
    member = b',"signature":"%b"}' % signature.encode()
    value, _ = link(previous, without_chain(line).removesuffix(member) + b"}")
    return any(_fits(key, signature, _message(audit, value)) for key in keys)


def _fits(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - optional

    try:
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(audit: str, value: str) -> bytes:
    return f"aegis seal {audit} {value}".encode()


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with files.open_key(path) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ConfigError(f"the key `{path}` is not a file")
            if private and state.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"the key `{path}` belongs to user {state.st_uid}: make it your own")
            if private and state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"the key `{path}` is open to other users: run `chmod 600` on it")
            return file.read(_LARGEST)
    except OSError as error:
        raise failure("read the key", path, error, "correct the path or its permissions") from error


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - optional
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "signatures need the package `cryptography`: `pip install '.[sign]'` in a clone"
        ) from None
    return ed25519, serialization
