"""A state to compare engines with, and stores of each engine whose time a test can pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aegis_otel.model import Mark, SeriesQuery, Tally
from aegis_otel.state.engine import Decide, SharedState
from aegis_otel.state.postgres import PostgresState
from aegis_otel.state.sqlite import SqliteState
from tests.support.postgres import Server

HOUR = 3_600.0


@dataclass
class ListState:
    """A list of marks and nothing else: what every engine has to answer."""

    now: float = 1_000_000.0
    marks: list[dict[str, Any]] = field(default_factory=list)

    def judge(
        self, decision_id: str, queries: Sequence[SeriesQuery], decide: Decide, without: Sequence[str] = ()
    ) -> None:
        for mark in decide(self.read(queries, without)):
            amount = mark.amount
            if mark.run is not None:
                same = [
                    each for each in self.marks if (each["series"], each["run"]) == (mark.series, mark.run)
                ]
                amount = max([amount, *(each["amount"] for each in same if each["until"] >= self.now)])
                self.marks = [each for each in self.marks if each not in same]
            self.marks.append(
                {
                    "series": mark.series,
                    "run": mark.run,
                    "at": self.now,
                    "until": self.now + mark.keep_s,
                    "amount": amount,
                    "decision": decision_id,
                    "outcome": None,
                }
            )

    def read(self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()) -> dict[SeriesQuery, Tally]:
        return {query: self.answer(query, without) for query in queries}

    def answer(self, query: SeriesQuery, without: Sequence[str]) -> Tally:
        within = float("inf") if query.within_s is None else query.within_s
        found = [
            mark
            for mark in self.marks
            if mark["series"] == query.series
            and mark["at"] >= self.now - within
            and mark["until"] >= self.now
            and mark["decision"] not in without
        ]
        outcomes = [mark["outcome"] for mark in found]
        return Tally(
            len(found),
            sum(mark["amount"] for mark in found),
            outcomes.count("success"),
            outcomes.count("failed"),
        )

    def settle(self, decision_id: str, outcome: str | None) -> None:
        mine = [
            mark
            for mark in self.marks
            if mark["decision"] == decision_id and mark["outcome"] is None and mark["run"] is None
        ]
        for mark in mine:
            if outcome is None:
                self.marks.remove(mark)
            else:
                mark["outcome"] = outcome


class Store(Protocol):
    """A store that processes share, and its clock."""

    address: str
    """For `open_state`, as other processes use it."""
    state: SharedState

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds go by; a negative number sets the clock back."""


class SqliteStore:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"sqlite:///{path}"
        self.passed_ns = 0
        self.state = SqliteState(path, now_ns=lambda: time.time_ns() + self.passed_ns)

    def pass_time(self, seconds: float) -> None:
        self.passed_ns += round(seconds * 1e9)


class PostgresStore:
    """The clock of the server cannot be set, so all times in the store are."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.address = server.address()
        server.run("DROP SCHEMA IF EXISTS aegis CASCADE")
        self.state = PostgresState(self.address)
        self.state.read([])

    def pass_time(self, seconds: float) -> None:
        self.server.run(
            f"UPDATE aegis.mark SET marked_at = marked_at - interval '{seconds} seconds', "
            f"keep_until = keep_until - interval '{seconds} seconds'"
        )


def mark_one(state: SharedState, decision_id: str, *series: str, **options: Any) -> None:
    """Leave a mark in each series, whatever is in it."""
    marks = [Mark(each, **{"keep_s": HOUR} | options) for each in series]
    state.judge(decision_id, [], lambda tallies: marks)


def tally(state: SharedState, series: str, within_s: float | None = HOUR) -> Tally:
    query = SeriesQuery(series, within_s)
    return state.read([query])[query]


def take(state: SharedState, decision_id: str, series: str, limit: int) -> bool:
    """Take a place under a limit, if there is one: what a rule with `calls_over` does."""
    query, taken = SeriesQuery(series, HOUR), []

    def decide(tallies: Any) -> list[Mark]:
        taken[:] = [tallies[query].calls + 1 <= limit]
        return [Mark(series, keep_s=HOUR)] if taken[0] else []

    state.judge(decision_id, [query], decide)
    return taken[0]
