"""The capture point, installed in the SDK's classes: at most one in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from aegis_otel.adapters.openai_agents.capture import function_tools, local_tools, run_ids, sdk_approvals
from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.capture.self_test import self_test
from aegis_otel.adapters.openai_agents.coverage import ungoverned
from aegis_otel.adapters.openai_agents.coverage.ungoverned import PlacementWarning, UngovernedTools
from aegis_otel.adapters.openai_agents.gates.action_factory import Targets
from aegis_otel.errors import ConfigError
from aegis_otel.governance.governor import Governor
from aegis_otel.model import Mode


@dataclass(eq=False, repr=False)
class CapturePoint:
    """Stands between the SDK and every tool, for as long as it is installed."""

    governor: Governor
    targets: Targets
    """What rules match as `match.target`, by tool name."""
    approvals: str = "handler"
    """`handler`, or `sdk` where the SDK puts the policy's questions."""
    on_ungoverned: str = "warn"
    """`allow`, `warn` or `refuse`."""
    reached: Sequence[str] = ()
    """What a tool that writes files can reach, as `runtime.placement.within_reach` gives it."""
    record_ungoverned: Callable[[str], object] = lambda _: None
    """Records why a tool cannot be governed."""
    _patches: Patches = field(default_factory=Patches)

    _lock: ClassVar = threading.Lock()
    installed: ClassVar[CapturePoint | None] = None

    @property
    def mode(self) -> Mode | None:
        """Return the mode in force; None where this is not installed, or no longer."""
        return self.governor.mode if CapturePoint.installed is self else None

    def install(self) -> None:
        """Install the capture point, and check that tool calls can be governed here.

        Raises:
            ConfigError: another capture point is installed; or the SDK does not ask this one, and then
                nothing is left installed.
        """
        with CapturePoint._lock:
            if CapturePoint.installed is not None:
                raise ConfigError(
                    "tool calls are governed already, with other settings: `uninstrument()` first"
                )
            try:
                self._install()
            except BaseException as error:
                self._patches.undo()
                if not isinstance(error, AttributeError):
                    raise
                raise ConfigError(
                    f"this version of openai-agents is built in a way not known here ({error}): "
                    "pin it to a version named in the README"
                ) from error
            CapturePoint.installed = self

    def _install(self) -> None:
        enforces, patches = self.governor.mode is Mode.ENFORCE, self._patches
        gates, placement = Gates(self.governor, self.targets), PlacementWarning()
        interrupts = self.approvals == "sdk" and enforces
        self.governor.paused_calls.use_inbox(interrupts)
        function_tools.install(gates, patches)
        run_ids.install(patches)
        if enforces:
            sdk_approvals.install(gates, patches, audited=interrupts)
        local_tools.install(self.governor, self.targets, patches)
        tools = UngovernedTools(self.on_ungoverned, self.governor.mode, self.record_ungoverned)
        ungoverned.install(tools, placement, patches)
        self_test(gates, interrupts=interrupts)
        placement.reached = self.reached  # not before: the self-test has tools of its own

    def uninstall(self) -> None:
        """Restore the SDK's classes. A call under way is recorded to its end."""
        with CapturePoint._lock:
            self._patches.undo()
            self.governor.paused_calls.use_inbox(False)
            if CapturePoint.installed is self:
                CapturePoint.installed = None
