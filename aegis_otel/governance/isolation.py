"""Telemetry can fail, governance cannot: signals behind a wall that no exception passes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from aegis_otel.governance.call import Call, Signals
from aegis_otel.governance.error_text import traced

_log = logging.getLogger("aegis_otel")


class IsolatedSignals:
    """The same calls as `Signals`, none of which raises. The first failure of each kind is logged."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._logged: set[str] = set()

    def opened(self, call: Call) -> None:
        try:
            self._signals.opened(call)
        except Exception:
            self.log("opened")

    def awaiting(self, call: Call) -> AbstractContextManager[None]:
        return _IsolatedContext(self, self._signals.awaiting, call)

    def decided(self, call: Call) -> None:
        try:
            self._signals.decided(call)
        except Exception:
            self.log("decided")

    def suspended(self, call: Call) -> None:
        try:
            self._signals.suspended(call)
        except Exception:
            self.log("suspended")

    def answered(self, call: Call) -> None:
        try:
            self._signals.answered(call)
        except Exception:
            self.log("answered")

    def executing(self, call: Call) -> AbstractContextManager[None]:
        return _IsolatedContext(self, self._signals.executing, call)

    def closed(self, call: Call) -> None:
        try:
            self._signals.closed(call)
        except Exception:
            self.log("closed")

    def recorded(self) -> None:
        try:
            self._signals.recorded()
        except Exception:
            self.log("recorded")

    def write_failed(self, call: Call, error: BaseException) -> None:
        try:
            self._signals.write_failed(call, error)
        except Exception:
            self.log("write_failed")

    def hook_failed(self) -> None:
        try:
            self._signals.hook_failed()
        except Exception:
            self.log("hook_failed")

    def log(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            error = sys.exception()
            why = "" if error is None else traced(error)
            _log.warning("telemetry failed in `%s`; governance goes on: %s", what, why)


class _IsolatedContext:
    """A signals context whose entry and exit cannot fail and which swallows no exception of the body."""

    __slots__ = ("_call", "_inner", "_make", "_wall")

    def __init__(
        self, wall: IsolatedSignals, make: Callable[[Call], AbstractContextManager[None]], call: Call
    ) -> None:
        self._wall, self._make, self._call = wall, make, call
        self._inner: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        try:
            inner = self._make(self._call)
            inner.__enter__()
            self._inner = inner
        except Exception:
            self._wall.log(self._make.__name__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            try:
                self._inner.__exit__(kind, error, trace)
            except Exception:
                self._wall.log(self._make.__name__)
