"""Warns once where a governed tool that writes files can reach the policy or the audit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from agents import ApplyPatchTool, FunctionTool, LocalShellTool, ShellTool

from aegis_otel.redaction.redactor import redact_text
from aegis_otel.runtime.placement import can_write_files, warning

_log = logging.getLogger("aegis_otel")
_WRITERS = (ApplyPatchTool, LocalShellTool, ShellTool)


class Reach:
    """Checks what tools can reach, and warns once, not on every run of a developer."""

    def __init__(self) -> None:
        self._reached: Sequence[str] = ()

    def begin(self, reached: Sequence[str]) -> None:
        """Check tools from now on, and not before: the self-test of the capture point has tools of its own.

        Args:
            reached: As `runtime.placement.within_reach` gives it.
        """
        self._reached = reached

    def check(self, tools: Iterable[object]) -> None:
        """Warn about the first of `tools` that can write files, and about no other."""
        if not self._reached:
            return
        writers = writing_tools(tools)
        if writers:
            _log.warning("%s", redact_text(warning(writers[0], self._reached)))
            self._reached = ()


def writing_tools(tools: Iterable[object]) -> list[str]:
    """Return the names of the tools that run here and can write files."""
    return [_name(tool) for tool in tools if _writes(tool)]


def _writes(tool: Any) -> bool:
    if isinstance(tool, FunctionTool):
        return can_write_files(_name(tool), tool.params_json_schema)
    return isinstance(tool, _WRITERS)


def _name(tool: Any) -> str:
    return str(getattr(tool, "name", type(tool).__name__)).replace("`", "'")
