"""Draft a case for a rule that no case reaches: a call that the rule decides, as a file with cases has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aegis_otel.model import Mode, Verdict
from aegis_otel.policy.lint.subject import Example, Subject
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.messages import Invalid
from aegis_otel.policy.policy import Policy, RuleSummary
from aegis_otel.policy_tools.calls import WrittenCall, action_of


class CaseDrafter:
    """Drafts cases for the rules of one policy, by the examples of the linter, as `diff` does."""

    def __init__(self, policy: Policy, known: Inventory | None) -> None:
        """Take the policy, and the tools that cases are held against, where these are known."""
        self._policy = policy
        self._known = known
        self._subject = Subject(policy, known)
        self._rules = {rule.name: rule for rule in policy.compiled.rules}

    def draft(self, rule: RuleSummary) -> list[str] | None:
        """Return the lines of a case that `rule` decides, in YAML; None where no call was found."""
        example = self._subject.example(self._rules[rule.name])
        if example is None:
            return None
        call = self._call(example)
        try:
            action = action_of(call, self._known)
        except Invalid:
            return None
        verdict = self._policy.evaluate(action, now=example.now).verdict
        if verdict.matched_rule != rule.name or verdict.errors:
            return None
        return list(self._lines(call, example, verdict))

    def _call(self, example: Example) -> WrittenCall:
        """Return the call, without what no rule asks for."""
        action = example.action
        has_agent = any(name == "agent" for name, _ in self._texts())
        is_listed = example.tool is not None and example.tool.agent is not None
        return WrittenCall(
            action.type,
            None if action.target == "default" else action.target,
            action.agent if has_agent or is_listed else None,
            action.params,
            None,
            action.subject if any(rule.subject for rule in self._rules.values()) else None,
        )

    def _texts(self) -> Iterator[tuple[str, Any]]:
        for rule in self._rules.values():
            yield from rule.texts

    def _lines(self, call: WrittenCall, example: Example, verdict: Verdict) -> Iterator[str]:
        yield f"- name: {_text(f'{verdict.matched_rule} decides')}"
        given = {"type": call.type, "target": call.target, "agent": call.agent, "params": call.params or None}
        yield f"  action: {_mapping(given)}"
        if call.subject is not None:
            yield from (
                f"  {key}: {_text(value)}"
                for key, value in (("user", call.subject.user), ("tenant", call.subject.tenant))
            )
            yield f"  roles: {_text(list(call.subject.roles or ()))}"
        if self._policy.compiled.plan(call.type)[1]:
            yield f"  at: {_text(example.now.isoformat())}"
        expected = {
            "approval": verdict.approval.value,
            "rule": verdict.matched_rule,
            "mode": verdict.mode.value if verdict.mode is Mode.MONITOR else None,
        }
        yield f"  expect: {_mapping(expected)}"


def _mapping(values: dict[str, Any]) -> str:
    return f"{{ {', '.join(f'{key}: {_text(each)}' for key, each in values.items() if each is not None)} }}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)  # JSON is YAML's flow style
