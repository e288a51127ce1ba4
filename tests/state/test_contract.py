"""What every engine of shared state promises, compared with a plain list."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis_otel.model import Mark, SeriesQuery, Tally
from aegis_otel.policy.history.ledger import Ledger
from aegis_otel.state.engine import PRUNE_EVERY
from aegis_otel.state.schema import VERSION
from tests.support.state import HOUR, ListState, Store, mark_one, take, tally

SERIES = ["calls user=a", "calls user=b", "total amount currency=€"]
WITHIN = [10.0, 100.0, HOUR, None]
MARKS = st.lists(
    st.builds(
        Mark,
        st.sampled_from(SERIES),
        amount=st.integers(0, 9 * 10**18),
        keep_s=st.sampled_from([10.0, 100.0, HOUR]),
        run=st.sampled_from([None, None, "run-1", "run-2"]),
    ),
    unique_by=lambda mark: mark.series,
    max_size=3,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("judge"), MARKS, st.lists(st.integers(0, 5), max_size=3)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.sampled_from(["success", "failed", None])),
        st.tuples(st.just("wait"), st.sampled_from([3.0, 30.0, 300.0])),
    ),
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_it_answers_as_a_list_does(store: Store, steps: list[Any]) -> None:
    """Whatever is marked, settled and asked, at whatever time."""
    run = next(_numbers)
    expected = ListState()
    queries = [SeriesQuery(f"{run} {series}", within) for series in SERIES for within in WITHIN]
    judged = 0
    for kind, *values in steps:
        if kind == "wait":
            expected.now += values[0]
            store.pass_time(values[0])
        elif kind == "settle":
            expected.settle(f"{run}-{values[0]}", values[1])
            store.state.settle(f"{run}-{values[0]}", values[1])
        else:
            marks = [Mark(f"{run} {each.series}", each.amount, each.keep_s, each.run) for each in values[0]]
            without = [f"{run}-{each}" for each in values[1]]
            seen: list[Mapping[SeriesQuery, Tally]] = []
            for state in (expected, store.state):
                state.judge(f"{run}-{judged}", queries, partial(_look, seen, marks), without)
            assert seen[0] == seen[1]
            assert store.state.read(queries, without) == expected.read(queries, without)
            judged += 1
        assert store.state.read(queries) == expected.read(queries)


_numbers = iter(range(1_000_000))


def _look(
    seen: list[Mapping[SeriesQuery, Tally]], marks: list[Mark], tallies: Mapping[SeriesQuery, Tally]
) -> list[Mark]:
    seen.append(tallies)
    return marks


MARKS_FOR_AN_HOUR = st.lists(
    st.builds(
        Mark,
        st.sampled_from(SERIES),
        amount=st.integers(0, 9 * 10**18),
        keep_s=st.just(HOUR),
        run=st.sampled_from([None, None, "run-1", "run-2"]),
    ),
    unique_by=lambda mark: mark.series,
    max_size=3,
)


@given(
    steps=st.lists(
        st.tuples(
            MARKS_FOR_AN_HOUR,
            st.sampled_from(["success", "failed", "gone", None]),
            st.sampled_from([0, 10, 300]),
        ),
        max_size=12,
    )
)
def test_what_tests_of_policies_and_replays_count_by_answers_as_a_list_does(steps: list[Any]) -> None:
    """`Ledger` says what the engines do, where marks are kept for as long as anybody asks."""
    expected, ledger = ListState(), Ledger()
    queries = [SeriesQuery(series, within) for series in SERIES for within in (10.0, 100.0, HOUR, None)]
    for number, (marks, outcome, seconds) in enumerate(steps):
        decision, now = str(number), datetime.fromtimestamp(expected.now, UTC)
        expected.judge(decision, [], partial(_look, [], marks))
        ledger.add(decision, marks, now)
        if outcome == "gone":
            expected.settle(decision, None)
            ledger.remove(decision)
        elif outcome is not None:
            expected.settle(decision, outcome)
            ledger.settle(decision, outcome)
        expected.now += seconds
        now = datetime.fromtimestamp(expected.now, UTC)
        assert ledger.answers(queries, now) == expected.read(queries)


def test_what_decide_raises_passes_through_and_nothing_is_kept(store: Store) -> None:
    class Failed(Exception):
        pass

    def decide(tallies: Mapping[SeriesQuery, Tally]) -> list[Mark]:
        raise Failed

    with pytest.raises(Failed):
        store.state.judge("d", [SeriesQuery("a", HOUR)], decide)
    assert tally(store.state, "a") == Tally()
    assert take(store.state, "d", "a", 1)


def test_marks_of_other_decisions_about_the_same_call_are_left_out(store: Store) -> None:
    for number in range(3):
        mark_one(store.state, f"d{number}", "a", amount=10)
    store.state.settle("d1", "success")
    query = SeriesQuery("a", HOUR)
    assert store.state.read([query], ["d0", "d1", "unknown"]) == {query: Tally(1, 10)}
    assert store.state.read([query], ["d2"]) == {query: Tally(2, 20, 1)}
    answers: list[Mapping[SeriesQuery, Tally]] = []

    def decide(tallies: Mapping[SeriesQuery, Tally]) -> list[Mark]:
        answers.append(tallies)
        return [Mark("a", keep_s=HOUR)]

    store.state.judge("d0", [query], decide, ["d0"])
    assert answers == [{query: Tally(2, 20, 1)}]
    store.state.settle("d0", None)
    assert tally(store.state, "a").calls == 2, "all marks of a decision are settled"


def test_marks_go_where_the_body_did_not_run(store: Store) -> None:
    mark_one(store.state, "d1", "a", "b")
    mark_one(store.state, "d2", "a")
    store.state.settle("d1", None)
    assert (tally(store.state, "a").calls, tally(store.state, "b").calls) == (1, 0)


def test_an_outcome_is_written_once(store: Store) -> None:
    """What comes later changes nothing: it is the end of another body, or the same again."""
    mark_one(store.state, "d", "a")
    assert tally(store.state, "a").open == 1
    store.state.settle("d", "failed")
    for outcome in ("success", None, "failed"):
        store.state.settle("d", outcome)
    assert tally(store.state, "a") == Tally(1, 0, 0, 1)


def test_tokens_of_a_run_never_become_less_and_stay(store: Store) -> None:
    """A run has one mark in a series; the tokens are used whether the body runs or not."""
    for number, amount in enumerate([5, 7, 6]):
        mark_one(store.state, f"d{number}", "tokens", run="r1", amount=amount)
    mark_one(store.state, "d3", "tokens", run="r2", amount=100)
    store.state.settle("d2", None)
    store.state.settle("d3", "success")
    assert tally(store.state, "tokens") == Tally(2, 107)
    store.pass_time(HOUR + 60)
    mark_one(store.state, "d4", "tokens", run="r1", amount=2)
    assert tally(store.state, "tokens") == Tally(1, 2)  # what is not kept any more says nothing


def test_a_clock_that_is_set_back_makes_no_limit_looser(store: Store) -> None:
    """Marks that are younger than now count."""
    mark_one(store.state, "d", "a")
    store.pass_time(-7_200.0)
    assert tally(store.state, "a", 10.0).calls == 1
    assert not take(store.state, "d2", "a", 1)


def test_old_marks_are_removed(store: Store) -> None:
    """Now and then, when a decision is settled."""
    for number in range(10):
        mark_one(store.state, f"old{number}", "a", keep_s=60.0)
    mark_one(store.state, "new", "a")
    store.pass_time(61.0)
    assert store.state.inspect().marks == 11
    for number in range(PRUNE_EVERY):
        store.state.settle(f"unknown{number}", "success")
    assert store.state.inspect().marks == 1


def test_threads_share_a_limit(store: Store) -> None:
    with ThreadPoolExecutor(12) as pool:
        taken = list(pool.map(lambda n: take(store.state, f"d{n}", "a", 20), range(60)))
    assert sum(taken) == 20


def test_signals_change_nothing(store: Store) -> None:
    """A thousand a second, in the middle of whatever it does."""
    is_over, taken = threading.Event(), list[bool]()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)

    def disturb() -> None:
        while not is_over.wait(0.001):
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        taken = [take(store.state, f"d{number}", "a", 100) for number in range(150)]
    finally:
        is_over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert taken == [True] * 100 + [False] * 50


def test_series_that_are_only_marked_are_as_exclusive_as_those_asked(store: Store) -> None:
    """Two decisions of which each marks what the other one asks: one of them sees the other's mark."""
    barrier = threading.Barrier(2)

    def run(mine: str, other: str) -> bool:
        query, free = SeriesQuery(other, HOUR), []

        def decide(tallies: Mapping[SeriesQuery, Tally]) -> list[Mark]:
            free[:] = [not tallies[query].calls]
            return [Mark(mine, keep_s=HOUR)] if free[0] else []

        barrier.wait()
        store.state.judge(f"{mine}-d", [query], decide)
        return free[0]

    with ThreadPoolExecutor(2) as pool:
        for trial in range(30):
            names = f"read {trial}", f"send {trial}"
            assert sum(pool.map(run, names, names[::-1])) == 1


def test_any_text_can_be_a_series(store: Store) -> None:
    for number, text in enumerate(["", "\0", "\ud800", "x" * 100_000, "'; DROP TABLE mark; --", "\u202e"]):
        mark_one(store.state, f"d{number}", text)
        assert tally(store.state, text).calls == 1


def test_a_query_asked_twice_is_one_answer(store: Store) -> None:
    mark_one(store.state, "d", "a")
    query = SeriesQuery("a", HOUR)
    assert store.state.read([query, query]) == {query: Tally(1)}
    assert store.state.read([]) == {}


def test_what_is_inspected(store: Store) -> None:
    mark_one(store.state, "d", "a", "b")
    facts = store.state.inspect()
    assert (facts.version, facts.marks) == (VERSION, 2)


def test_it_can_be_used_after_it_was_closed(store: Store) -> None:
    mark_one(store.state, "d", "a")
    store.state.close()
    store.state.close()
    assert tally(store.state, "a").calls == 1
