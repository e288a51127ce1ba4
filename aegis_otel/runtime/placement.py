"""Find whether the policy and the audit lie within reach of the tools of an agent that write files.

A tool that may write below the working directory may write over a policy, which is in force seconds later, or
into the audit. Rules can forbid it, but a rule on paths has to name them all. So whoever starts governance is
warned where such a tool is known; docs/threat-model.md says how to place the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHELLS = {"shell", "bash", "powershell", "terminal", "codex", "editor", "sandbox"}
_RUNS = {"run", "execute", "exec", "eval"}
_CODE = {"command", "commands", "cmd", "code", "python", "script", "process"}
_WRITES = {
    *("write", "edit", "save", "create", "append", "put", "move", "rename", "copy", "delete", "remove"),
    *("update", "replace", "patch", "insert", "modify", "download", "extract", "apply", "unlink"),
}
_FILES = {
    *("file", "files", "path", "paths", "directory", "folder", "disk", "patch", "workspace", "symlink"),
}
_PATHS = {
    *("path", "file", "filename", "filepath", "file_path", "target_file", "destination", "dest"),
    "output_path",
}
_CONTENTS = {
    *("content", "contents", "text", "data", "body", "patch", "diff", "new_str", "new_string"),
    "file_text",
}


def can_write_files(name: str, schema: Mapping[str, Any] | None = None) -> bool:
    """Return whether a tool seems to write files or run commands, by its name and its parameters.

    Args:
        name: The tool's.
        schema: The JSON Schema of its parameters, where it has one.
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _SHELLS or (words & _RUNS and words & _CODE) or (words & _WRITES and words & _FILES):
        return True
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    names = {str(each).lower() for each in properties} if isinstance(properties, Mapping) else set()
    return bool(names & _PATHS and names & _CONTENTS)


def within_reach(policies: Iterable[str | os.PathLike[str]], audit: Path) -> list[str]:
    """Return what lies below the working directory and may be changed by this user, each with its name.

    Args:
        policies: The policy's files; what is no file, such as the name of a policy made in code, is passed
            over.
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
    """Return the path as it is seen from the working directory, which is shorter to read."""
    return os.path.relpath(os.path.realpath(path), root)


def _is_below(root: str, path: Path) -> bool:
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _may_be_changed(path: Path) -> bool:
    """Return whether this user can change a file: by writing to it, or by putting another in its place."""
    return os.access(path, os.W_OK) or os.access(path.absolute().parent, os.W_OK)
