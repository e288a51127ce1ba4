"""What went before a recorded call, as far as the audit tells it.

The calls come in the order of their times. What ran leaves its marks, whatever the policy would have said of
it. Where it is not known in which series a call counts, or whether it does, it leaves a mark of another kind:
it may have to be added to each series that it may be of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

from aegis_otel.model import Mark, SeriesQuery, Where
from aegis_otel.policy.evaluation.history_tests import HistoryReader
from aegis_otel.policy.history.ledger import Ledger
from aegis_otel.policy.rules import SPANS
from aegis_otel.policy_tools.replay.possible_answers import ANY, FALSE, TRUE, UNKNOWN, Answers

_FORGET_EVERY = 50_000
"""The calls after which marks are removed about which nobody asks any more."""


class RecordedMark(NamedTuple):
    """A mark that a recorded call has left."""

    mark: Mark
    is_certain: bool = True
    """False where it is not known whether the call left it, or of which of the series that begin as this one
    does: the values that are not known are null in it."""
    has_outcome: bool = False
    """Whether the condition that counts it asks how the call ended."""


ALWAYS = datetime.max.replace(tzinfo=UTC)
"""Stands for the time of a call whose time is not known: its marks count at every time."""


class BodyTimes(NamedTuple):
    """When the body of a call ran, and how it ended."""

    begun: datetime
    """Or `ALWAYS`."""
    ended: datetime
    outcome: str
    """`success`, `failed`, or empty where it is not known."""


class AuditStart(NamedTuple):
    """From when on the audit has calls."""

    at: datetime | None
    """None where it has none with a time."""
    early: Mapping[str, Collection[str]]
    """The sessions and the conversations that may have begun before the audit does."""


class RecordedPast:
    """The marks of the calls so far."""

    def __init__(self, beginning: AuditStart) -> None:
        self._beginning = beginning
        self._certain, self._uncertain = Ledger(), Ledger()
        self._has_uncertain = False
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        """What happens to the marks of calls that began or ended later than they were decided on."""
        self._numbers = count()
        self._calls = 0

    def go_on_to(self, now: datetime) -> None:
        """Let happen what has happened until `now`."""
        while self._due and self._due[0][0] <= now:
            heappop(self._due)[2]()
        self._calls += 1
        if self._calls % _FORGET_EVERY == 0:
            self._certain.forget(now)
            self._uncertain.forget(now)

    def leave(self, marks: Sequence[RecordedMark], course: BodyTimes) -> None:
        """Keep the marks of a call that ran."""
        number = next(self._numbers)

        def begin() -> None:
            for mark, is_certain, has_outcome in marks:
                ledger, waits = self._certain, has_outcome and course.outcome
                if not is_certain:
                    ledger, waits = self._uncertain, ""
                    self._has_uncertain = True
                ledger.add(str(number) if waits else None, [mark], course.begun)

        def end() -> None:
            self._certain.settle(str(number), course.outcome)

        if course.begun == ALWAYS:
            begin()
            return
        heappush(self._due, (course.begun, number, begin))
        if course.outcome and any(mark.has_outcome for mark in marks):
            heappush(self._due, (max(course.begun, course.ended), next(self._numbers), end))

    def possible(
        self, reader: HistoryReader, values: Sequence[Any], amount: int, where: Where, now: datetime
    ) -> tuple[Answers, str]:
        """Return the answers that a condition may have had, and why it is not known which.

        Args:
            reader: The condition.
            values: Those of `by` in the call, all of which are known.
            amount: The millionths of the call.
            where: What the call is part of.
            now: Its time.
        """
        asked = reader.query(values)
        queries = reader.queries_after(values)
        tallies = [self._certain.answer(each, now) for each in (queries if reader.types else (asked,))]
        found = reader.judge(tallies, amount)
        if found is True:
            return TRUE, ""
        if "run" in reader.spec.words:
            return ANY, _RUNS
        perhaps = 0
        if self._has_uncertain:
            perhaps = sum(self._uncertain.answer(each, now).calls for each in queries)
        is_whole = self._reaches_back(reader, asked, where, now)
        if is_whole and (not perhaps or _stays_false(reader, tallies[0].calls + perhaps)):
            return (FALSE if found is False else UNKNOWN), ""
        return ANY, _NOT_CERTAIN if is_whole else _TOO_LATE

    def _reaches_back(self, reader: HistoryReader, asked: SeriesQuery, where: Where, now: datetime) -> bool:
        """Return whether the audit has all calls about which a condition asks."""
        begins = self._beginning.at
        if begins is None or (now - begins).total_seconds() >= reader.keep_s:
            return True
        if asked.within_s is not None:
            return (now - begins).total_seconds() > asked.within_s
        spans = [span for span in SPANS if span in reader.spec.words]
        return any(getattr(where, span) not in self._beginning.early.get(span, ()) for span in spans)


_NOT_CERTAIN = (
    "rules count earlier calls, and of one the audit does not have what says whether or where it counts"
)
_RUNS = "rules count by the run, and the audit does not say which runs began inside of another one's tools"
_TOO_LATE = "rules count calls from before the audit begins"


def _stays_false(reader: HistoryReader, most: int) -> bool:
    """Return whether a condition is false with the most calls that may have gone before."""
    return reader.spec.key == "calls_over" and most + 1 <= reader.spec.limit
