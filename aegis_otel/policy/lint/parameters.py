"""What a parameter probably holds, by its name: a command, a path, SQL, an address."""

from __future__ import annotations

import re
from enum import Enum

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


def content_of(path: str) -> Content:
    """What the parameter at the dotted `path` probably holds."""
    words = {word.lower() for word in _WORDS.findall(path.rpartition(".")[2])}
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
