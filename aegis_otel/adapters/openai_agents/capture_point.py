"""The capture point, installed in the SDK's classes: at most one in a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

from aegis_otel.adapters.openai_agents.capture import function_tools, local_tools, saved_runs, sdk_approvals
from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.self_test import self_test
from aegis_otel.adapters.openai_agents.coverage import ungoverned
from aegis_otel.adapters.openai_agents.coverage.ungoverned import PlacementWarning, UngovernedTools
from aegis_otel.adapters.openai_agents.gates.actions import Targets
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor
from aegis_otel.model import Mode


class CapturePoint:
    """What is between the SDK and every tool, for as long as it is installed."""

    _lock = threading.Lock()
    installed: ClassVar[CapturePoint | None] = None

    def __init__(
        self,
        governor: Governor,
        targets: Targets,
        *,
        approvals: str = "handler",
        on_ungoverned: str = "warn",
        reached: Sequence[str] = (),
    ) -> None:
        self.governor = governor
        self._approvals = approvals
        self._on_ungoverned = on_ungoverned
        self._reached = reached
        self._targets = targets
        self._gates = Gates(governor, targets)
        self._patches = Patches()

    @property
    def mode(self) -> Mode | None:
        """The mode in force; None where this is not installed, or no longer."""
        return self.governor.mode if CapturePoint.installed is self else None

    def install(self) -> None:
        """Put it between, and see that it is.

        Raises:
            ConfigError: another one is installed; or the SDK does not look where this one stands, and then
                nothing is left installed.
        """
        with CapturePoint._lock:
            if CapturePoint.installed is not None:
                raise ConfigError(
                    "tool calls are governed already, with other settings: `uninstrument()` first"
                )
            try:
                function_tools.install(self._gates, self._patches)
                interrupts = self._approvals == "sdk" and self.governor.mode is Mode.ENFORCE
                saved_runs.install(self._patches)
                if self.governor.mode is Mode.ENFORCE:
                    sdk_approvals.install(self._gates, self._patches, asks=interrupts)
                local_tools.install(self.governor, self._targets, self._patches)
                placement = PlacementWarning()
                ungoverned.install(
                    UngovernedTools(self._on_ungoverned, self.governor.mode), placement, self._patches
                )
                self_test(self._gates, interrupts=interrupts)
                placement.reached = self._reached  # not before: the self-test has tools of its own
            except AttributeError as error:
                self._patches.undo()
                raise ConfigError(
                    f"this version of openai-agents is built in a way not known here ({error}): "
                    "pin it to a version named in the README"
                ) from error
            except BaseException:
                self._patches.undo()
                raise
            CapturePoint.installed = self

    def uninstall(self) -> None:
        """Take it away: the SDK's classes are as they were. A call under way is recorded to its end."""
        with CapturePoint._lock:
            self._patches.undo()
            if CapturePoint.installed is self:
                CapturePoint.installed = None
