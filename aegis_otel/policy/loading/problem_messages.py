"""Put the faults of a policy's data into words for the person who wrote the policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aegis_otel.policy.loading.schema import KEY_SYNONYMS, KEYS, Fault
from aegis_otel.policy.loading.validators import APPROVALS, CHOICES, MISSING_CONDITIONS, SYNONYMS, synonym
from aegis_otel.policy.loading.yaml_reader import Location
from aegis_otel.policy.messages import closest, quoted, shown
from aegis_otel.policy.operators.table import OPERATORS
from aegis_otel.policy.rules import GROUPS, HISTORY

_HOLDERS = frozenset((*KEYS, *OPERATORS)) - {""}
"""The keys whose values have keys of their own."""
_OF_RULE = "it is a key of a rule, indented as the rule's other keys are"
_SHORT = 60
"""Characters of a value that a suggestion repeats."""


def explain_faults(faults: Sequence[Fault]) -> list[tuple[Location, bool, str, str | None]]:
    """Return the location of each fault, whether its key is meant, the sentence about it, and what was meant.

    Where a section is empty because the lines below it have the indent of its own key, that is one fault.
    """
    found: list[tuple[Location, bool, str, str | None]] = []
    empty: dict[Location, int] = {}
    outside: dict[int, list[str]] = {}
    for fault in faults:
        around, key = fault.location[:-1], fault.location[-1:]
        number = empty.get(around)
        if number is not None and fault.error is None and _belongs(key[0], found[number][0][-1]):
            outside.setdefault(number, []).append(quoted(str(key[0])))
            continue
        if (
            fault.error is not None
            and fault.value is None
            and not fault.at_key
            and key
            and key[0] in _HOLDERS
        ):
            empty[around] = len(found)
        found.append((fault.location, fault.at_key, *explain_fault(fault)))
    for number, keys in outside.items():
        at, at_key, message, _ = found[number]
        item = ", each rule after a `- `" if at == ("rules",) else ""
        found[number] = at, at_key, f"{message}: indent {' and '.join(keys[:3])} below it{item}", None
    return found


def _belongs(key: Any, section: Any) -> bool:
    """Return whether `key`, unknown where it stands, is probably one of the empty section before it."""
    if not isinstance(key, str):
        return False
    if section in KEYS:
        return key in KEYS[section]
    words = (*KEYS["conditions"], *KEY_SYNONYMS["conditions"], *MISSING_CONDITIONS)
    return synonym(key, dict.fromkeys(words, key)) is None and closest(key, KEYS["conditions"]) is None


def explain_fault(fault: Fault) -> tuple[str, str | None]:
    """Return the sentence about `fault`, and what was probably meant."""
    if fault.error is None:
        return _unknown_key(fault.location, fault.value)
    meant = fault.error.suggestion
    return f"{_subject(fault)} {fault.error}", meant() if callable(meant) else meant


def _unknown_key(location: Location, value: Any) -> tuple[str, str | None]:
    key: Any = location[-1]
    if not isinstance(key, str):
        return f"a key must be text, not {shown(key)}", None
    section = next((step for step in reversed(location[:-1]) if isinstance(step, str)), "")
    where = {"": "a policy", "rules": "a rule"}.get(section, f"`{section}`")
    section = "conditions" if section in GROUPS else section
    name, colon, rest = key.partition(":")
    if colon and name in KEYS[section]:
        return f"a space is missing after {quoted(name + ':')}", f"{name}: {rest}"
    unknown = f"unknown key {quoted(key)} in {where}"
    # A key such as `deny` or `ask` stands for an approval.
    word = key if key in APPROVALS else synonym(key, SYNONYMS["approval"])
    if section in ("rules", "defaults") and word and value is not False:
        return unknown, f"approval: {word}"
    if meant := synonym(key, KEY_SYNONYMS[section]):
        return unknown, _with_value(meant, value)
    if section == "conditions" and (instead := synonym(key, MISSING_CONDITIONS)):
        return f"{unknown}: {instead}", None
    homes = [name for name, keys in KEYS.items() if key in keys]
    of_rule = "rules" in homes and "rules" in location
    home = "rules" if of_rule else next(iter(homes), None)
    if home is None:
        meant = closest(key, KEYS[section])
        if section == "conditions" and meant is None:
            example = f"{{ {quoted(key)[1:-1]}: ... }}"
            return f"{unknown}: a parameter stands below its condition, as in `param_gt: {example}`", None
        return unknown, meant
    misplaced = f"{quoted(key)} does not belong in {where}"
    if home == "":
        return f"{misplaced}: it is a key of the policy itself", None
    if home == "rules":
        return f"{misplaced}: {_OF_RULE}", None
    if home == "defaults" and not section:
        return f"{misplaced}: {_OF_RULE}, or of `defaults`", None
    return misplaced, f"{home}.{key}"


def _with_value(key: str, value: Any) -> str:
    """Return what to write in place of a key of another policy language: the key here, and its value."""
    section, _, inner = key.rpartition(".")
    if inner in CHOICES:
        lower = value.lower() if isinstance(value, str) else ""
        meant = lower if lower in CHOICES[inner] else synonym(value, SYNONYMS[inner])
        return f"{inner}: {meant}" if meant else inner
    if not section:
        return key
    short = isinstance(value, str) and value.isprintable() and len(value) <= _SHORT
    return f"{section}: {{ {inner}: {json.dumps(value, ensure_ascii=False) if short else '...'} }}"


def _subject(fault: Fault) -> str:
    names = [step for step in fault.location if isinstance(step, str)]
    if not names:
        return "a policy"
    if isinstance(fault.location[-1], int) and names[-1] in ("rules", "any"):
        return "a rule" if names[-1] == "rules" else "an item of `any`"
    return subject(names, at_key=fault.at_key)


def subject(names: list[str], *, at_key: bool = False) -> str:
    """Return the subject of a sentence about the value that these keys lead to."""
    section = names[-2] if len(names) > 1 else ""
    if section in OPERATORS:
        return f"`{section}`" if at_key else f"`{section}` on {quoted(names[-1])}"
    if section in ("match", "defaults", "approvers", *HISTORY):
        return f"`{section}.{names[-1]}`"
    return f"`{names[-1]}`"


def path(location: Location) -> str:
    """Return where something is in a policy that has no lines: `rules[2].match.type`."""
    found = ""
    for step in location:
        if isinstance(step, int):
            found += f"[{step}]"
        else:
            name = quoted(str(step))[1:-1]
            found += f".{name}" if found else name
    return found
