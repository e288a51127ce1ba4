"""Decide an action by a compiled policy, at a time. Pure: nothing raises, and nothing else is read.

`Policy.evaluate` runs the plan for the action's type and is done when every rule either plainly matches or
plainly does not. Where one does neither (or the type is new, or anything raises), this module asks the
three-valued tests of each rule: a rule whose match is unknown competes with what the rules after it say, and
the strictest verdict wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import datetime

import msgspec

from aegis_otel.model import ERROR_RULE, Action, Approval, Mode, RiskLevel, Verdict
from aegis_otel.policy.evaluation.compiler import CompiledPolicy, CompiledRule, Plan
from aegis_otel.policy.evaluation.conditions import Condition, failed
from aegis_otel.policy.evaluation.look_alikes import Skeleton, may_be_among
from aegis_otel.policy.evaluation.parameter_paths import BEYOND_THE_CALL
from aegis_otel.policy.evaluation.path_steps import wanted_by_steps
from aegis_otel.policy.evaluation.precedence import precedence, with_all_approvers
from aegis_otel.policy.evaluation.schema_paths import SchemaReader
from aegis_otel.policy.operators.answer import Answer
from aegis_otel.policy.operators.table import wanted
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.rules import ParamTest

FormVerdict = tuple[Verdict, Sequence[Verdict]]
"""The verdict on one form of an action, and those of the monitored rules that match it, or may."""

_NO_PLAN: Plan = ((), False, frozenset())
_OF_THE_SUBJECT = {"user": "user", "tenant": "tenant", "role": "roles"}
"""The keys of `match` that are compared with the action's subject, and the field of each."""
IN_DOUBT = "may match, so it counts as a match"
"""What the reason of a verdict says of its rule, where a test of that was unknown."""
_UNCHECKED = "It could not be checked whether this rule applies to the call."
_MOST_ADVICE = 3
"""Parameters that one answer to the model names."""


def judge(policy: CompiledPolicy, action: Action, now: datetime) -> Verdict:
    """Return what `policy` says about `action` at `now` (UTC without a zone): the strictest of its forms.

    Never raises.
    """
    verdict, monitored = _judge(policy, action, now)
    for form in getattr(action, "forms", ()):
        other, others_monitored = _judge(policy, form, now)
        if other is not verdict:
            first, second = sorted((verdict, other), key=precedence, reverse=True)
            verdict = with_all_approvers(first, (second,))
        if others_monitored:
            monitored = [*monitored, *others_monitored]
    return beside_monitored(verdict, monitored) if monitored else verdict


def _judge(policy: CompiledPolicy, action: Action, now: datetime) -> FormVerdict:
    try:
        steps, _, names = policy.plan(action.type) if type(action.type) is str else _NO_PLAN
        if action.doubt is None and not _confusable(action, names):
            for applies, verdict, _ in steps:
                if applies is None or applies(action, now):
                    return verdict, ()
    except Exception:  # noqa: S110 - whatever it was, the three-valued tests say what is unknown
        pass
    return decide(policy, action, now)


def _confusable(action: Action, names: Set[Skeleton]) -> bool:
    """Return whether a parameter that the schema does not name could be read as one that a rule tests."""
    if not names or action.schema is None:
        return False
    properties = action.schema.get("properties") or {}
    return any(name not in properties and may_be_among(name, names) for name in action.params)


def decide(policy: CompiledPolicy, action: Action, now: datetime) -> FormVerdict:
    """Return what the three-valued tests of `policy` say about one form of an action. Never raises."""
    try:
        schema = None if action.schema is None else SchemaReader(action.schema)
        rules: Sequence[CompiledRule] = policy.rules
        if type(action.type) is str:
            rules = [rule for _, _, rule in policy.plan(action.type)[0] if rule is not None]
        judged = ((rule, unknowns(tests(rule, action, now, schema))) for rule in rules)
        verdict, monitored = strictest(policy, judged)
        return advised(verdict, rules, action, now, schema), monitored
    except Exception as error:
        reason = f"the policy could not be evaluated: {type(error).__name__}"
        return Verdict(Approval.BLOCK, RiskLevel.CRITICAL, ERROR_RULE, reason, (reason,), policy.digest), ()


def advised(
    verdict: Verdict,
    rules: Sequence[CompiledRule],
    action: Action,
    now: datetime,
    schema: SchemaReader | None,
) -> Verdict:
    """Return the verdict with what the model reads where a test of its rule was unknown.

    That is by which arguments it can correct the call. The rule's own message may say what is not so, such as
    that an order was paid, where it is not known what went before: then the model reads that instead.
    """
    if not verdict.errors:
        return verdict
    rule = next((rule for rule in rules if rule.name == verdict.matched_rule), None)
    unknown = [] if rule is None else list(_unknown_conditions(rule.conditions, action, now, schema))
    advice, message = _advice(_unread(unknown, action, schema)), verdict.message
    if any(condition.history is not None for condition, _ in unknown):
        message, advice = "", " ".join(filter(None, (_UNCHECKED, advice)))
    return msgspec.structs.replace(verdict, advice=advice, message=message)


def _advice(unread: Iterable[tuple[str, str]]) -> str:
    """Return which parameters could not be read, for the model. No value of the policy is in it."""
    sentences = dict.fromkeys(
        f"The policy could not read parameter `{path}`: expected {expected}." for path, expected in unread
    )
    return " ".join(list(sentences)[:_MOST_ADVICE])


def _wanted(test: ParamTest) -> str:
    return wanted_by_steps(test) if test.steps else wanted(test)


def _unread(
    unknown: Iterable[tuple[Condition, str]], action: Action, schema: SchemaReader | None
) -> Iterator[tuple[str, str]]:
    """Yield the parameters that other arguments of the call would answer, and in words what each must be."""
    for condition, why in unknown:
        if condition.history is not None:
            yield from condition.history.unread(action, schema)
        elif isinstance(condition.spec, ParamTest) and condition.spec.path and why not in BEYOND_THE_CALL:
            yield condition.spec.path, _wanted(condition.spec)


def _unknown_conditions(
    conditions: Iterable[Condition], action: Action, now: datetime, schema: SchemaReader | None
) -> Iterator[tuple[Condition, str]]:
    """Yield the conditions whose answer is unknown, also those in groups, and why.

    Nothing depends on those beside one that is false.
    """
    answered = [(condition, condition.answer(action, now, schema)) for condition in conditions]
    if any(answer is False for _, answer in answered):
        return
    for condition, answer in answered:
        if isinstance(answer, str):
            yield condition, answer
            for member in condition.members:
                yield from _unknown_conditions(member, action, now, schema)


def strictest(policy: CompiledPolicy, judged: Iterable[tuple[CompiledRule, list[str] | None]]) -> FormVerdict:
    """Return the verdict, given what `unknowns` says of each rule up to the first certain match.

    A rule that is only monitored never ends the search, and counts as auto: what is enforced is what would be
    enforced without it. Where that is auto as well, the verdict is what the monitored rule says.
    """
    certain = policy.default_verdict
    doubts: list[tuple[CompiledRule, list[str]]] = []
    monitored: list[Verdict] = []
    for rule, unknown in judged:
        if unknown is None:
            continue
        is_enforced = rule.verdict.mode is Mode.ENFORCE
        if not is_enforced:
            monitored.append(rule.verdict)
        if unknown:
            doubts.append((rule, unknown))
        elif is_enforced:
            certain = rule.verdict
            break
    if not doubts and not monitored:
        return certain, monitored
    may_decide = [*(rule.verdict for rule, _ in doubts), *monitored, certain]
    verdict = max(may_decide, key=precedence)
    if not doubts:
        return verdict, monitored
    errors = tuple(f"rule `{rule.name}`: {why}" for rule, unknown in doubts for why in unknown)
    reason = _reason(verdict, doubts, is_certain=verdict is certain)
    verdict = msgspec.structs.replace(verdict, reason=reason, errors=errors, policy_digest=policy.digest)
    return with_all_approvers(verdict, may_decide), monitored


def _reason(verdict: Verdict, doubts: Sequence[tuple[CompiledRule, list[str]]], *, is_certain: bool) -> str:
    """Return the reason of a verdict, which is that of a certain match or one of those in doubt."""
    for rule, unknown in doubts:
        if rule.verdict is verdict:
            return f"rule `{rule.name}` {IN_DOUBT}: {unknown[0]}"
        if is_certain and rule.verdict.mode is Mode.ENFORCE:
            return f"{verdict.reason}; rule `{rule.name}` may match, but is not stricter: {unknown[0]}"
    return verdict.reason


def beside_monitored(verdict: Verdict, monitored: Iterable[Verdict]) -> Verdict:
    """Return the verdict on an action with what monitored rules say, where it is another rule's.

    Args:
        monitored: The verdicts of the monitored rules that match any form of the action, or may.
    """
    others = dict.fromkeys(
        f"rule `{each.matched_rule}` (monitored) says {each.approval}" for each in monitored
    )
    if not others or verdict.mode is Mode.MONITOR:
        return verdict
    return msgspec.structs.replace(verdict, reason="; ".join([verdict.reason, *others]))


def tests(
    rule: CompiledRule, action: Action, now: datetime, schema: SchemaReader | None
) -> Iterator[tuple[str, Condition | tuple[Glob, ...], Answer]]:
    """Yield every test of `rule` in order: its name in messages, the test itself, its answer."""
    for name, globs in rule.texts:
        yield f"`match.{name}`", globs, match_answer(globs, name, action)
    for condition in rule.conditions:
        try:  # not by `condition.answer`: one more call for each condition
            answer = condition.test(action, now, schema)
        except Exception as error:
            answer = failed(error)
        yield condition.label, condition, answer


def unknowns(tested: Iterable[tuple[str, object, Answer]]) -> list[str] | None:
    """Return why it is unknown whether a rule matches; empty when it does, None when it does not."""
    unknown = []
    for label, _, answer in tested:
        if answer is False:
            return None
        if answer is not True:
            unknown.append(f"{label} is unknown: {answer}")
    return unknown


def matched_values(name: str, action: Action) -> tuple[object, ...] | None:
    """Return the values of which `match.<name>` matches one; None where a subject's are not known."""
    if name not in _OF_THE_SUBJECT:
        return (getattr(action, name),)
    value = None if action.subject is None else getattr(action.subject, _OF_THE_SUBJECT[name])
    return value if value is None or type(value) is tuple else (value,)


def match_answer(globs: Sequence[Glob], name: str, action: Action) -> Answer:
    """Return whether `match.<name>` of a rule, which has these globs, matches one form of an action."""
    if name not in _OF_THE_SUBJECT:
        return _text_answer(globs, getattr(action, name))
    values = matched_values(name, action)
    if values is None:
        return f"the {'role of the user' if name == 'role' else name} that the agent acts for is not known"
    if len(values) == 1:
        return _text_answer(globs, values[0])
    return any(_text_answer(globs, each) is True for each in values)


def _text_answer(globs: Sequence[Glob], value: object) -> Answer:
    if value is None:
        return "the action does not say"
    if not isinstance(value, str):
        return "what the action says is not text"
    for glob in globs:  # noqa: SIM110 - a generator costs more than most globs
        if glob.matches(value):
            return True
    return False
