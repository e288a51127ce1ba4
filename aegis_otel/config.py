"""Every setting in one table. Precedence: argument, then environment, then default."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from aegis_otel.errors import ConfigError

T = TypeVar("T")


class Setting(NamedTuple, Generic[T]):
    name: str
    env: str
    default: T
    parse: Callable[[str], T]
    """Turns the variable's text into a value; raises ValueError saying what is expected."""
    meaning: str

    def value(self, argument: T | None = None) -> T:
        """The value in force.

        Raises:
            ConfigError: when the argument, or the environment variable, is unusable.
        """
        if argument is not None:
            name, text = self.name, str(argument)
        else:
            name, text = self.env, os.environ.get(self.env, "").strip()
            if not text:
                return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigError(f"`{name}` is `{text}`: {error}") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError("expected a number of seconds above 0, such as 300")
    return value


AUDIT_DIR = Setting("audit_dir", "AEGIS_AUDIT_DIR", "aegis_audit", str, "the directory of the audit")
APPROVAL_TIMEOUT = Setting(
    "approval_timeout",
    "AEGIS_APPROVAL_TIMEOUT",
    300.0,
    _seconds,
    "seconds a human has to answer; then the call is denied as expired",
)

SETTINGS: tuple[Setting[str] | Setting[float], ...] = (AUDIT_DIR, APPROVAL_TIMEOUT)
