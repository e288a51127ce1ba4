"""The marks that calls have left, in memory and of one process: for tests of policies, and for replays. Pure.

It says what the engines of shared state promise, without what makes them safe: locks, files, other processes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aegis_otel.model import Mark, SeriesQuery, Tally

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000


class _SeriesMarks:
    """The marks of one series that are kept for the same time, in the order of their times.

    Times are microseconds. To answer takes no longer where there are more marks.
    """

    __slots__ = ("amounts", "at", "failed", "succeeded")

    def __init__(self) -> None:
        self.at: list[int] = []
        self.amounts: list[int] | None = None
        """The sum of the amounts up to each mark; None where all amounts are 0."""
        self.succeeded: list[int] = []
        """The times of the marks whose calls have succeeded."""
        self.failed: list[int] = []

    def add(self, at: int, amount: int) -> None:
        place = bisect_right(self.at, at)
        self.at.insert(place, at)
        if self.amounts is None and amount:
            self.amounts = [0] * (len(self.at) - 1)
        if self.amounts is not None:
            self.amounts.insert(place, self.amounts[place - 1] if place else 0)
            for later in range(place, len(self.amounts)):  # as a rule only the last one
                self.amounts[later] += amount

    def remove(self, at: int, amount: int) -> None:
        place = bisect_left(self.at, at)
        if place == len(self.at) or self.at[place] != at:
            return  # forgotten
        del self.at[place]
        if self.amounts is not None:
            del self.amounts[place]
            for later in range(place, len(self.amounts)):
                self.amounts[later] -= amount

    def tally(self, since: int) -> Tally:
        first = bisect_left(self.at, since)
        total = 0
        if self.amounts is not None and first < len(self.at):
            total = self.amounts[-1] - (self.amounts[first - 1] if first else 0)
        succeeded, failed = (len(each) - bisect_left(each, since) for each in (self.succeeded, self.failed))
        return Tally(len(self.at) - first, total, succeeded, failed)

    def forget(self, before: int) -> None:
        first = bisect_left(self.at, before)
        if first and self.amounts is not None:
            gone = self.amounts[first - 1]
            self.amounts = [each - gone for each in self.amounts[first:]]
        for times in (self.at, self.succeeded, self.failed):
            del times[: bisect_left(times, before)]


class _RunMark(NamedTuple):
    """What a run has used, by the call of it that said the most."""

    at: int
    amount: int
    keep: int


class _Open(NamedTuple):
    """A mark of a call that has not ended, or of which nobody knows how it did."""

    part: _SeriesMarks
    at: int
    amount: int


class Ledger:
    """Marks with their times and outcomes."""

    def __init__(self) -> None:
        self._by_series: dict[str, dict[int, _SeriesMarks]] = {}
        """By series and the microseconds for which marks are kept."""
        self._runs: dict[str, dict[str, _RunMark]] = {}
        """By series and run. How a call ends changes nothing of them: the tokens have been used."""
        self._open: dict[str, list[_Open]] = {}
        """By decision."""

    def answer(self, query: SeriesQuery, now: datetime) -> Tally:
        """Return the marks of a series that are not older than the query says.

        A mark that seems to be of the future counts: clocks are set back, and no limit may be passed by it.
        """
        at = _microseconds(now)
        within = None if query.within_s is None else round(query.within_s * _SECOND)
        calls = total = succeeded = failed = 0
        for keep, part in self._by_series.get(query.series, _NONE).items():
            tally = part.tally(at - (keep if within is None else min(within, keep)))
            calls += tally.calls
            total += tally.total
            succeeded += tally.succeeded
            failed += tally.failed
        for mark in self._runs.get(query.series, _NO_RUNS).values():
            if at - mark.at <= (mark.keep if within is None else min(within, mark.keep)):
                calls += 1
                total += mark.amount
        return Tally(calls, total, succeeded, failed)

    def answers(self, queries: Iterable[SeriesQuery], now: datetime) -> Mapping[SeriesQuery, Tally]:
        """Return the answer to each query."""
        return {query: self.answer(query, now) for query in queries}

    def add(self, decision_id: str | None, marks: Iterable[Mark], now: datetime) -> None:
        """Keep the marks of a call. One that counts the tokens of a run replaces the run's earlier one.

        What the run has used does not become less by it: a call that has waited brings a figure that is out
        of date.

        Args:
            decision_id: Of the call; None where nobody will say how it ended.
            marks: Of the call.
            now: The time of the decision.
        """
        at = _microseconds(now)
        for mark in marks:
            keep = round(mark.keep_s * _SECOND)
            if mark.run is not None:
                runs, amount = self._runs.setdefault(mark.series, {}), mark.amount
                earlier = runs.get(mark.run)
                if earlier is not None and at - earlier.at <= earlier.keep:
                    amount = max(amount, earlier.amount)
                runs[mark.run] = _RunMark(at, amount, keep)
                continue
            part = self._by_series.setdefault(mark.series, {}).setdefault(keep, _SeriesMarks())
            part.add(at, mark.amount)
            if decision_id is not None:
                self._open.setdefault(decision_id, []).append(_Open(part, at, mark.amount))

    def settle(self, decision_id: str, outcome: str) -> None:
        """Say how a call ended, unless that is known already: `success` or `failed`."""
        for mark in self._open.pop(decision_id, ()):
            times = mark.part.succeeded if outcome == "success" else mark.part.failed
            times.insert(bisect_right(times, mark.at), mark.at)

    def remove(self, decision_id: str) -> None:
        """Take away the marks of a call whose body did not run, but for the tokens that its run has used."""
        for mark in self._open.pop(decision_id, ()):
            mark.part.remove(mark.at, mark.amount)

    def forget(self, now: datetime) -> None:
        """Take away the marks that nobody asks about from `now` on, to have room for others."""
        at = _microseconds(now)
        for series, parts in list(self._by_series.items()):
            for keep, part in list(parts.items()):
                part.forget(at - keep)
                if not part.at:
                    del parts[keep]
            if not parts:
                del self._by_series[series]


_NONE: Mapping[int, _SeriesMarks] = {}
_NO_RUNS: Mapping[str, _RunMark] = {}


def _microseconds(time: datetime) -> int:
    """Return a time, UTC where it has no zone, in microseconds since 1970."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
