"""The settings of redaction: names, patterns and rules that users add or take out, for the whole process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from re import escape
from typing import Any

import msgspec
import re2

from aegis_otel.errors import ConfigError
from aegis_otel.redaction import redactor
from aegis_otel.redaction.secrets import scanner, secret_names
from aegis_otel.redaction.secrets.value_patterns import compiled
from aegis_otel.redaction.secrets.vendor_rules import rules
from aegis_otel.semconv import __version__

_MOST = 200  # entries of a list
_LONGEST = {"names": 100, "exempt_names": 100, "patterns": 1_000, "exempt_rules": 100}
_KEYS = tuple(_LONGEST)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; as given, but for names, which are brought into one form."""

    names: tuple[str, ...] = ()
    """Names whose values are hidden, too: `iban` also stands for `customer_iban`."""
    exempt_names: tuple[str, ...] = ()
    """Names whose values are not hidden for their name; `*` and `?` stand for any characters, for one."""
    patterns: tuple[str, ...] = ()
    """Patterns in RE2's syntax: the first group of a match is hidden, or all of it."""
    exempt_rules: tuple[str, ...] = ()
    """Ids of rules in `data/gitleaks.json` that are not used."""

    @property
    def digest(self) -> str:
        """The digest over these settings, the rules and this version, which every row has."""
        given = (__version__, rules().source, self.names, self.exempt_names, self.patterns, self.exempt_rules)
        return f"sha256:{hashlib.sha256(msgspec.json.encode(given)).hexdigest()}"


_in_force: list[tuple[Settings, str]] = []


def digest() -> str:
    """Return the digest of what is in force."""
    if not _in_force:
        apply(Settings())
    return _in_force[0][1]


def in_force() -> Settings | None:
    """Return the settings that were applied; None before."""
    return _in_force[0][0] if _in_force else None


def apply(settings: Settings) -> None:
    """Have the whole process redact by these settings from now on; compiles what is needed."""
    if _in_force and _in_force[0][0] == settings:
        return
    secret_names.configure(settings.names, settings.exempt_names)
    redactor.forget()
    if settings == Settings():
        scanner.configure(None)
        scanner.engine()
    else:
        spelled = [r"[ _.\-]*".join(map(escape, name.split("_"))) for name in settings.names]
        added = [f"(?i:{name})" for name in spelled]
        scanner.configure(scanner.Engine(added, settings.patterns, settings.exempt_rules))
    _in_force[:] = [(settings, settings.digest)]
    redactor.forget()  # again: what was redacted meanwhile may be by the settings before


def parse(given: object, place: str = "redaction") -> Settings:
    """Return the settings in a mapping, as from YAML.

    Args:
        given: `{names: [...], exempt_names: [...], patterns: [...], exempt_rules: [...]}`, each optional.
        place: Where it stands, for messages.

    Raises:
        ConfigError: something in it is unusable; the message says which entry, and what is expected.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"`{place}` is a `{type(given).__name__}`: expected a mapping of {', '.join(_KEYS)}"
        )
    for key in given:
        if key not in _KEYS:
            hint = _hint(str(key), _KEYS) or f": expected {', '.join(_KEYS)}"
            raise ConfigError(f"`{place}` has an unknown `{key}`{hint}")
    lists = {key: _texts(given.get(key), f"{place}.{key}", _LONGEST[key]) for key in _KEYS}
    known = [rule.id for rule in rules().rules]
    for place_in, rule in enumerate(lists["exempt_rules"]):
        if rule not in known:
            where = f"`{place}.exempt_rules[{place_in}]`"
            raise ConfigError(f"{where} is `{rule}`, which is no rule{_hint(rule, known)}")
    for place_in, pattern in enumerate(lists["patterns"]):
        _check_pattern(pattern, f"{place}.patterns[{place_in}]")
    return Settings(
        names=tuple(secret_names.normal(name) for name in lists["names"]),
        exempt_names=tuple(secret_names.normal_glob(name) for name in lists["exempt_names"]),
        patterns=lists["patterns"],
        exempt_rules=lists["exempt_rules"],
    )


def _hint(given: str, known: Sequence[str]) -> str:
    close = get_close_matches(given, known, 1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _texts(given: Any, place: str, longest: int) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, list | tuple):
        raise ConfigError(f"`{place}` is a `{type(given).__name__}`: expected a list of texts")
    if len(given) > _MOST:
        raise ConfigError(f"`{place}` has {len(given)} entries: at most {_MOST} are possible")
    for number, item in enumerate(given):
        if not isinstance(item, str) or not item.strip() or len(item) > longest:
            raise ConfigError(f"`{place}[{number}]` must be a text of 1 to {longest} characters")
        if longest == 100 and not any(char.isalnum() for char in item):
            raise ConfigError(
                f"`{place}[{number}]` is `{item}`: expected a name with a letter or digit in it"
            )
    return tuple(given)


def _check_pattern(pattern: str, place: str) -> None:
    try:
        regex = compiled(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error
        raise ConfigError(f"`{place}` is no pattern in RE2's syntax: {why}") from None
    if regex.search(b"") is not None or (regex.search(b"a b") is not None and regex.search(b"1-2")):
        raise ConfigError(f"`{place}` is `{pattern}`, which matches almost anything")
