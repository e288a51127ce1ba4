"""(compiled policy, action, now) -> verdict. Pure and total: never raises, reads nothing else.

`Policy.evaluate` runs the plan for the action's type and is done when every rule it asks matches
plainly or plainly does not. Where one does not (or the type is new, or anything raises), this module
asks the three-valued tests of each rule: a rule whose match is unknown competes with what the rules
after it say, and the strictest verdict wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from aegis_otel.model import ERROR_RULE, Action, Approval, RiskLevel, Verdict
from aegis_otel.policy.comparisons import Answer
from aegis_otel.policy.compiler import CompiledPolicy, CompiledRule
from aegis_otel.policy.conditions import Condition
from aegis_otel.policy.globs import Glob
from aegis_otel.policy.schema_paths import Reading

_STRICTNESS = {approval: rank for rank, approval in enumerate(Approval)}


def decide(policy: CompiledPolicy, action: Action, now: datetime) -> Verdict:
    """What `policy` says about `action` at `now` (UTC when it has no zone)."""
    try:
        schema = None if action.schema is None else Reading(action.schema)
        rules = _candidates(policy, action.type)
        return strictest(policy, ((rule, unknowns(tests(rule, action, now, schema))) for rule in rules))
    except Exception as error:
        reason = f"the policy could not be evaluated: {type(error).__name__}"
        return Verdict(Approval.BLOCK, RiskLevel.CRITICAL, ERROR_RULE, reason, (reason,), policy.digest)


def _candidates(policy: CompiledPolicy, action_type: object) -> Sequence[CompiledRule]:
    if type(action_type) is not str:
        return policy.rules
    return [rule for _, _, rule in policy.plan(action_type)[0] if rule is not None]


def strictest(policy: CompiledPolicy, judged: Iterable[tuple[CompiledRule, list[str] | None]]) -> Verdict:
    """The verdict, from what `unknowns` says of each rule; rules after a certain match are not asked."""
    certain = policy.default_verdict
    doubts: list[tuple[CompiledRule, list[str]]] = []
    for rule, unknown in judged:
        if unknown is None:
            continue
        if not unknown:
            certain = rule.verdict
            break
        doubts.append((rule, unknown))
    if not doubts:
        return certain
    verdict = max([*(rule.verdict for rule, _ in doubts), certain], key=strictness)
    errors = tuple(f"rule `{rule.name}`: {why}" for rule, unknown in doubts for why in unknown)
    if verdict is certain:
        reason = f"{certain.reason}, which is at least as strict as what is unknown: {errors[0]}"
    else:
        why = next(unknown[0] for rule, unknown in doubts if rule.verdict is verdict)
        reason = f"rule `{verdict.matched_rule}` counts as a match: {why}"
    return Verdict(verdict.approval, verdict.risk_level, verdict.matched_rule, reason, errors, policy.digest)


def strictness(verdict: Verdict) -> tuple[int, int]:
    """What the stricter of two verdicts has more of: approval, then risk."""
    return _STRICTNESS[verdict.approval], verdict.risk_level


def tests(
    rule: CompiledRule, action: Action, now: datetime, schema: Reading | None
) -> Iterator[tuple[str, Condition | tuple[Glob, ...], Answer]]:
    """Every test of `rule` in order: what messages call it, the test itself, its answer."""
    for name, globs in rule.texts:
        yield f"`match.{name}`", globs, _text_answer(globs, getattr(action, name))
    for condition in rule.conditions:
        try:
            answer = condition.test(action, now, schema)
        except Exception as error:
            answer = f"the comparison failed with {type(error).__name__}"
        yield condition.label, condition, answer


def unknowns(tested: Iterable[tuple[str, object, Answer]]) -> list[str] | None:
    """Why it is unknown whether a rule matches; empty when it does, None when it does not."""
    unknown = []
    for label, _, answer in tested:
        if answer is False:
            return None
        if answer is not True:
            unknown.append(f"{label} is unknown: {answer}")
    return unknown


def _text_answer(globs: Sequence[Glob], value: object) -> Answer:
    if value is None:
        return "the action does not say"
    if not isinstance(value, str):
        return "what the action says is not text"
    for glob in globs:  # noqa: SIM110 - a generator costs more than most globs
        if glob.matches(value):
            return True
    return False
