"""A row of the table of operators: a value that is a list, and what is made of it once."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_row_may_take_a_list_and_prepare_it_once() -> None:
    """The list is read, described, explained, linted and in the digest; it is prepared when compiled."""
    program = """
import json
from datetime import UTC, datetime
from aegis_otel.policy.operators.table import OPERATORS, Operator
from aegis_otel.policy.messages import Invalid
prepared = []

def check(value):
    if not isinstance(value, list):
        raise Invalid("must be a list")
    return value

def prepare(value):
    prepared.append(value)
    return frozenset(value)

OPERATORS["one_of"] = Operator(
    about="one of these", check=check, schema={"type": "array"}, prepare=prepare,
    judge=lambda value, some: value in some if isinstance(some, frozenset) else "not prepared",
    synonyms="any_of_these",
)
from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.explain import explain
from aegis_otel.policy.lint import lint
from aegis_otel.policy.loading.schema import json_schema

def rules(values):
    return {"rules": [{"name": "r", "conditions": {"one_of": {"a": values}}, "approval": "block"}]}

values = ["b", 2, "d", "e", "f", "g"]
policy = Policy.from_dict(rules(values))
values.append("h")
found = [policy.evaluate(Action("t", params={"a": each})).matched_rule for each in ("b", 2, "c", "h")]
once = len(prepared)
check = explain(policy, Action("t", params={"a": "b"}), datetime.now(UTC)).rules[0].checks[0]
others = [rules(["b", "2", *values[2:6]]), rules(values[1:]), rules(["b", True, *values[2:6]])]
digests = {policy.digest, *(Policy.from_dict(each).digest for each in others)}
invisible = [each.kind for each in lint(Policy.from_dict(rules(["b", "c\u200d"])))]
refused = []
for text in ("{one_of: {a: 5}}", "{one_of: {a: [yes, 010]}}", "{any_of_these: {a: [b]}}", "{one_of: 5}"):
    try:
        Policy.from_text(f"rules: [{{conditions: {text}}}]")
    except PolicyError as error:
        refused.append([str(each) for each in error.problems])
published = json_schema()["$defs"]["Conditions"]["properties"]["one_of"]["additionalProperties"]
print(json.dumps([found, once, check.label, check.wanted, len(digests), invisible, refused, published]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, once, label, wanted, digests, invisible, refused, published = json.loads(ran.stdout)
    assert found == ["r", "r", "<default>", "<default>"]
    assert once == 1
    assert (label, wanted) == ("`one_of` on `a`", "`b`, the number `2`, `d`, `e`, `f` and 1 more")
    assert digests == 4
    assert invisible == ["invisible"]
    assert refused[0] == ["<policy>:1:35: `one_of` on `a` must be a list"]
    assert [each[:23] for each in refused[1]] == ["<policy>:1:36: `yes` is", "<policy>:1:41: `010` is"]
    assert refused[2:] == [
        ["<policy>:1:23: unknown key `any_of_these` in `conditions` (did you mean `one_of`?)"],
        ["<policy>:1:31: `one_of` must be a mapping, not the number `5`"],
    ]
    assert published == {"type": "array"}
