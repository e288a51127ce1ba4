"""Failures that a tool's body returns: what the SDK and MCP make of a call that did not succeed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from agents import ShellResult
from agents.editor import ApplyPatchResult
from agents.run_internal.tool_execution import normalize_shell_output
from agents.tool import ShellCommandOutput

from aegis_otel.governance.call import Failure

MCP_ERROR = "tool_error"
"""The `error.type` that the semantic conventions for MCP have for a result with `isError`."""
TIMEOUT = "timeout"
NONZERO_EXIT = "nonzero_exit"
PATCH_FAILED = "patch_failed"
_LONGEST = 10_000
"""Characters of an output that are looked at: the row has room for fewer."""


def returned_failure(value: object) -> Failure | None:
    """Return what went wrong in a body that has returned `value`; None where nothing says that it failed."""
    if value is None or type(value) is str:  # nearly always
        return None
    try:
        return _failure(value)
    except Exception:  # an object of the user's, whose attributes are code
        return None


def mcp_failure(result: Any) -> Failure | None:
    """Return what went wrong in a call of an MCP server that gave `result`; None if nothing did."""
    if _member(result, "isError") is not True and _member(result, "is_error") is not True:
        return None
    content = _member(result, "content")
    parts = [_member(each, "text") for each in content] if isinstance(content, list | tuple) else []
    text = "\n".join(part[:_LONGEST] for part in parts if isinstance(part, str))
    return Failure(MCP_ERROR, text[:_LONGEST] or "The MCP server reported an error")


def _failure(value: object) -> Failure | None:
    if isinstance(value, ShellResult):
        return _of_commands(value.output)
    if isinstance(value, ShellCommandOutput):
        return _of_commands([value])
    if isinstance(value, ApplyPatchResult):
        if value.status != "failed":
            return None
        return Failure(PATCH_FAILED, (value.output or "The patch could not be applied")[:_LONGEST])
    if isinstance(value, subprocess.CompletedProcess):
        return _of_exit(value.returncode, value.stderr) if value.returncode else None
    return mcp_failure(value)


def _of_commands(output: list[ShellCommandOutput]) -> Failure | None:
    """Return the failure of the first command that did not succeed."""
    for entry in output:
        each = normalize_shell_output(entry)
        if each.status == "timeout":
            return Failure(TIMEOUT, _with("The command timed out", each.stderr))
        if each.exit_code:
            return _of_exit(each.exit_code, each.stderr)
    return None


def _of_exit(code: int, stderr: object) -> Failure:
    return Failure(NONZERO_EXIT, _with(f"The command exited with {code}", stderr))


def _with(sentence: str, stderr: object) -> str:
    said = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    return f"{sentence}: {said[:_LONGEST]}" if isinstance(said, str) and said.strip() else sentence


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
