"""Ed25519 keys in PEM files: read them, make a pair of them, and check signatures by them.

The package `cryptography` is optional, so it is imported where a key is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis_otel.audit import files
from aegis_otel.audit.location import audit_errors
from aegis_otel.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST = 64 << 10
_FIX = "make one with `openssl genpkey -algorithm ed25519`"
_FIX_PUBLIC = "make its file with `openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem`"
_PRIVATE = b"PRIVATE KEY-----"
_ONE_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def load_private_key(path: Path, purpose: str) -> Ed25519PrivateKey:
    """Return the private key in a PEM file.

    Args:
        path: The file. It has to be this user's or root's, and closed to all others.
        purpose: What the key is for, such as `sign seals with`.

    Raises:
        ConfigError: the file is not such a key, others can read it, or the package `cryptography` is missing.
        AuditError: the file cannot be read.
    """
    content = _read(path, private=True)
    ed25519, serialization = _library()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # there are many kinds, also for a key with a passphrase
        raise ConfigError(f"`{path}` is no private key to {purpose}: {error}; {_FIX}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"`{path}` is a private key of another kind than Ed25519: {_FIX}")
    private: Ed25519PrivateKey = key
    return private


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Return the key in a PEM file that signatures are checked with.

    Raises:
        ConfigError: the file is not such a key, or the package `cryptography` is missing.
        AuditError: the file cannot be read.
    """
    return _public_key(path, _read(path, private=False))


def load_public_keys(path: Path) -> tuple[Ed25519PublicKey, ...]:
    """Return all keys in a PEM file that nobody else may write to: whoever can, chooses whom to trust.

    Raises:
        ConfigError: as for `load_public_key`; or others can write to the file.
        AuditError: the file cannot be read.
    """
    content = _read(path, private=False, guarded=True)
    return tuple(_public_key(path, each) for each in _ONE_KEY.findall(content) or [content])


def make_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a private key `NAME.pem` and the public key `NAME.pub.pem` of it, and return their paths.

    What is there already stays, so many processes can do this at once.

    Raises:
        ConfigError: the key that is there is none, or the package `cryptography` is missing.
        AuditError: a file cannot be read.
        OSError: a file cannot be written.
    """
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    ed25519, serialization = _library()
    if not private.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with files.replaced(folder, private.name, once=True) as draft:  # the first process makes it
            draft.file.write(made)
    if not public.exists():
        key = load_private_key(private, "sign with").public_key()
        text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        with files.replaced(folder, public.name, once=True) as draft:
            draft.file.write(text)
    return private, public


def raw_bytes(key: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    _, serialization = _library()
    raw: bytes = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw


def is_signed_by(keys: Sequence[Ed25519PublicKey], signature: bytes, message: bytes) -> bool:
    """Return whether one of the keys made the signature of a message."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - optional

    for key in keys:
        with suppress(InvalidSignature, ValueError):
            key.verify(signature, message)
            return True
    return False


def _public_key(path: Path, content: bytes) -> Ed25519PublicKey:
    ed25519, serialization = _library()
    if _PRIVATE in content:
        raise ConfigError(f"`{path}` is no public key: it is a private one; {_FIX_PUBLIC}")
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:
        raise ConfigError(f"`{path}` is no public key: {error}; {_FIX_PUBLIC}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"`{path}` is a public key of another kind than Ed25519")
    public: Ed25519PublicKey = key
    return public


def _read(path: Path, *, private: bool, guarded: bool = False) -> bytes:
    with audit_errors("read the key", path, "correct the path or its permissions"):
        return files.read_secret(path, "the key", _LARGEST, private=private, guarded=guarded)


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - optional
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "signatures need the package `cryptography`: `pip install '.[sign]'` in a clone"
        ) from None
    return ed25519, serialization
