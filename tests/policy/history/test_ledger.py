"""The ledger in memory: what counts, for how long, and what an outcome changes."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aegis_otel.model import Mark, SeriesQuery, Tally
from aegis_otel.policy.history.ledger import Ledger
from tests.support.history import NOON

HOUR = SeriesQuery("a", 3600.0)
KEPT = SeriesQuery("a")


def test_marks_count_until_they_are_too_old() -> None:
    ledger = Ledger()
    ledger.add("1", [Mark("a", 5, 7200.0), Mark("b", 7, 60.0)], NOON)
    ledger.add("2", [Mark("a", 3, 7200.0)], NOON + timedelta(minutes=30))
    at = {minutes: ledger.answer(HOUR, NOON + timedelta(minutes=minutes)) for minutes in (0, 60, 61, 90, 91)}
    assert [at[each].calls for each in at] == [2, 2, 1, 1, 0]
    assert at[60].total == 8
    assert ledger.answer(KEPT, NOON + timedelta(minutes=120)).calls == 2
    assert ledger.answer(KEPT, NOON + timedelta(minutes=121)).calls == 1
    assert ledger.answer(SeriesQuery("c"), NOON) == Tally()


def test_a_clock_that_is_set_back_frees_nothing() -> None:
    ledger = Ledger()
    ledger.add("1", [Mark("a")], NOON)
    assert ledger.answer(HOUR, NOON - timedelta(days=1)).calls == 1


def test_outcomes() -> None:
    """Of a call and no other; what did not run leaves nothing."""
    ledger = Ledger()
    for name in ("1", "2", "3", "4"):
        ledger.add(name, [Mark("a", 1, 60.0), Mark("b", 1, 60.0)], NOON)
    ledger.settle("1", "success")
    ledger.settle("2", "failed")
    ledger.remove("3")
    ledger.settle("none", "success")
    ledger.settle("1", "failed")
    ledger.remove("2")
    for series in ("a", "b"):
        tally = ledger.answer(SeriesQuery(series, 60.0), NOON)
        assert tally == Tally(3, 3, succeeded=1, failed=1)
        assert tally.open == 1


def test_a_run_counts_with_its_latest_tokens() -> None:
    """They have been used, whether the call's body runs or not."""
    ledger = Ledger()
    for name, run, tokens in (("1", "r1", 5), ("2", "r2", 7), ("3", "r1", 9)):
        ledger.add(name, [Mark("a", tokens, 60.0, run)], NOON)
    assert ledger.answer(HOUR, NOON) == Tally(2, 16)
    ledger.remove("3")
    assert ledger.answer(HOUR, NOON) == Tally(2, 16)
    assert ledger.answers([HOUR, SeriesQuery("b")], NOON) == {HOUR: Tally(2, 16), SeriesQuery("b"): Tally()}


def test_what_nobody_asks_about_any_more_is_forgotten() -> None:
    ledger = Ledger()
    ledger.add("1", [Mark("a", 5, 60.0), Mark("b", 1, 7200.0)], NOON)
    ledger.add("2", [Mark("a", 3, 60.0)], NOON + timedelta(minutes=30))
    ledger.settle("1", "success")
    ledger.forget(NOON + timedelta(minutes=30))
    assert ledger.answer(KEPT, NOON) == Tally(1, 3)
    ledger.add("3", [Mark("a", 4, 60.0)], NOON + timedelta(minutes=31))
    assert ledger.answer(KEPT, NOON) == Tally(2, 7)
    ledger.settle("2", "failed")
    assert ledger.answer(KEPT, NOON) == Tally(2, 7, failed=1)
    assert ledger.answer(SeriesQuery("b"), NOON) == Tally(1, 1, succeeded=1)


minutes = st.integers(0, 120)
left = st.tuples(
    minutes, st.integers(0, 5), st.sampled_from([30, 90]), st.sampled_from(["success", "failed", "", None])
)


@given(st.lists(left, max_size=12), minutes, st.sampled_from([None, 10, 60]))
def test_it_counts_as_a_scan_of_all_marks_does(
    calls: list[tuple[int, int, int, str | None]], at: int, within: int | None
) -> None:
    """In whichever order they were left; None: the body did not run."""
    ledger, expected = Ledger(), Tally()
    for number, (minute, amount, keep, outcome) in enumerate(calls):
        ledger.add(str(number), [Mark("a", amount, keep * 60.0)], NOON + timedelta(minutes=minute))
        if outcome is None:
            ledger.remove(str(number))
        elif outcome:
            ledger.settle(str(number), outcome)
        if outcome is not None and at - minute <= min(keep, keep if within is None else within):
            expected = Tally(
                expected.calls + 1,
                expected.total + amount,
                expected.succeeded + (outcome == "success"),
                expected.failed + (outcome == "failed"),
            )
    question = SeriesQuery("a", None if within is None else within * 60.0)
    assert ledger.answer(question, NOON + timedelta(minutes=at)) == expected
