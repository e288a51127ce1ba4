"""`instrument()` and `AegisTracingProcessor`: put every tool call of a program under a policy."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

from agents import Agent, add_trace_processor
from agents.tracing import get_trace_provider

from aegis_otel import config
from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.adapters.openai_agents.coverage.coverage import Coverage, coverage
from aegis_otel.adapters.openai_agents.tracing.other_instrumentors import registered_processors
from aegis_otel.adapters.openai_agents.tracing.span_bridge import SpanBridge
from aegis_otel.errors import ConfigError
from aegis_otel.governance.hooks import RuntimeHooks
from aegis_otel.governance.subject import ReadSubject
from aegis_otel.model import Mode
from aegis_otel.policy import Policy
from aegis_otel.runtime.approval import ApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.runtime.placement import within_reach
from aegis_otel.runtime.policy_reload import CandidateWatchThread, PolicyWatchThread
from aegis_otel.runtime.redaction_settings import RedactionSource
from aegis_otel.runtime.redaction_settings import resolved as resolved_redaction
from aegis_otel.runtime.runtime import Runtime
from aegis_otel.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


_log = logging.getLogger("aegis_otel")
_lock = threading.RLock()

PolicySource = Policy | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


PROVIDERS = {"tracer_provider": "get_tracer", "meter_provider": "get_meter", "logger_provider": "get_logger"}
"""The settings that are providers of OpenTelemetry, and the method that each must have."""


class Settings(TypedDict, total=False):
    """The settings of `instrument`; the environment gives what is not given here, and then a default."""

    mode: Mode | str | None
    """`enforce` or `monitor`."""
    candidate: PolicySource | None
    """A policy that is asked about every call as well, for the record alone (docs/policy-testing.md). Its
    files are watched. One that cannot be loaded is logged and counted, and changes nothing."""
    approvals: str | None
    """`handler`, `sdk` or `inbox` (docs/approvals.md)."""
    approval_handler: ApprovalHandler | None
    """Asked where a rule says `approve`; the terminal by default."""
    approval_timeout: float | None
    """Seconds a human has."""
    audit_dir: str | os.PathLike[str] | None
    """The directory of the audit. It is made at once, to see that it can be written."""
    durability: str | None
    """`process` or `power`: what a verdict survives before its tool runs."""
    on_audit_failure: str | None
    """`block` or `allow`."""
    on_ungoverned: str | None
    """`allow`, `warn` or `refuse`."""
    reload_interval: float | None
    """Seconds between polls of the policy files."""
    targets: Mapping[str, str] | None
    """By tool name, or pattern with `*` and `?`: what rules match as `match.target`."""
    hooks: RuntimeHooks | None
    """Callbacks that observe."""
    tracer_provider: TracerProvider | None
    """Where spans go, those of the SDK's traces too; OpenTelemetry's global one by default."""
    meter_provider: MeterProvider | None
    """Where metrics go; likewise."""
    logger_provider: LoggerProvider | None
    """Where events go; likewise."""
    redaction: RedactionSource | None
    """Names and patterns to hide or to show: a mapping or a YAML file (docs/redaction.md)."""
    subject: ReadSubject | None
    """Reads whom a call is made for from the SDK's context of its run (docs/subjects.md)."""
    state: str | None
    """The address of counts and questions: `postgresql://...` or `sqlite:///path` (docs/state.md)."""


_POINT_SETTINGS: dict[str, config.Setting[Any]] = {
    "approvals": config.APPROVALS,
    "on_ungoverned": config.ON_UNGOVERNED,
    "reload_interval": config.RELOAD_INTERVAL,
}
_RUNTIME_SETTINGS: dict[str, config.Setting[Any]] = {
    "mode": config.MODE,
    "approval_timeout": config.APPROVAL_TIMEOUT,
    "durability": config.DURABILITY,
    "on_audit_failure": config.ON_AUDIT_FAILURE,
    "state": config.STATE,
}


def instrument(
    policy: PolicySource | None = None, *, runtime: Runtime | None = None, **settings: Unpack[Settings]
) -> Instrumentation:
    """Govern every tool call of every agent in this process, and bridge the SDK's traces to OpenTelemetry.

    Agents and tools may be made before or after. Called again with the same settings, it returns what is
    there already.

    Args:
        policy: A Policy; or a file, or several in their order of precedence, which are then watched: what
            changes in them comes into force whole or not at all. Default: `AEGIS_POLICY`.
        runtime: A Runtime of your own in place of `policy` and of the settings that a Runtime has.
        settings: See `Settings`.

    Raises:
        PolicyError: the policy cannot be loaded.
        AuditError: the audit cannot be written, in enforce mode with `on_audit_failure="block"`.
        ConfigError: a setting is unusable; other settings are in force already; or the self-test of the
            capture point failed. In each case nothing is installed.
    """
    with _lock:
        instrumentation = govern(policy, runtime=runtime, **settings)
        if not instrumentation.is_bridged:
            bridge = SpanBridge(*instrumentation.runtime.recorder.bridged)
            instrumentation.bridges.append(bridge)
            add_trace_processor(bridge)  # behind every other processor: their tool span goes around
        return instrumentation


def govern(
    policy: PolicySource | None = None, *, runtime: Runtime | None = None, **settings: Unpack[Settings]
) -> Instrumentation:
    """Do as `instrument`, but leave the SDK's traces alone."""
    _check_arguments(policy, runtime, settings)
    # A runtime that refuses every call comes second: the first attempt has warned.
    is_second = runtime is not None and runtime.governor.unavailable is not None
    if Instrumentation.current is None and not is_second and (unknown := config.unknown_variables()):
        _log.warning("%s: ignored", "; ".join(unknown))
    files = () if runtime is not None or isinstance(policy, Policy) else _policy_files(policy)
    candidate = None if runtime is not None else _candidate(settings.get("candidate"))
    with _lock:
        asked = _resolved(runtime or files or policy, {**settings, "candidate": candidate})
        current = Instrumentation.current
        if current is not None and current.asked == asked:
            return current
        if CapturePoint.installed is not None:
            raise ConfigError(_governed_already(current))
        if runtime is None:
            runtime = Runtime(
                policy=policy if isinstance(policy, Policy) else Policy.from_yaml_files(*files),
                mode=settings.get("mode"),
                approval_handler=_handler(asked["approvals"], settings.get("approval_handler")),
                approval_timeout=settings.get("approval_timeout"),
                audit_logger=AuditLogger(settings.get("audit_dir"), durability=settings.get("durability")),
                on_audit_failure=settings.get("on_audit_failure"),
                hooks=settings.get("hooks"),
                recorder=Recorder(**{name: settings.get(name) for name in PROVIDERS}),  # type: ignore[arg-type]
                redaction=settings.get("redaction"),
                subject=settings.get("subject"),
                candidate=candidate if isinstance(candidate, Policy) else None,
                state=settings.get("state"),
            )
        if asked["approvals"] == "inbox" and not runtime.approval.asks_in_inbox:
            raise ConfigError(
                "`approvals` is `inbox`, and the approval handler asks elsewhere: leave the handler out, or "
                "give a Runtime of your own `approval_handler=InboxApprovalHandler()`"
            )
        point = CapturePoint(
            runtime.governor,
            settings.get("targets") or {},
            approvals=asked["approvals"],
            on_ungoverned=asked["on_ungoverned"],
            reached=within_reach(files or runtime.policy.sources, runtime.audit.path),
            record_ungoverned=runtime.tool_ungoverned,
        )
        watches = [PolicyWatchThread(runtime, files, asked["reload_interval"])] if files else []
        if isinstance(candidate, tuple):
            watches.append(CandidateWatchThread(runtime, candidate, asked["reload_interval"]))
        runtime.check()
        if asked["approvals"] == "sdk":
            runtime.audit.keyed("check")  # there must be a key: an answer without a proof does not count
            if config.ANSWER_PUBLIC_KEY.value() or config.ANSWER_KEY.value():
                runtime.check_answer_keys()
        elif runtime.approval.asks_in_inbox and runtime.mode is Mode.ENFORCE:
            runtime.check_answer_keys()
        elif config.APPROVAL_KEY.value():  # else the first answer would show that it is unusable
            runtime.audit.check_approval_key()
        point.install()
        for watch in watches:
            watch.start()
        runtime.close_ended_rows_later()
        Instrumentation.current = Instrumentation(runtime, point, watches, asked)
        return Instrumentation.current


def _handler(approvals: str, handler: ApprovalHandler | None) -> ApprovalHandler | None:
    if approvals != "inbox" or handler is not None:
        return handler
    from aegis_otel.runtime.approval import InboxApprovalHandler  # noqa: PLC0415 - loaded when it is used

    return InboxApprovalHandler()


def _check_arguments(policy: PolicySource | None, runtime: Runtime | None, settings: Settings) -> None:
    if surplus := settings.keys() - Settings.__annotations__.keys():
        raise TypeError(f"unknown setting `{min(surplus)}`: expected {', '.join(Settings.__annotations__)}")
    if runtime is not None:
        beside = (*_POINT_SETTINGS, "targets")
        doubled = [each for each, value in settings.items() if value is not None and each not in beside]
        if policy is not None or doubled:
            name = doubled[0] if doubled else "policy"
            raise ConfigError(f"`runtime` has a `{name}` of its own: give that to Runtime(...)")
    for name, method in PROVIDERS.items():
        if (given := settings.get(name)) is not None and not hasattr(given, method):
            raise ConfigError(f"`{name}` is a `{type(given).__name__}`: pass a provider of OpenTelemetry")


def _governed_already(current: Instrumentation | None) -> str:
    """Return what governs already, and how both calls are brought together."""
    if current is None or not current.by_loader:
        return "tool calls are governed already, with other settings: `uninstrument()` first"
    refused = current.runtime.governor.unavailable
    return (
        "`opentelemetry-instrument` has loaded aegis before this call"
        + (f", and refuses every tool call ({refused.error})" if refused else ", with other settings")
        + f": set {config.POLICY.env} and leave this call out, "
        + "or set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=aegis"
    )


def _resolved(policy: object, settings: Settings) -> dict[str, Any]:
    """Return the settings in force, which are equal where the same was asked for in another way.

    Args:
        policy: A Runtime, a Policy, or the paths of policy files.
        settings: As given.
    """
    is_runtime = isinstance(policy, Runtime)  # which brings the rest with it
    table = _POINT_SETTINGS if is_runtime else _POINT_SETTINGS | _RUNTIME_SETTINGS
    resolved = {
        **settings,
        "policy": _absolute(policy),
        "candidate": _absolute(settings.get("candidate")),
        "targets": dict(settings.get("targets") or {}),
        **{name: setting.value(settings.get(name)) for name, setting in table.items()},
    }
    if not is_runtime:
        resolved["audit_dir"] = AuditLogger(settings.get("audit_dir")).path
        resolved["redaction"] = resolved_redaction(settings.get("redaction"))
    return resolved


def _absolute(policy: object) -> object:
    return tuple(each.absolute() for each in policy) if isinstance(policy, tuple) else policy


def _candidate(candidate: PolicySource | None) -> Policy | tuple[Path, ...] | None:
    """Return the candidate, or the paths of its files; None where there is none."""
    if isinstance(candidate, Policy):
        return candidate
    return _policy_files(candidate, config.CANDIDATE) or None


def _policy_files(
    policy: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
    setting: config.Setting[str] = config.POLICY,
) -> tuple[Path, ...]:
    if isinstance(policy, Mapping):  # iterated, its keys would be taken for paths
        raise ConfigError(f"`{setting.name}` is a mapping: pass `Policy.from_dict(...)`")
    if isinstance(policy, str) and os.pathsep in policy and not os.path.lexists(policy):
        raise ConfigError(f"no file `{policy}`: pass several files as a list, {policy.split(os.pathsep)}")
    if isinstance(policy, str | os.PathLike):
        policy = [policy]
    named = [each for each in setting.value().split(os.pathsep) if each] if policy is None else policy
    if not named and setting is config.POLICY:
        raise ConfigError(f'no policy: pass `policy="policy.yaml"` or set `{config.POLICY.env}`')
    return tuple(map(Path, named))


@dataclass(eq=False, repr=False)
class Instrumentation:
    """What `instrument()` put in place."""

    runtime: Runtime
    """Policy, audit and approvals."""
    _point: CapturePoint
    _watches: list[PolicyWatchThread]
    """Poll the policy files and those of the candidate, where there are any."""
    asked: object
    """The settings in force; asking again for the same returns this object."""
    by_loader: bool = False
    """True where `AegisInstrumentor` put it in place, which is what `opentelemetry-instrument` loads."""
    bridges: list[SpanBridge] = field(default_factory=list)
    """What brings the SDK's traces to OpenTelemetry: one, or processors that the user made."""

    current: ClassVar[Instrumentation | None] = None
    """The one in force in this process."""

    @property
    def is_bridged(self) -> bool:
        """Return whether one of the bridges is registered with the SDK."""
        return any(each in registered_processors() for each in self.bridges)

    def coverage(self, agent: Agent[Any]) -> Coverage:
        """Return for each tool that `agent` can reach: enforced, observed, or not governable, and why."""
        return coverage(agent, installed=self._point)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send every signal; return False where one was not sent within `timeout_s` seconds."""
        return self.runtime.recorder.flush(timeout_s)

    def uninstrument(self) -> None:
        """Take everything back: the SDK is as it was, and tool calls run ungoverned. Twice is once."""
        if Instrumentation.current is self:
            Instrumentation.current = None
            self.runtime.governance_stopped()
        for watch in self._watches:
            watch.stop()
        while self.bridges:
            bridge, registered = self.bridges.pop(), registered_processors()
            if bridge in registered:  # the SDK replaces them as a whole only
                get_trace_provider().set_processors([each for each in registered if each is not bridge])
            bridge.shutdown()
        self._point.uninstall()

    def shutdown(self, timeout_s: float = 5.0) -> bool:
        """Do `uninstrument` and `flush`, and close the audit."""
        self.uninstrument()
        sent = self.flush(timeout_s)
        self.runtime.audit.close()
        return sent


class AegisTracingProcessor(SpanBridge):
    """Decides before each tool's body, and bridges the SDK's traces: for `agents.add_trace_processor(...)`.

    A processor cannot stop the SDK, so decisions are made at the same capture point as those of
    `instrument()`. It is in place from the moment this object is made, with tracing on or off.

    Args:
        policy: As for `instrument`.
        runtime: A Runtime of your own in place of `policy`; it has a mode of its own.
        settings: As for `instrument`, but that `mode` is `monitor` where it is not given: what would have
            happened is recorded, and nothing is blocked.

    Raises:
        AegisError: as `instrument` does; nothing is in place then.
    """

    def __init__(
        self,
        policy: PolicySource | None = None,
        *,
        runtime: Runtime | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if runtime is None:
            settings["mode"] = config.MODE._replace(default="monitor").value(settings.get("mode"))
        self.instrumentation: Instrumentation = govern(policy, runtime=runtime, **settings)
        super().__init__(*self.instrumentation.runtime.recorder.bridged)
        self.instrumentation.bridges.append(self)
        if self.instrumentation.runtime.mode is Mode.MONITOR:
            _log.warning("monitor mode: tool calls are decided on and recorded, and none is stopped")
