"""Every setting, each with its variable, default, parser and meaning. An argument wins over the variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Generic, NamedTuple, TypeVar

from aegis_otel.config.storage_schemes import examples
from aegis_otel.errors import ConfigError

T = TypeVar("T")
_PREFIX = "AEGIS_"
_CLOSE = 0.7
"""The similarity (0 to 1, of `difflib`) from which a name may be a misspelt setting, as `POLICY_FILE` is."""


class Setting(NamedTuple, Generic[T]):
    """A setting: an argument of this name, or a variable of the environment."""

    name: str
    default: T
    parse: Callable[[str], T]
    """Turns the variable's text into a value; raises ValueError saying what is expected."""
    meaning: str
    is_for_sealer: bool = False
    """Whether the process that seals gets the variable; it gets no other of these."""

    @property
    def env(self) -> str:
        """The variable."""
        return _PREFIX + self.name.upper()

    def value(self, argument: T | None = None) -> T:
        """Return the value in force: of the argument, the environment or the default.

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


def _seconds(example: int) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise ValueError(f"expected a number of seconds above 0, such as {example}")
        return value

    return parse


def _one_of(*allowed: str) -> Callable[[str], str]:
    """Return a parser of one of these words, which may be written in any case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if not text.isascii() or word not in allowed:
            close = get_close_matches(word, allowed, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"expected {' or '.join(allowed)}{hint}")
        return word

    return parse


def _audit_id(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise ValueError("expected 32 hex digits, as `aegis audit verify` prints them")
    return text


POLICY = Setting(
    "policy",
    "",
    str,
    "the policy file; several files, separated by `:`, are merged, and the first has precedence",
)
CANDIDATE = Setting(
    "candidate",
    "",
    str,
    "a policy that is asked about every call as well, for the record alone; written like `policy`",
)
MODE = Setting(
    "mode",
    "enforce",
    _one_of("enforce", "monitor"),
    "`enforce`, or `monitor`, which decides and records, and stops nothing",
)
APPROVALS = Setting(
    "approvals",
    "handler",
    _one_of("handler", "sdk", "inbox"),
    "who asks the human: `handler`, in this process; `sdk`, by the SDK's interruptions (`RunState`); or "
    "`inbox`. People answer the last two by `aegis approvals` or on its page",
)
ON_UNGOVERNED = Setting(
    "on_ungoverned",
    "warn",
    _one_of("allow", "warn", "refuse"),
    "what to do about a tool that cannot be governed: `allow`, `warn`, or `refuse`, which ends the run",
)
ON_AUDIT_FAILURE = Setting(
    "on_audit_failure",
    "block",
    _one_of("block", "allow"),
    "what happens to a call when its verdict cannot be written to the audit: `block` or `allow`",
)
DURABILITY = Setting(
    "durability",
    "process",
    _one_of("process", "power"),
    "what a verdict survives before its tool runs: the end of the `process`, or a loss of `power`",
)
RELOAD_INTERVAL = Setting(
    "reload_interval",
    2.0,
    _seconds(2),
    "seconds between checks of the policy files for changes",
)
AUDIT_DIR = Setting(
    "audit_dir",
    "aegis_audit",
    str,
    f"the directory of the audit, or {examples('`')} (docs/audit-storage.md)",
)
AUDIT_SPOOL = Setting(
    "audit_spool",
    "",
    str,
    "with object storage: the local directory of the journal; by default it is named after the address",
)
AUDIT_ID = Setting(
    "audit_id",
    "",
    _audit_id,
    "the id that the audit must have, as `aegis audit verify` prints it; another audit is refused",
)
STATE = Setting(
    "state",
    "",
    str,  # checked where it is used: an error of a parser quotes the value, which may hold a password
    "where limits are counted and questions wait: `sqlite:///path` or `postgresql://user@host/database` "
    "(docs/state.md); by default `state.sqlite3` in the audit's local directory",
)
SEAL_KEY = Setting(
    "seal_key",
    "",
    str,
    "a PEM file with the Ed25519 private key that signs what is sealed",
    is_for_sealer=True,
)
APPROVAL_KEY = Setting(
    "approval_key",
    "",
    str,
    "the file with the key (32 bytes or more) that proves answers; by default in the user's state directory",
    is_for_sealer=True,
)
ANSWER_KEY = Setting(
    "answer_key",
    "",
    str,
    "a PEM file with the Ed25519 private key that signs answers in the inbox; for the page and the commands, "
    "never for agents",
)
ANSWER_PUBLIC_KEY = Setting(
    "answer_public_key",
    "",
    str,
    "a PEM file with the public keys whose answers in the inbox count; by default the user's own key",
)
EVALUATION_DURATION = Setting(
    "evaluation_duration",
    "off",
    _one_of("off", "on"),
    "`on` measures how long a policy takes to decide: the histogram `aegis.policy.evaluation.duration`",
)
APPROVAL_TIMEOUT = Setting(
    "approval_timeout",
    300.0,
    _seconds(300),
    "seconds a human has to answer; then the call is denied as expired",
)
REDACTION = Setting(
    "redaction",
    "",
    str,
    "a YAML file, or as an argument a mapping: names and patterns to hide or to show (docs/redaction.md)",
)

USER_ON_SIGNALS = Setting(
    "user_on_signals",
    "hash",
    _one_of("hash", "id", "none"),
    "the user on spans and events: `hash` (`user.hash`, a keyed digest), `id` (`user.id`), or `none`",
)

SETTINGS: tuple[Setting[str] | Setting[float], ...] = tuple(
    each for each in tuple(globals().values()) if isinstance(each, Setting)
)
"""Every setting above, in that order."""


def unknown_variables() -> list[str]:
    """Return a message for each variable whose name is close to that of a setting.

    Others may use the prefix, so a name that resembles no setting is passed over.
    """
    known = {setting.env.removeprefix(_PREFIX): setting.env for setting in SETTINGS}
    found = []
    for name in sorted(os.environ):
        rest = name.removeprefix(_PREFIX)
        if rest != name and rest not in known and (close := get_close_matches(rest, known, 1, _CLOSE)):
            found.append(f"unknown `{name}` (did you mean `{known[close[0]]}`?)")
    return found


def monitors(mode: str | None = None) -> bool:
    """Return whether calls are only watched and none is stopped; an unknown mode counts as enforce."""
    try:
        return MODE.value(mode) == "monitor"
    except ConfigError:
        return False
