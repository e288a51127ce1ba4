"""The counters, as plain integers that meters read when they collect.

Adding to a synchronous OpenTelemetry counter costs ten times what a whole count here does, and cannot
start a series at zero without faking a measurement.

A forked worker starts again at zero, with the same label sets: it is another process with its own series,
and what its parent counted is reported by the parent.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from aegis_otel.model import DEFAULT_RULE, ERROR_RULE, Approval, Mode, Outcome, RiskLevel

ZERO_LIMIT = 1_500
"""How many label sets a policy may start at zero. The SDK keeps 2,000 per instrument and adds up the rest in
one unlabelled overflow point, so the zeros of a huge policy must leave room for what really happens."""

_PLAUSIBLE = {
    Approval.AUTO: (Outcome.ALLOWED, Outcome.ERROR),
    Approval.APPROVE: (Outcome.APPROVED, Outcome.DENIED, Outcome.EXPIRED, Outcome.ERROR),
    Approval.BLOCK: (Outcome.BLOCKED, Outcome.ERROR),
}
_PLAUSIBLE_UNASKED = {**_PLAUSIBLE, Approval.APPROVE: (Outcome.ALLOWED, Outcome.ERROR)}
"""In monitor mode nobody is asked."""


LOADED, REFUSED = "loaded", "refused"
"""What becomes of a change of the policy's files."""

Labels = tuple[str, str, str, str, str]
"""Outcome, approval, risk, rule and mode: the labels of one series, and only values that a policy bounds."""


class Verdicts(Protocol):
    """What a rule, or the default of a policy, asks for."""

    @property
    def approval(self) -> Approval: ...
    @property
    def risk_level(self) -> RiskLevel: ...


class Rule(Verdicts, Protocol):
    """A rule as far as counting needs it."""

    @property
    def name(self) -> str: ...


def plausible(rules: Iterable[Rule], default: Verdicts, mode: str) -> list[Labels]:
    """Every label set that calls under these rules can be counted with, the highest risk first."""
    asked = [(rule.risk_level, rule.approval, rule.name) for rule in rules]
    asked.append((default.risk_level, default.approval, DEFAULT_RULE))
    asked.sort(key=lambda entry: -entry[0])
    ends = _PLAUSIBLE_UNASKED if mode == Mode.MONITOR else _PLAUSIBLE
    sets = [(Outcome.ERROR.value, Approval.BLOCK.value, "critical", ERROR_RULE, mode)]
    for risk, approval, rule in asked:
        level = risk.name.lower()
        sets.extend((end.value, approval.value, level, rule, mode) for end in ends[approval])
    return sets


class Counts:
    """What was counted in this process, for one meter provider."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decisions: dict[Labels, int] = {}
        self.pending = 0
        """Calls that wait for a human now."""
        self.audit_records = 0
        self.audit_errors = 0
        self.seal_errors = 0
        self.unknown_outcomes = 0
        """Calls that were sealed, and of which nobody knows how they ended."""
        self.hook_errors = 0
        self.reloads = {LOADED: 0, REFUSED: 0}
        _every.add(self)

    def decided(self, labels: Labels) -> None:
        with self._lock:
            self._decisions[labels] = self._decisions.get(labels, 0) + 1

    def asked(self) -> None:
        with self._lock:
            self.pending += 1

    def answered(self) -> None:
        with self._lock:
            self.pending -= 1

    def recorded(self) -> None:
        with self._lock:
            self.audit_records += 1

    def audit_failed(self) -> None:
        with self._lock:
            self.audit_errors += 1

    def sealed(self, unknown: int) -> None:
        with self._lock:
            self.unknown_outcomes += unknown

    def sealing_failed(self) -> None:
        with self._lock:
            self.seal_errors += 1

    def hook_failed(self) -> None:
        with self._lock:
            self.hook_errors += 1

    def reloaded(self, outcome: str) -> None:
        with self._lock:
            self.reloads[outcome] += 1

    def start_at_zero(self, sets: Sequence[Labels]) -> None:
        """Give each of `sets` a series, in their order and up to `ZERO_LIMIT` series in all."""
        with self._lock:
            for labels in sets:
                if len(self._decisions) >= ZERO_LIMIT:
                    return
                self._decisions.setdefault(labels, 0)

    def decisions(self) -> list[tuple[Labels, int]]:
        with self._lock:
            return list(self._decisions.items())

    def _begin_again(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it when the process forked
        self._decisions = dict.fromkeys(self._decisions, 0)
        self.pending = self.audit_records = self.audit_errors = self.hook_errors = 0
        self.seal_errors = self.unknown_outcomes = 0
        self.reloads = dict.fromkeys(self.reloads, 0)


_every: weakref.WeakSet[Counts] = weakref.WeakSet()


def _begin_again_in_child() -> None:
    for counts in _every:
        counts._begin_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again_in_child)
