"""What is said of conditions on earlier calls that do not load: one sentence, a place, what to write."""

from __future__ import annotations

import pytest

from aegis_otel import Policy, PolicyError

EXAMPLE = "as in `calls_over: { limit: 100, within: 1h, by: [user] }`"
WITHIN = "must be `30s`, `15m`, `1h`, `7d` (at most `400d`), `session`, `conversation` or `run`"


def problems(conditions: str, name: str = "name: r, ") -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(f"rules:\n  - {{ {name}conditions: {{ {conditions} }} }}\n")
    return [str(problem).removeprefix("<policy>:2:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ("calls_over: 5", f"42: `calls_over` must be a mapping, not the number `5`: write it {EXAMPLE}"),
        ("calls_over: { limit: 3 }", f"42: `calls_over` needs `within`, {EXAMPLE}"),
        ("calls_over: {}", f"42: `calls_over` needs `limit` and `within`, {EXAMPLE}"),
        (
            "calls_over: { limt: 3, within: 1h }",
            "44: unknown key `limt` in `calls_over` (did you mean `limit`?)",
        ),
        (
            "calls_over: { max: 3, per: 1h }",
            "44: unknown key `max` in `calls_over` (did you mean `limit`?)",
        ),
        (
            "rate_limit: { limit: 3, within: 1h }",
            "30: unknown key `rate_limit` in `conditions` (did you mean `calls_over`?)",
        ),
        (
            "calls_over: { limit: -1, within: 1h }",
            "51: `calls_over.limit` must be a whole number from 0 to 9000000000000, not the number `-1`",
        ),
        (
            'calls_over: { limit: "1,000", within: 1h }',
            "51: `calls_over.limit` must be a whole number from 0 to 9000000000000, not the text `1,000` "
            "(did you mean `1000`?)",
        ),
        (
            "calls_over: { limit: 1.5, within: 1h }",
            "51: `calls_over.limit` must be a whole number from 0 to 9000000000000, not the number `1.5`",
        ),
        (
            "total_over: { param: a, limit: 0.0000001, within: 1h }",
            "61: `total_over.limit` must be a number from 0 to 9000000000000 with at most 6 digits after the "
            "point, not the number `1e-07`",
        ),
        (
            "total_over: { param: 'a[any]', limit: 1, within: 1h }",
            "51: `total_over.param` needs one value of a call, and `[any]` gives several, in `a[any]`",
        ),
        (
            "calls_over: { limit: 3, within: 0 }",
            f"62: `calls_over.within` {WITHIN}, not the number `0`, which is no time at all",
        ),
        (
            "calls_over: { limit: 3, within: 2 weeks }",
            f"62: `calls_over.within` {WITHIN}, not the text `2 weeks` (did you mean `14d`?)",
        ),
        (
            "calls_over: { limit: 3, within: hour }",
            f"62: `calls_over.within` {WITHIN}, not `hour` (did you mean `1h`?)",
        ),
        (
            "calls_over: { limit: 3, within: thread }",
            f"62: `calls_over.within` {WITHIN}, not `thread` (did you mean `conversation`?)",
        ),
        ("calls_over: { limit: 3, within: 401d }", f"62: `calls_over.within` {WITHIN}, not the text `401d`"),
        (
            "calls_over: { limit: 3, within: 1h, by: [] }",
            "70: `calls_over.by` must list 1 to 10 words, not 0: leave it out to count all calls together",
        ),
        (
            "calls_over: { limit: 3, within: 1h, by: user }",
            "70: `calls_over.by` must be a list, not `user` (did you mean `[user]`?)",
        ),
        (
            "calls_over: { limit: 3, within: 1h, by: [Tenant] }",
            "71: `calls_over.by` has `Tenant`, which is close to `tenant`: a parameter of that name is "
            "written `params.Tenant` (did you mean `tenant`?)",
        ),
        (
            "calls_over: { limit: 3, within: 1h, by: [order, params.order] }",
            "78: `calls_over.by` lists `params.order` twice",
        ),
        (
            "calls_over: { limit: 3, within: 1h, by: ['order[anywhere]'] }",
            "71: `calls_over.by` needs one value of a call, and `[anywhere]` gives several, in "
            "`order[anywhere]`",
        ),
        (
            "after: { within: 1h }",
            "37: `after` needs `type`, as in `after: { type: read_secret, within: conv",
        ),
        (
            "after: { type: a, result: ok, within: 1h }",
            "56: `after.result` must be `success` or `failed`, not `ok` (did you mean `success`?)",
        ),
        (
            "after: '18:00'",
            "37: `after` must be a mapping, not the text `18:00`: write it as in `after: { type: "
            "read_secret, within: conversation }`; a time of day stands at `time_after`",
        ),
        (
            "repeats: { by: [user], within: 1h }",
            "39: `repeats` needs a parameter in `by` that tells the calls apart, as in `repeats: { by: "
            "[order_id]",
        ),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(conditions: str, message: str) -> None:
    found = problems(conditions)
    assert found[0].startswith(message)
    assert len(found) == (2 if "per:" in conditions else 1)


@pytest.mark.parametrize(
    ("conditions", "at"),
    [
        ("calls_over: { limit: 3, within: 1h }", "21: a rule with `calls_over`"),
        ("not: { after: { type: a, within: run } }", "28: a rule with `after`"),
        (
            "any: [{ weekdays: [1] }, { not: { repeats: { by: [a], within: 1h } } }]",
            "55: a rule with `repeats`",
        ),
    ],
)
def test_what_counts_needs_a_name(conditions: str, at: str) -> None:
    assert problems(conditions, "") == [f"{at} needs a `name`: what it counts is kept under the name"]


def test_words_that_are_parameters_load() -> None:
    """Those that only resemble a word a little, and all that have `params.` before them."""
    names = ["order_id", "user_id", "tenant_id", "session_id", "conversation_id", "toolkit", "params.users"]
    policy = Policy.from_dict(
        {"rules": [{"name": "r", "conditions": {"repeats": {"by": names, "within": "1h"}}}]}
    )
    (test,) = policy.documents[0].rules[0].conditions.history
    assert [each.param.path for each in test.by if each.param] == sorted(
        name.removeprefix("params.") for name in names
    )


def test_a_merged_text_keeps_the_digest() -> None:
    """A dict is kept as YAML that reads alike."""
    rule = {
        "name": "r",
        "conditions": {
            "not": {"total_over": {"param": "a[number]", "limit": 0.5, "within": "30s", "by": ["run"]}}
        },
    }
    policy = Policy.from_dict({"rules": [rule]})
    text = policy.to_yaml()
    assert text is not None
    assert Policy.from_text(text) == policy
