"""The conditions on the calls that went before: what each asks about, what it answers, and what it counts.

A series is what one condition counts together: the calls for which `by` has the same values. A call asks
about the series of its own values. They come from a model: whatever cannot be told apart surely makes the
condition unknown. No value is in the reason.

`after` counts calls that other rules decide about. One of which a value of `by` is not known may be any: it
leaves its mark in a series with null for the value, about which each later call asks as well. It also asks
about a series of the calls that are such a call in some of their forms only, as are those of a tool with a
look-alike name.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from aegis_otel.model import Action, Mark, SeriesQuery, Tally, Where
from aegis_otel.policy.evaluation.parameter_paths import BEYOND_THE_CALL
from aegis_otel.policy.evaluation.path_steps import UNIT, Found, exact, value_reader
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.operators.answer import Answer, kind
from aegis_otel.policy.patterns import Glob, compile_glob
from aegis_otel.policy.rules import (
    MILLIONTHS,
    MOST_COUNTED,
    Divider,
    HistoryTest,
    ParamTest,
    Step,
    number_of,
)

NOT_KNOWN = "the calls that went before are not known"
_LONGEST_TEXT = 200
"""Characters of a value that stand in a series; of a longer one its digest does."""
_MOST_BITS = 512
"""The size of the largest number that tells calls apart."""
_OF_THE_CALL = {
    "agent": "the agent that asks is not known",
    "tool": "the name of the tool is not known",
    "session": "the session of the call is not known",
    "conversation": "the conversation of the call is not known",
    "run": "the run of the call is not known",
    "user": "the user that the agent acts for is not known",
    "tenant": "the tenant that the agent acts for is not known",
}
"""Why a condition is unknown where the word of `by` has no value."""
_KNOWN_FIRST = ("session", "tool", "agent", "run", "conversation", "tenant", "user")
"""The words of `by`, what programs know of every call first; after them come parameters."""
_VALUE = "text, a number or a boolean"
_AMOUNT = "a number of 0 or more, with at most six digits after the point"
_MILLIONTH: int = UNIT // MILLIONTHS
"""The integer that stands for a millionth where `exact` counts a number."""

_Read = Callable[[Action, Where, SchemaReader | None], Any]


_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class Unknown(Exception):
    """A condition cannot be answered for a call; the message says why, without values."""


class _UnreadParameter(Unknown):
    """Another value of a parameter would answer the condition."""

    def __init__(self, why: str, path: str, wanted: str) -> None:
        super().__init__(why)
        self.path = path
        self.wanted = wanted
        """In words, what the value must be."""


class HistoryReader:
    """One condition on the calls that went before, compiled."""

    def __init__(self, spec: HistoryTest, keep_s: float) -> None:
        """Compile `spec`.

        Args:
            spec: The condition.
            keep_s: The longest time for which its rule asks for a mark of its series.
        """
        self.spec = spec
        self.types: tuple[Glob, ...] = tuple(
            compile_glob(each.text, each.ignores_case) for each in spec.types
        )
        """The types of the calls that leave a mark; empty where those leave one that the rule matches."""
        self.keep_s = keep_s
        self._kind = spec.kind
        self._words = list(spec.words)  # in alphabetical order, so that no other order makes another series
        self._begin = self._beginning(self._words)
        self._begin_perhaps = _ENCODE([spec.rule, [*self._kind, "perhaps"], self._words]).removesuffix("]")
        self._dividers = [_divider(each) for each in spec.by]
        self._amount = None if spec.amount is None else value_reader(spec.amount)
        self._judge = _JUDGES[spec.key]
        self._has_run = "run" in spec.words
        self.known_first = sorted(range(len(self._words)), key=lambda place: _rank(self._words[place]))
        """The places of the words of `by`, what programs know of every call first."""

    def queries(self, action: Action, where: Where, schema: SchemaReader | None) -> tuple[SeriesQuery, ...]:
        """Return what it asks about one form of an action; nothing where that is not known."""
        try:
            return self._queries(action, where, schema)
        except Exception:
            return ()

    def mark_of_type(
        self, action: Action, where: Where, schema: SchemaReader | None, *, is_certain: bool
    ) -> Mark:
        """Return what one form of a permitted action leaves for `after`, whose type it has.

        Args:
            action: The form.
            where: What it is part of.
            schema: The schema of its parameters, if it has one.
            is_certain: Whether all forms have the type, and the same values of `by`.
        """
        return self.mark(self._values_known(action, where, schema), is_certain=is_certain)

    def marks(self, action: Action, where: Where, schema: SchemaReader | None) -> tuple[Mark, ...]:
        """Return what one form of a permitted action leaves; nothing where that is not known.

        What it leaves for `after` is `mark_of_type`.
        """
        try:
            queries = self._queries(action, where, schema)
            amount = self.amount(action, where, schema)
        except Exception:
            return ()
        run = (where.tokens_run or where.run) if self.spec.key == "tokens_over" else None
        return tuple(Mark(each.series, amount, self.keep_s, run) for each in queries)

    def answer(self, action: Action, _now: datetime, schema: SchemaReader | None) -> Answer:
        """Return whether it holds for one form of an action, or why that is unknown."""
        past = action.past
        if past is None:
            return NOT_KNOWN
        try:
            queries = self._queries(action, past.where, schema)
            amount = self.amount(action, past.where, schema)
        except Unknown as error:
            return str(error)
        if past.failure is not None:
            return past.failure
        tallies = [past.tallies.get(query) for query in queries]
        known = [tally for tally in tallies if tally is not None]
        return self.judge(known, amount) if len(known) == len(tallies) else NOT_KNOWN

    def usage(self, action: Action, schema: SchemaReader | None) -> float | None:
        """Return how much of the limit is used with one form of an action: 1 is all of it, more is over it.

        None where that is not known, where the limit is 0, and where the condition has no limit.
        """
        past, limit = action.past, _limit(self.spec)
        if past is None or past.failure is not None or self.spec.key not in _USED or limit == 0:
            return None
        try:
            tallies = [past.tallies[each] for each in self._queries(action, past.where, schema)]
            return _USED[self.spec.key](self.spec, tallies, self.amount(action, past.where, schema)) / limit
        except Exception:
            return None

    def seen(self, action: Action, schema: SchemaReader | None) -> str:
        """Return in words what went before, as the condition counts it; empty where that is not known."""
        past = action.past
        if past is None or past.failure is not None:
            return ""
        queries = self.queries(action, past.where, schema)
        tally = past.tallies.get(queries[0]) if queries else None
        if tally is None:
            return ""
        if self.spec.key == "after":
            perhaps, *others = (past.tallies.get(each, Tally()).calls for each in queries[1:])
            in_part = f", {perhaps} in some forms only" if perhaps else ""
            lacking = f", {sum(others)} of which a value of `by` is not known" if any(others) else ""
            ended = f"{tally.succeeded} succeeded, {tally.failed} failed, {tally.open} not ended"
            return f"{ended}{in_part}{lacking}"
        if self.spec.key == "total_over":
            return f"{number_of(tally.total)} before"
        if self.spec.key == "tokens_over":
            return f"{number_of(tally.total)} before, {past.where.tokens} in this run by now"
        return f"{tally.calls} before"

    def unread(self, action: Action, schema: SchemaReader | None) -> Iterator[tuple[str, str]]:
        """Yield the parameters that are lacking or cannot be counted, and in words what each must be."""
        where = Where()  # no parameter depends on it
        reads: list[_Read] = [partial(self.value, place) for place in range(len(self._dividers))]
        for read in (*reads, self.amount):
            try:
                read(action, where, schema)
            except _UnreadParameter as error:
                yield error.path, error.wanted
            except Unknown:
                pass  # other arguments of the call would not change that

    def _queries(self, action: Action, where: Where, schema: SchemaReader | None) -> tuple[SeriesQuery, ...]:
        if self.spec.key == "tokens_over" and where.tokens_run is not None:
            where = msgspec.structs.replace(where, run=where.tokens_run)
        values = [self.value(place, action, where, schema) for place in range(len(self._dividers))]
        if self.types:
            return tuple(self.queries_after(values))
        asked = self.query(values)
        if self.spec.key != "tokens_over" or self._has_run:
            return (asked,)
        # What the run itself has used is newer than its mark: the part of the total that it replaces.
        place = bisect(self._words, "run")
        words, all_values = self._words.copy(), values.copy()
        words.insert(place, "run")
        all_values.insert(place, _fact("run", action, where))
        own = self._series(words, all_values)
        return asked, SeriesQuery(own, self.spec.within_s)

    def value(self, place: int, action: Action, where: Where, schema: SchemaReader | None) -> Any:
        """Return the value of one word of `by`, or raise Unknown."""
        try:
            return self._dividers[place](action, where, schema)
        except Unknown:
            raise
        except Exception as error:  # the arguments come from a model
            raise Unknown(f"{quoted(self._words[place])}: {type(error).__name__}") from error

    def query(self, values: Sequence[Any]) -> SeriesQuery:
        """Return what it asks about calls with these values of `by`."""
        return SeriesQuery(self._series(self._words, values), self.spec.within_s)

    def queries_after(self, values: Sequence[Any]) -> list[SeriesQuery]:
        """Return what `after` asks about calls with these values of `by`, all of which are known.

        First about those that are certain, then about those that have the type or the values in some of their
        forms only, then about those of which fewer values are known.
        """
        lacking = [self.query(self.without(values, known)) for known in range(len(values))]
        return [self.query(values), SeriesQuery(self._perhaps(values), self.spec.within_s), *lacking]

    def mark(self, values: Sequence[Any], amount: int = 0, *, is_certain: bool = True) -> Mark:
        """Return what a call with these values of `by`, null where not known, leaves, but for tokens.

        Args:
            values: Of `by`.
            amount: In millionths.
            is_certain: Whether it is a call that the condition counts in all its forms.
        """
        is_apart = not is_certain and None not in values  # else nobody takes it for certain
        return Mark(
            self._perhaps(values) if is_apart else self._series(self._words, values), amount, self.keep_s
        )

    def judge(self, tallies: Sequence[Tally], amount: int) -> Answer:
        """Return what it says where its queries have these answers."""
        return self._judge(self.spec, tallies, amount)

    def _values_known(self, action: Action, where: Where, schema: SchemaReader | None) -> list[Any]:
        """Return the values of `by` as far as all are known, in the order of `_KNOWN_FIRST`, and else null.

        So what a call lacks leads to one of as many series as `by` has words, not to one of all their
        combinations.
        """
        values: list[Any] = [None] * len(self._dividers)
        for known, place in enumerate(self.known_first):
            try:
                values[place] = self.value(place, action, where, schema)
            except Unknown:
                return self.without(values, known)
        return values

    def without(self, values: Sequence[Any], known: int) -> list[Any]:
        """Return values of `by` of which only so many are known."""
        places = self.known_first[:known]
        return [value if place in places else None for place, value in enumerate(values)]

    def _series(self, words: Sequence[str], values: Sequence[Any]) -> str:
        begin = self._begin if words is self._words else self._beginning(words)
        return f"{begin},[{','.join(map(_ENCODE, values))}]]"

    def _perhaps(self, values: Sequence[Any]) -> str:
        return f"{self._begin_perhaps},[{','.join(map(_ENCODE, values))}]]"

    def _beginning(self, words: Sequence[str]) -> str:
        """Return a series, a list as JSON, up to its values."""
        return _ENCODE([self.spec.rule, self._kind, words]).removesuffix("]")

    def amount(self, action: Action, where: Where, schema: SchemaReader | None) -> int:
        """Return the millionths that the call adds, or how much its run has used. Raises Unknown."""
        if self.spec.key == "tokens_over":
            tokens = where.tokens
            if type(tokens) is not int or not 0 <= tokens <= MOST_COUNTED:
                raise Unknown("how many tokens the run has used is not known")
            return tokens * MILLIONTHS
        if self._amount is None or self.spec.amount is None:
            return 0
        path = self.spec.amount.path
        found = self._amount(action, schema)
        why = found if isinstance(found, str) else ""
        if isinstance(found, Found):
            try:
                return _millionths(found.value, self.spec.amount)
            except Unknown as error:
                why = str(error)
        raise _unread(f"the amount in {quoted(path)} is not known", why, path, _AMOUNT)


def _millionths(value: object, param: ParamTest) -> int:
    if _gives_number(param):
        number: int | str = value if isinstance(value, int) else "it is no number"
    elif isinstance(value, str):
        number = "the value is text, not a number"
    else:
        number = exact(value)
    if isinstance(number, str):
        raise Unknown(number)
    if number < 0:
        raise Unknown("the number is negative")
    if number > MOST_COUNTED * UNIT:
        raise Unknown("the number is too large")
    whole, rest = divmod(number, _MILLIONTH)
    if rest:
        raise Unknown("the number has more than six digits after the point")
    return whole


def _gives_number(param: ParamTest) -> bool:
    return bool(param.steps) and param.steps[-1] is Step.NUMBER


def _rank(word: str) -> tuple[int, str]:
    return (_KNOWN_FIRST.index(word), word) if word in _KNOWN_FIRST else (len(_KNOWN_FIRST), word)


def _divider(divider: Divider) -> _Read:
    """Return the function that returns the value of one item of `by` as JSON, or raises Unknown."""
    param, word = divider.param, divider.word
    if param is None:
        return lambda action, where, _schema: _fact(word, action, where)
    read, what = value_reader(param), f"{quoted(param.path)}, by which calls are counted apart, is not known"

    def value(action: Action, _where: Where, schema: SchemaReader | None) -> Any:
        found = read(action, schema)
        if isinstance(found, str):
            raise _unread(what, found, param.path, _VALUE)
        try:
            return _told_apart(found.value, what)
        except Unknown as error:
            raise _UnreadParameter(str(error), param.path, _VALUE) from None

    return value


def _unread(what: str, why: str, path: str, wanted: str) -> Unknown:
    """Return the error of a parameter that is not known.

    It says that another value would answer the condition, unless `why` is a reason in `BEYOND_THE_CALL`.
    """
    reason = f"{what}: {why}"
    return Unknown(reason) if why in BEYOND_THE_CALL else _UnreadParameter(reason, path, wanted)


def _fact(word: str, action: Action, where: Where) -> Any:
    """Return what `word` of `by` is for the call. Raises Unknown."""
    if word in ("user", "tenant"):
        value: object = None if action.subject is None else getattr(action.subject, word)
    else:
        value = action.agent if word == "agent" else getattr(where, word)
    if not isinstance(value, str):
        raise Unknown(_OF_THE_CALL[word])
    return _told_apart(value, _OF_THE_CALL[word])


def _told_apart(value: object, what: str) -> Any:
    """Return a value as JSON in which equal ones, and no others, are the same: `1` and `1.0` are one number.

    Raises:
        Unknown: The value cannot be told apart; the message begins with `what`.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        try:
            content = text.encode()
        except UnicodeEncodeError:
            raise Unknown(f"{what}: the text is not valid Unicode") from None
        if len(text) <= _LONGEST_TEXT:
            return text
        return {"sha256": hashlib.sha256(content).hexdigest()}
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            raise Unknown(f"{what}: the number is too large")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unknown(f"{what}: the number is none that can be compared")
        return float(value)
    raise Unknown(f"{what}: the value is {kind(value)}, not text, a number or a boolean")


def _calls(_spec: HistoryTest, tallies: Sequence[Tally], _amount: int) -> int:
    return tallies[0].calls + 1


def _total(_spec: HistoryTest, tallies: Sequence[Tally], amount: int) -> int:
    return tallies[0].total + amount


def _tokens(_spec: HistoryTest, tallies: Sequence[Tally], amount: int) -> int:
    """The total holds what this run had used at its last call, which `amount` replaces.

    Unless it is less: then the call has waited, and other calls of the run have gone before it.
    """
    whole, *own = tallies
    if not own:  # the total is that of this run
        return max(whole.total, amount)
    return max(whole.total - own[0].total, 0) + max(own[0].total, amount)


def _is_over(spec: HistoryTest, tallies: Sequence[Tally], amount: int) -> Answer:
    return _USED[spec.key](spec, tallies, amount) > _limit(spec)


def _limit(spec: HistoryTest) -> int:
    """Return the limit in what `_USED` counts."""
    return spec.limit * MILLIONTHS if spec.key == "tokens_over" else spec.limit


_USED: Mapping[str, Callable[[HistoryTest, Sequence[Tally], int], int]] = {
    "calls_over": _calls,
    "total_over": _total,
    "tokens_over": _tokens,
}
"""(condition, answers to its queries, millionths of the call) -> what is used with the call."""


def _repeats(_spec: HistoryTest, tallies: Sequence[Tally], _amount: int) -> Answer:
    return tallies[0].calls > 0


def _after(spec: HistoryTest, tallies: Sequence[Tally], _amount: int) -> Answer:
    tally, perhaps, *others = tallies
    if _ended(spec, tally):
        return True
    if tally.open > 0:
        return "how such a call before it ended is not known"
    if perhaps.open > 0 or _ended(spec, perhaps):
        return "a call before it has this type, or these values of `by`, in some of its forms only"
    may_count = any(each.open > 0 or _ended(spec, each) for each in others)
    return "a value of `by` of such a call before it is not known" if may_count else False


def _ended(spec: HistoryTest, tally: Tally) -> bool:
    """Return whether a call has ended as `result` says."""
    ended = {"success": tally.succeeded, "failed": tally.failed}
    return ended.get(spec.result, tally.succeeded + tally.failed) > 0


_JUDGES: Mapping[str, Callable[[HistoryTest, Sequence[Tally], int], Answer]] = {
    "calls_over": _is_over,
    "total_over": _is_over,
    "tokens_over": _is_over,
    "after": _after,
    "repeats": _repeats,
}
"""(condition, answers to its queries, millionths of the call) -> answer, by the key of the condition."""


def compile_readers(tests: Sequence[HistoryTest]) -> dict[HistoryTest, HistoryReader]:
    """Return the conditions of one rule as readers, each of which keeps its marks as long as any asks."""
    keep_s: dict[str, float] = {}
    for test in tests:
        counted = json.dumps([test.kind, test.words])
        keep_s[counted] = max(test.keep_s, keep_s.get(counted, 0.0))
    return {test: HistoryReader(test, keep_s[json.dumps([test.kind, test.words])]) for test in tests}
