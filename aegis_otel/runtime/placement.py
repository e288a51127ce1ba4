"""Find whether the policy and the audit lie within reach of the tools of an agent that write files.

A tool that may write below the working directory may write over a policy, which is in force seconds later, or
into the audit. Rules can forbid it, but a rule on paths has to name them all. So whoever starts governance is
warned where such a tool is known; docs/threat-model.md says how to place the files.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WORDS: dict[str, list[str]] = json.loads(pkgutil.get_data(__package__, "data/words.json") or b"")
"""Words in the names of tools: shells, verbs and nouns of code and of files; and names of parameters."""


def _any(words: set[str], *titles: str) -> bool:
    """Return whether a word of each of these lists is among `words`."""
    return not any(words.isdisjoint(_WORDS[title]) for title in titles)


def can_write_files(name: str, schema: Mapping[str, Any] | None = None) -> bool:
    """Return whether a tool seems to write files or run commands, by its name and its parameters.

    Args:
        name: The name of the tool.
        schema: The JSON Schema of its parameters, where it has one.
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if _any(words, "shells") or _any(words, "runs", "code") or _any(words, "writes", "files"):
        return True
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    names = {str(each).lower() for each in properties} if isinstance(properties, Mapping) else set()
    return _any(names, "path_parameters", "content_parameters")


def within_reach(policies: Iterable[str | os.PathLike[str]], audit: Path) -> list[str]:
    """Return what lies below the working directory and may be changed by this user, each with its name.

    Args:
        policies: The policy's files; others, such as the name of a policy made in code, are passed over.
        audit: The audit directory, which the program itself writes to.
    """
    try:
        root = os.path.realpath(os.getcwd())
    except OSError:  # the working directory was removed
        return []
    found = [
        f"the policy `{_relative(root, policy)}`"
        for policy in map(Path, policies)
        if policy.is_file() and _is_below(root, policy) and _may_be_changed(policy)
    ]
    return [*found, f"the audit `{_relative(root, audit)}`"] if _is_below(root, audit) else found


def warning(tool: str, reached: Sequence[str]) -> str:
    """Return what to say where `tool` can reach what `within_reach` found."""
    return (
        f"`{tool}` can write files, and {' and '.join(reached)} can be changed below the working directory: "
        "a call that is let through could do it; place them elsewhere (docs/threat-model.md)"
    )


def _relative(root: str, path: Path) -> str:
    return os.path.relpath(os.path.realpath(path), root)


def _is_below(root: str, path: Path) -> bool:
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _may_be_changed(path: Path) -> bool:
    """Return whether this user can change a file: by writing to it, or by putting another in its place."""
    return os.access(path, os.W_OK) or os.access(path.absolute().parent, os.W_OK)
