"""What a parameter probably holds, by its name: a command, a path, SQL, an address."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_COMMAND = frozenset(("command", "commands", "cmd", "bash", "shell", "script", "argv", "code", "exec", "cli"))
_PATH = frozenset(
    (
        *("path", "paths", "file", "files", "filename", "filepath", "dir", "directory"),
        *("folder", "dest", "destination", "move", "output"),
    )
)
_SQL = frozenset(("sql", "query", "statement"))
_URL = frozenset(("url", "uri", "href", "link", "endpoint", "webhook"))
_ADDRESS = frozenset(
    ("host", "hostname", "domain", "email", "mail", "recipient", "recipients", "to", "cc", "bcc", "address")
)
_AMOUNT = frozenset(
    (
        *(
            "amount",
            "price",
            "total",
            "sum",
            "cost",
            "fee",
            "payment",
            "refund",
            "budget",
            "credit",
            "discount",
        ),
        *("quantity", "qty", "shares", "salary", "bid", "usd", "eur", "cents", "money", "spend"),
    )
)
_CHANGING = frozenset(
    (
        *("delete", "remove", "drop", "destroy", "erase", "purge", "truncate", "wipe", "write", "overwrite"),
        *("update", "upsert", "insert", "replace", "move", "rename", "upload", "publish", "send", "pay"),
        *("transfer", "refund", "charge", "buy", "sell", "execute", "exec", "run", "kill", "stop", "restart"),
        *(
            "shutdown",
            "reboot",
            "deploy",
            "rollback",
            "grant",
            "revoke",
            "disable",
            "reset",
            "install",
            "merge",
        ),
        *("rotate", "cancel", "terminate", "approve", "invite", "chmod", "format", "patch", "post", "push"),
    )
)


class Content(Enum):
    """What kind of text it is."""

    COMMAND = "command"
    PATH = "path"
    SQL = "SQL"
    URL = "URL"
    ADDRESS = "address"
    OTHER = "other"

    @property
    def ignores_case(self) -> bool:
        """Whether what reads the text makes no difference between capital and small letters."""
        return self in (Content.SQL, Content.URL, Content.ADDRESS)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def is_amount(path: str) -> bool:
    """Whether the parameter at the dotted `path` probably holds money, or a number of what costs some."""
    return not _AMOUNT.isdisjoint(_words(path.rpartition(".")[2]))


def numbers_of(schema: Mapping[str, Any] | None) -> Iterator[str]:
    """The parameters at the top of `schema` that are numbers."""
    properties = (schema or {}).get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(inner, Mapping) and inner.get("type") in ("number", "integer"):
            yield str(name)


def changing_verbs(name: str) -> list[str]:
    """The words of a tool's name, or of a glob for some, that say that it changes something."""
    return [word for word in _words(name) if word in _CHANGING]


def content_of(path: str) -> Content:
    """What the parameter at the dotted `path` probably holds."""
    words = set(_words(path.rpartition(".")[2]))
    for content, names in (
        (Content.URL, _URL),
        (Content.PATH, _PATH),
        (Content.COMMAND, _COMMAND),
        (Content.SQL, _SQL),
        (Content.ADDRESS, _ADDRESS),
    ):
        if words & names:
            return content
    return Content.OTHER
