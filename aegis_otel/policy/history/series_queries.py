"""What a policy asks about the calls before an action, and what the action leaves for those after it. Pure.

Whoever keeps the marks answers the queries, decides by `Action.with_past`, and keeps the marks of a
permitted call, all in one step: nobody else may ask or mark a series in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aegis_otel.model import Action, Mark, Mode, SeriesQuery, Where
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.conditions import Condition
from aegis_otel.policy.evaluation.evaluator import match_answer
from aegis_otel.policy.evaluation.history_tests import HistoryReader
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import Group, HistoryTest, TimeWindow


def queries_of(policy: Policy, action: Action, where: Where) -> tuple[SeriesQuery, ...]:
    """Return what `policy` asks about the calls before `action`, in all its forms. Never raises.

    No query is asked for a rule that cannot match, nor for one about a value that the call does not have:
    there the condition is unknown.
    """
    found: dict[SeriesQuery, None] = {}
    for form in _forms(policy, action):
        schema = _schema_of(form)
        for rule in _asking(policy, form):
            if _may_match(rule, form, schema, None):
                for reader in rule.history:
                    found.update(dict.fromkeys(reader.queries(form, where, schema)))
    return tuple(found)


def marks_of(
    policy: Policy,
    action: Action,
    where: Where,
    now: datetime,
    *,
    is_permitted: bool = True,
    enforced_only: bool = False,
) -> tuple[Mark, ...]:
    """Return what `action` leaves for the calls after it, one mark for each series. Never raises.

    It is counted by each rule whose `match` and whose conditions outside of history hold or are unknown,
    whichever rule decided; and by each `after` that names its type. That counts it for certain only where all
    forms have the type and the same values of `by`: under `not`, it would let calls through.

    Args:
        policy: The policy in force.
        action: In all its forms, of which each counts.
        where: What the action is part of.
        now: The time of the decision, UTC when it has no zone.
        is_permitted: Whether the body may run. If not, only the tokens that the run has used are counted, in
            marks that have a `run`. They have been used whatever comes of the call, so these marks also stay
            where the body of a permitted call does not run.
        enforced_only: Whether what only monitored rules count is left out.
    """
    found: dict[str, Mark] = {}
    forms = [(form, _schema_of(form)) for form in _forms(policy, action)]
    for rule in policy.compiled.historic if forms else ():
        if enforced_only and rule.verdict.mode is not Mode.ENFORCE:
            continue
        counted = [each for each in forms if _may_match(rule, *each, now)]
        for reader in rule.history:
            if reader.types:
                marks = _marks_after(reader, forms, where) if is_permitted else []
            else:
                marks = [mark for form, schema in counted for mark in reader.marks(form, where, schema)]
            for mark in marks:
                if is_permitted or mark.run is not None:
                    found[mark.series] = _larger(mark, found.get(mark.series))
    return tuple(found.values())


def usage_of(policy: Policy, action: Action) -> dict[str, float]:
    """Return how much of each rule's limit is used with an action that has its past, by the rule's name.

    1 is all of it, and more is over it. Of several limits of a rule it is the one that is used most. A rule
    that cannot match, or of which it is not known, is left out. Never raises.
    """
    found: dict[str, float] = {}
    for form in _forms(policy, action):
        schema = _schema_of(form)
        for rule in _asking(policy, form):
            if _may_match(rule, form, schema, None):
                shares = [reader.usage(form, schema) for reader in rule.history]
                known = [share for share in shares if share is not None]
                if known:
                    found[rule.name] = max(*known, found.get(rule.name, 0.0))
    return found


def _forms(policy: Policy, action: Action) -> tuple[Action, ...]:
    return (action, *action.forms) if policy.has_history else ()


def _schema_of(form: Action) -> SchemaReader | None:
    return None if form.schema is None else SchemaReader(form.schema)


def _asking(policy: Policy, form: Action) -> Sequence[CompiledRule]:
    compiled = policy.compiled
    return compiled.asking(form.type) if type(form.type) is str else compiled.historic


def _marks_after(
    reader: HistoryReader, forms: Sequence[tuple[Action, SchemaReader | None]], where: Where
) -> list[Mark]:
    """Return what a permitted action leaves for one `after`; nothing where no form has the type."""
    has_type = [match_answer(reader.types, "type", form) for form, _ in forms]
    if all(each is False for each in has_type):
        return []
    marks = [reader.mark_of_type(form, where, schema, is_certain=True) for form, schema in forms]
    if all(each is True for each in has_type) and len({mark.series for mark in marks}) == 1:
        return marks
    return [reader.mark_of_type(form, where, schema, is_certain=False) for form, schema in forms]


def _larger(mark: Mark, other: Mark | None) -> Mark:
    """Return what stands for two marks of one series: the amount of a call counts once, and its most."""
    if other is None:
        return mark
    return Mark(mark.series, max(mark.amount, other.amount), max(mark.keep_s, other.keep_s), mark.run)


def _may_match(rule: CompiledRule, form: Action, schema: SchemaReader | None, now: datetime | None) -> bool:
    """Return whether everything in a rule but history holds for a form or is unknown, at any time if None."""
    try:
        for name, globs in rule.texts:
            if match_answer(globs, name, form) is False:
                return False
        return all(_may_hold(condition, form, schema, now) for condition in rule.conditions)
    except Exception:  # as in a decision, what cannot be judged counts
        return True


def _may_hold(condition: Condition, form: Action, schema: SchemaReader | None, now: datetime | None) -> bool:
    spec = condition.spec
    if isinstance(spec, HistoryTest) or (isinstance(spec, Group) and spec.reads_history):
        return True
    if now is None:
        if isinstance(spec, TimeWindow) or spec.reads_time:
            return True
        now = datetime.min  # nothing in it reads the time
    return condition.answer(form, now, schema) is not False
