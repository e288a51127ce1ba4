"""Telemetry can fail, governance cannot: no exception of a signal reaches the governor."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any

from aegis_otel.governance.call import Call, Signals
from aegis_otel.governance.error_text import traced

_log = logging.getLogger("aegis_otel")
_CONTEXTS = ("awaiting", "executing")
"""The methods of `Signals` that return a context."""


class IsolatedSignals:
    """The methods of `Signals`, none of which raises. The first failure of each is logged."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._logged: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """Return the isolated form of a method, which is made once."""
        isolated = partial(_IsolatedContext if name in _CONTEXTS else _isolated_call, self, name)
        setattr(self, name, isolated)
        return isolated

    def _log_failure(self, name: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            error = sys.exception()
            why = "" if error is None else traced(error)
            _log.warning("telemetry failed in `%s`; governance goes on: %s", name, why)


def _isolated_call(isolated: IsolatedSignals, name: str, *args: object) -> None:
    try:
        getattr(isolated._signals, name)(*args)
    except Exception:
        isolated._log_failure(name)


class _IsolatedContext:
    """A signals context whose entry and exit cannot fail and which swallows no exception of the body."""

    __slots__ = ("_call", "_inner", "_isolated", "_name")

    def __init__(self, isolated: IsolatedSignals, name: str, call: Call) -> None:
        self._isolated, self._name, self._call = isolated, name, call
        self._inner: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        try:
            inner = getattr(self._isolated._signals, self._name)(self._call)
            inner.__enter__()
            self._inner = inner
        except Exception:
            self._isolated._log_failure(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            try:
                self._inner.__exit__(kind, error, trace)
            except Exception:
                self._isolated._log_failure(self._name)
