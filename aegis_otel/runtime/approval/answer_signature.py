"""Signatures of answers in the inbox: made by the page and the commands, checked by who acts on an answer.

An agent can write to the inbox, and so can a tool that reaches its file or its database. So an answer is
signed with an Ed25519 key that agents do not have: they hold the public key alone. On one machine without
settings, a pair is made for the user, which keeps out whoever can write to the inbox and cannot read the
user's files; docs/threat-model.md says what that leaves open.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit.location import audit_errors, user_folder
from aegis_otel.audit.seals.ed25519_keys import (
    is_signed_by,
    load_private_key,
    load_public_keys,
    make_key_pair,
    raw_bytes,
)
from aegis_otel.config import ANSWER_KEY, ANSWER_PUBLIC_KEY, Setting
from aegis_otel.errors import AnswerRefused, AuditError, ConfigError
from aegis_otel.governance.approvals.inbox import Answer, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import decode_answer, encode_answer
from aegis_otel.governance.approvals.inbox_proofs import UNKNOWN_KEY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_log = logging.getLogger("aegis_otel")
_NAME = "answer-key"
_PURPOSE = "sign answers with"
_ID_DIGITS = 16
_MOST_REMEMBERED = 10_000
"""The most answers with a wrong signature that are remembered: about a megabyte."""
_SETTINGS = f"name the keys with `{ANSWER_KEY.env}` and `{ANSWER_PUBLIC_KEY.env}`"


class AnswerSigner:
    """Signs answers. Only who has taken an answer from a person who is signed in may have one."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = _key_id(key.public_key())

    def sign(self, answer: Answer) -> SignedAnswer:
        body = encode_answer(answer)
        return SignedAnswer(body, self._key.sign(body), self.key_id)

    def derived_key(self, purpose: str) -> bytes:
        """Return 32 secret bytes for another purpose, the same for all who have the key.

        They are the SHA-256 of a signature, which Ed25519 makes always the same, of what is no answer.
        """
        return hashlib.sha256(self._key.sign(f"aegis-otel key for {purpose}\n".encode())).digest()


class AnswerKeys:
    """The public keys by which answers are believed; calling it checks one, as `CheckAnswer` of the inbox.

    A question is judged anew at each of its changes, so a wrong signature that stays in the inbox is checked
    once: else whoever can write there makes work again and again. Any number of threads can call it at once.
    """

    def __init__(self, keys: tuple[Ed25519PublicKey, ...]) -> None:
        self._keys = {_key_id(key): key for key in keys}
        self._wrong: set[bytes] = set()

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def __call__(self, signed: SignedAnswer) -> Answer:
        key = self._keys.get(signed.key)
        if key is None:
            raise AnswerRefused(UNKNOWN_KEY)
        if not self._is_right(key, signed):
            raise AnswerRefused("the answer has another signature than its key makes")
        try:
            return decode_answer(signed.body)
        except ValueError as error:
            raise AnswerRefused(f"what is signed is no answer: {error}") from None

    def _is_right(self, key: Ed25519PublicKey, signed: SignedAnswer) -> bool:
        parts = signed.key.encode(), signed.signature, signed.body
        digest = hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in parts)).digest()
        if digest in self._wrong:
            return False
        if is_signed_by([key], signed.signature, signed.body):
            return True
        if len(self._wrong) >= _MOST_REMEMBERED:
            self._wrong = set()
        self._wrong.add(digest)
        return False


def load_answer_signer(audit: Path, path: str | None = None, *, tools_work_here: bool = True) -> AnswerSigner:
    """Return what signs answers.

    Args:
        audit: The audit directory, which must not hold the key.
        path: The PEM file of the private key. Default: `AEGIS_ANSWER_KEY`, else the user's own key, which is
            made if there is none.
        tools_work_here: Whether the working directory may be one of an agent; then the user's own key must
            not lie below it.

    Raises:
        ConfigError: the file is not such a key, others can read it, tools of agents may by where it lies, or
            the package `cryptography` is missing.
        AuditError: the file cannot be read or made.
    """
    named = ANSWER_KEY.value(path)
    if not named:
        return AnswerSigner(load_private_key(_own_pair(audit, tools_work_here)[0], _PURPOSE))
    with _named_by(ANSWER_KEY):
        return AnswerSigner(load_private_key(_outside(_path(named), audit), _PURPOSE))


def load_answer_keys(audit: Path, path: str | None = None, *, tools_work_here: bool = True) -> AnswerKeys:
    """Return the keys by which answers are checked.

    Args:
        audit: The audit directory, which must not hold them: whoever can write to it could add a key.
        path: The PEM file of one or more public keys. Default: `AEGIS_ANSWER_PUBLIC_KEY`, else the public key
            of `AEGIS_ANSWER_KEY`, else that of the user's own key, which is made if there is none.
        tools_work_here: As for `load_answer_signer`.

    Raises:
        ConfigError: the file has no such key, others can write to it, or the package `cryptography` is
            missing.
        AuditError: the file cannot be read or made.
    """
    named = ANSWER_PUBLIC_KEY.value(path)
    if not named and (private := ANSWER_KEY.value()):
        with _named_by(ANSWER_KEY):
            key = load_private_key(_outside(_path(private), audit), _PURPOSE)
        return AnswerKeys((key.public_key(),))
    if not named:
        return AnswerKeys(load_public_keys(_own_pair(audit, tools_work_here)[1]))
    public = _path(named)
    with _named_by(ANSWER_PUBLIC_KEY):
        keys = AnswerKeys(load_public_keys(_outside(public, audit)))
    if tools_work_here and _is_below_working_directory(public) and _may_write(public):
        _log.warning(
            "`%s` is %s, below the working directory, and this user can write it: a tool that does could "
            "approve by a key of its own after the next start, so keep it elsewhere, owned by another user",
            ANSWER_PUBLIC_KEY.env,
            public,
        )
    return keys


@contextmanager
def _named_by(setting: Setting[str]) -> Iterator[None]:
    """Say in an error which setting names the key."""
    try:
        yield
    except (AuditError, ConfigError) as error:
        raise type(error)(f"`{setting.env}`: {error}") from error


def _own_pair(audit: Path, tools_work_here: bool) -> tuple[Path, Path]:
    """Return the paths of the user's own keys, and make them if there are none."""
    folder = _outside(user_folder("the key that signs answers", _SETTINGS), audit)
    if tools_work_here:
        _check_working_directory(folder)
    with audit_errors("use the key that signs answers in", folder, _SETTINGS):
        return make_key_pair(folder, _NAME)


def _may_write(path: Path) -> bool:
    """Return whether this user can change a file, or put another one in its place."""
    return any(os.access(each, os.W_OK) for each in (path, path.parent, path.resolve().parent))


def _is_below_working_directory(path: Path) -> bool:
    try:
        root = os.path.realpath(os.getcwd())
    except OSError:  # the working directory was removed
        return False
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _check_working_directory(folder: Path) -> None:
    if _is_below_working_directory(folder):
        raise ConfigError(
            f"the key that signs answers would lie in `{folder}`, below the working directory, where tools "
            f"may read it: start in another directory, or {_SETTINGS}"
        )


def _path(named: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(named)))


def _outside(path: Path, audit: Path) -> Path:
    if path.resolve().is_relative_to(audit.resolve()):
        raise ConfigError(
            f"the key of answers `{path}` lies within the audit, where agents write: {_SETTINGS} elsewhere"
        )
    return path


def _key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(raw_bytes(key)).hexdigest()[:_ID_DIGITS]
