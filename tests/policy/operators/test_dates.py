"""`date_from` and `date_until`: dates and date-times in text, with and without a zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.lint import lint
from aegis_otel.policy.operators import dates
from tests.support.conditions import answer

NO_DATE = "the value is not a date in the form of ISO 8601"
NO_ZONE = "one of the two date-times has no time zone"
ZONE_DECIDES = "the time zone decides, and only one of the two has it"


@pytest.mark.parametrize(
    ("bound", "value", "since", "until"),
    [
        ("2026-12-01", "2026-12-01", True, True),
        ("2026-12-01", "2026-11-30", False, True),
        ("2026-12-01", "2026-12-02", True, False),
        ("2026-12-01", "2026-12-01T00:00", True, True),
        ("2026-12-01", "2026-12-01T23:59:59.999999", True, True),
        ("2026-12-01", "2026-12-01 12:30", True, True),
        ("2026-12-01", "2026-11-30T23:59:59.999999", False, True),
        ("2026-12-01", "2026-12-02T00:00", True, False),
        ("2026-12-01T12:00", "2026-12-01T12:00:00", True, True),
        ("2026-12-01T12:00", "2026-12-01T11:59:59", False, True),
        ("2026-12-01T12:00", "2026-12-01T12:00:00.000001", True, False),
        ("2026-12-01T12:00", "2026-11-30", False, True),
        ("2026-12-01T12:00", "2026-12-02", True, False),
        ("2026-12-01T12:00", "2026-12-01", "the bound is within the day", "the bound is within the day"),
        ("2026-12-01T12:00:00Z", "2026-12-01T14:00:00+02:00", True, True),
        ("2026-12-01T12:00:00Z", "2026-12-01T14:00:01+02:00", True, False),
        ("2026-12-01T12:00:00Z", "2026-12-01T13:00:00+02:00", False, True),
        ("2026-12-01T12:00:00Z", "2026-12-01T12:00:00", NO_ZONE, NO_ZONE),
        ("2026-12-01T12:00:00Z", "2027-12-01T12:00:00", NO_ZONE, NO_ZONE),
        ("2026-12-01T12:00:00", "2026-12-01T12:00:00Z", NO_ZONE, NO_ZONE),
        # A day in some zone lasts from 10:00 UTC of the day before to 12:00 UTC of the day after.
        ("2026-12-01T12:00:00Z", "2026-12-03", True, False),
        ("2026-12-01T12:00:00Z", "2026-12-02", ZONE_DECIDES, ZONE_DECIDES),
        ("2026-12-01T09:00:00Z", "2026-12-02", True, False),
        ("2026-12-01T12:00:00Z", "2026-11-30", False, True),
        ("2026-12-01", "2026-12-24T09:00:00Z", True, False),
        ("2026-12-01", "2026-11-30T09:59:59Z", False, True),
        ("2026-12-01", "2026-11-30T10:00:00Z", ZONE_DECIDES, True),
        ("2026-12-01", "2026-12-01T11:59:59Z", ZONE_DECIDES, ZONE_DECIDES),
        ("2026-12-01", "2026-12-01T12:00:00Z", True, ZONE_DECIDES),
        ("2026-12-01", "2026-12-02T12:00:00Z", True, False),
        ("0001-01-01", "0001-01-01T00:00:00+14:00", ZONE_DECIDES, True),
        ("9999-12-31", "9999-12-31T23:59:59Z", True, ZONE_DECIDES),
    ],
)
def test_dates(bound: str, value: str, since: bool | str, until: bool | str) -> None:
    assert answer({"date_from": {"p": bound}}, {"p": value}) == since
    assert answer({"date_until": {"p": bound}}, {"p": value}) == until


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "today",
            "tomorrow",
            "now",
            "2026",
            "2026-12",
            "20261201",
            "26-12-01",
            "2026-1-1",
            "2026-335",
        ),
        *("12/01/2026", "01.12.2026", "1 December 2026", "Tue, 01 Dec 2026 12:00:00 GMT", "2026/12/01"),
        *("2026-W49-2", "2026-W49", "2026-02-30", "2026-13-01", "2026-00-10", "0000-01-01", "+2026-12-01"),
        *("2026-12-01T", "2026-12-01T12", "2026-12-01T1200", "2026-12-01T24:00", "2026-12-01T12:60"),
        *("2026-12-01T12:00:60Z", "2026-12-01T12:00:00,5", "2026-12-01T12:00:00.", "2026-12-01T12:00z"),
        *("2026-12-01T12:00:00.1234567", "2026-12-01T12:00:00+0200", "2026-12-01T12:00:00+02"),
        *("2026-12-01T12:00:00-00:00", "2026-12-01T12:00:00+24:00", "2026-12-01T12:00:00+02:60"),
        *("2026-12-01T12:00:00 UTC", "2026-12-01T12:00:00[Europe/Berlin]", "2026-12-01Z", "2026-12-01+02:00"),
        *(
            " 2026-12-01",
            "2026-12-01 ",
            "2026-12-01\n",
            "2026-12-01\x00",
            "2026-12-01T12:00\u00a0",
            "1764547200",
        ),
        *(
            "\u0662\u0660\u0662\u0666-12-01",
            "\uff12\uff10\uff12\uff16-12-01",
            "2026\u201312\u201301",
            "-2026-12-01",
        ),
        *("2026-12-01/2026-12-05", "2026-12-01..", "P1D", "2026-12-01t12:00", "\ud800", "2026-12-01" * 100),
    ],
)
def test_what_is_no_date_is_unknown(value: str) -> None:
    """Python reads some of them."""
    assert answer({"date_from": {"p": "2020-01-01"}}, {"p": value}) == NO_DATE
    assert answer({"date_until": {"p": "2030-01-01T00:00Z"}}, {"p": value}) == NO_DATE


@pytest.mark.parametrize(
    ("value", "kind"),
    [(20261201, "a number"), (True, "a boolean"), (["2026-12-01"], "a list"), ({}, "a mapping")],
)
def test_what_is_no_text_is_unknown(value: Any, kind: str) -> None:
    assert answer({"date_from": {"p": "2020-01-01"}}, {"p": value}) == f"the value is {kind}, not text"


def test_a_date_of_python_is_unknown() -> None:
    kind = "of a type that conditions cannot compare"
    for value in (date(2026, 12, 1), datetime(2026, 12, 1, tzinfo=UTC)):
        assert answer({"date_from": {"p": "2020-01-01"}}, {"p": value}) == f"the value is {kind}, not text"


@pytest.mark.parametrize(
    ("bound", "value", "since", "until"),
    [
        ("today", "2026-03-01", True, True),
        ("today", "2026-02-28", False, True),
        ("today", "2026-03-02", True, False),
        ("today", "2026-03-01T23:59", True, True),
        ("today-7d", "2026-02-22", True, True),
        ("today-7d", "2026-02-21", False, True),
        ("today+365d", "2027-03-01", True, True),
        ("today+365d", "2027-03-02", True, False),
        ("today", "2026-03-03T09:00:00Z", True, False),
        ("today", "2026-03-01T09:00:00Z", ZONE_DECIDES, True),
        ("now", "2026-03-01T00:30:00Z", True, True),
        ("now", "2026-03-01T00:29:59.999999Z", False, True),
        ("now", "2026-03-01T02:31:00+02:00", True, False),
        ("now-24h", "2026-02-28T00:30:00Z", True, True),
        ("now-24h", "2026-02-28T00:29:59Z", False, True),
        ("now-1d", "2026-02-28T00:29:59Z", False, True),
        ("now+2d", "2026-03-03T00:30:01Z", True, False),
        ("now", "2026-03-01T00:30:00", NO_ZONE, NO_ZONE),
        ("now", "2026-03-05", True, False),
        ("now", "2026-03-01", ZONE_DECIDES, ZONE_DECIDES),
        ("now", "now", NO_DATE, NO_DATE),
    ],
)
def test_relative_dates(bound: str, value: str, since: bool | str, until: bool | str) -> None:
    """At half past midnight in UTC, which is given in any zone or without one."""
    utc = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
    for now in (utc, utc.replace(tzinfo=None), utc.astimezone(timezone(timedelta(hours=-9)))):
        assert answer({"date_from": {"p": bound}}, {"p": value}, now=now) == since
        assert answer({"date_until": {"p": bound}}, {"p": value}, now=now) == until
        assert answer({"date_from": {"p[any]": bound}}, {"p": [value]}, now=now) == since


def test_a_policy_with_relative_dates_reads_the_time() -> None:
    """Also where they stand in a group; the digest does not change with the time."""

    def policy(condition: dict[str, Any]) -> Policy:
        return Policy.from_dict({"rules": [{"conditions": condition, "approval": "block"}]})

    assert policy({"date_from": {"p": "today"}}).reads_time
    assert policy({"not": {"any": [{"date_until": {"p": "now-24h"}}]}}).reads_time
    assert not policy({"date_from": {"p": "2026-12-01"}}).reads_time
    assert policy({"date_from": {"p": "today"}}).digest == policy({"date_from": {"p": "today"}}).digest
    later = policy({"date_from": {"p": "today"}}).evaluate(Action("t", params={"p": "9999-12-31"}))
    assert later.matched_rule == "rule_0"


def test_a_time_that_is_out_of_range_is_unknown() -> None:
    latest = datetime.max.replace(tzinfo=UTC)
    found = answer({"date_from": {"p": "today+1d"}}, {"p": "2026-01-01"}, now=latest)
    assert found == "the comparison failed with OverflowError"


def test_the_linter_tries_relative_dates() -> None:
    """Its examples are dates at the time at which it tries them."""
    one = {"match": {"type": "t"}, "conditions": {"date_from": {"a": "today"}, "param_contains": {"b": "x"}}}
    policy = {"rules": [{**one, "approval": "auto"}], "defaults": {"approval": "block"}}
    assert [each.kind for each in lint(Policy.from_dict(policy))] == ["contains-allow"]
    both = {"param_eq": {"a": "2030-01-01"}, "date_from": {"a": "today"}}
    policy = {"rules": [{"match": {"type": "t"}, "conditions": both, "approval": "auto"}]}
    assert lint(Policy.from_dict(policy)) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("+24h", "now+24h"), ("-7d", "today-7d"), ("today+24h", "now+24h"), ("today + 7d", None)),
        *(("now-2 days", "now-2d"), ("tomorrow", "today+1d"), ("-24 hours", "now-24h"), ("yesterday", None)),
    ],
)
def test_what_was_meant(written: str, meant: str | None) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict({"rules": [{"conditions": {"date_from": {"p": written}}}]})
    assert caught.value.problems[0].suggestion == meant
    if meant is not None:
        Policy.from_dict({"rules": [{"conditions": {"date_from": {"p": meant}}}]})


@pytest.mark.parametrize(
    "written", ['"1.12.2026"', "tomorrow", '"2026-02-30"', "20261201", "[a]", "true", '""']
)
def test_what_is_refused(written: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - conditions: {{ date_from: {{ p: {written} }} }}\n")
    (problem,) = caught.value.problems
    assert '`date_from` on `p` must be a date, as in "2026-12-31", a date-time' in str(problem)
    assert problem.line == 2


def test_an_unquoted_date_is_refused() -> None:
    with pytest.raises(PolicyError, match=r'quote it.* \(did you mean `"2026-12-01"`'):
        Policy.from_text("rules: [{ conditions: { date_from: { p: 2026-12-01 } } }]")


moments = st.datetimes(datetime(2026, 11, 29), datetime(2026, 12, 3), timezones=st.none() | st.just(UTC))
texts = st.one_of(
    moments.map(datetime.isoformat),
    st.dates(date(2026, 11, 29), date(2026, 12, 3)).map(date.isoformat),
    st.text(max_size=12),
)
bounds = texts.filter(lambda text: dates.parse(text) is not None)


@given(texts, bounds)
def test_one_of_the_two_holds(value: str, bound: str) -> None:
    """Each moment is at or after a bound, or at or before it; nothing raises."""
    since, until = (judge(value, dates.prepare(bound)) for judge in (dates.judge_from, dates.judge_until))
    assert since is not False or until is not False


@given(bounds, bounds, bounds)
def test_they_are_in_order(first: str, second: str, third: str) -> None:
    """What is after a bound is after each bound that is before that one, and of the same kind."""
    if len({(text.count(":"), "+" in text) for text in (first, second, third)}) == 1:
        one, two, three = sorted((first, second, third))
        assert dates.judge_from(three, dates.prepare(one)) is True
        assert dates.judge_until(one, dates.prepare(two)) is True
