"""Policies from what an audit saw: they let that through, and nothing looser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel import Action, Policy, Subject
from aegis_otel.policy_tools.drafts.audit_draft import SeenCalls, draft_from_calls

PAY: dict[str, Any] = {"amount": 5, "currency": "EUR"}


def seen(params: Any, calls: int = 1, **changed: Any) -> SeenCalls:
    base = SeenCalls(
        "pay", "bank", "Clerk", params if params is None else json.dumps(params), "approve", calls
    )
    return base._replace(**changed)


def text(*calls: SeenCalls) -> str:
    made = draft_from_calls(calls, "aegis policy init --from-audit x")
    assert made is not None
    return made


def whom(user: str | None, tenant: str | None = None, roles: Any = None) -> dict[str, Any]:
    return {"user": user, "tenant": tenant, "roles": None if roles is None else json.dumps(roles)}


def approval(policy: Policy, params: dict[str, Any], **changed: Any) -> str:
    call = {"type": "pay", "target": "bank", "agent": "Clerk", **changed}
    return policy.evaluate(Action(params=params, **call)).approval.value


def test_no_calls_make_no_policy() -> None:
    assert draft_from_calls([], "x") is None


def test_what_was_seen_runs_and_nothing_else() -> None:
    policy = Policy.from_text(text(seen(PAY, 7), seen({"amount": 6, "currency": "EUR"})))
    assert approval(policy, PAY) == "auto"
    for params in (
        {**PAY, "amount": 7},
        {**PAY, "currency": "USD"},
        {**PAY, "note": "x"},
        {"amount": 5},
        {**PAY, "amount": "5"},
        {},
    ):
        assert approval(policy, params) == "approve", params
    for changed in ({"type": "pay2"}, {"target": "shop"}, {"agent": "Other"}, {"agent": None}):
        assert approval(policy, PAY, **changed) == "approve", changed


def test_values_run_only_in_combinations_that_were_seen() -> None:
    policy = Policy.from_text(text(seen({"a": 1, "b": "x"}), seen({"a": 2, "b": "y"})))
    assert [approval(policy, {"a": a, "b": b}) for a, b in ((1, "x"), (2, "y"), (1, "y"), (2, "x"))] == [
        *("auto", "auto", "approve", "approve"),
    ]


def test_what_would_have_been_blocked_is_asked_and_the_rest_runs() -> None:
    """Of a tool of which the policy of then would have blocked some calls, where a rule tells them apart."""
    policy = Policy.from_text(text(seen({"amount": 5}), seen({"amount": 2000}, approval="block")))
    assert [approval(policy, {"amount": amount}) for amount in (5, 2000)] == ["auto", "approve"]


def test_a_range_of_numbers_leaves_out_what_would_have_been_blocked() -> None:
    calls = [seen({"amount": number}) for number in range(20)]
    assert Policy.from_text(text(*calls, seen({"amount": 30}, approval="block"))).rule_count == 1
    made = text(*calls, seen({"amount": 7.5}, approval="block"))
    assert "no rule tells its calls apart from those that the policy of then would have blocked" in made
    assert Policy.from_text(made).rules == ()


def test_calls_run_only_for_whom_they_were_made() -> None:
    """A user of one tenant with one role runs what was seen of that tenant and role."""
    made = text(
        seen({"amount": 5}, **whom("ann", "acme", ["clerk"])),
        seen({"amount": 50}, **whom("bob", "globex", ["boss"])),
    )
    policy = Policy.from_text(made)

    def runs(amount: int, *who: Any) -> bool:
        subject = Subject(*who) if who else None
        return approval(policy, {"amount": amount}, subject=subject) == "auto"

    assert runs(5, "ann", "acme", ["clerk"])
    assert runs(50, "bob", "globex", ["boss"])
    for who in (
        *(("ann", "acme", ["boss"]), ("ann", "globex", ["clerk"]), ("ann", "acme", []), ("ann", "acme")),
        *((), ("ann",), (None, "acme", ["clerk"]), ("bob", "acme", ["clerk"]), ("bob", "globex", ["boss"])),
    ):
        assert not runs(5, *who), who


def test_many_users_of_a_role_are_left_open() -> None:
    made = text(*(seen({}, **whom(f"u{number}", None, ["clerk"])) for number in range(30)))
    assert "# Seen: 30 calls; more than 20 users." in made
    policy = Policy.from_text(made)
    subjects = (Subject("other", roles=["clerk"]), Subject("u1", roles=["guest"]), Subject("u1"), None)
    assert [approval(policy, {}, subject=each) for each in subjects] == [
        *("auto", "approve", "approve", "approve"),
    ]


def test_a_user_whose_calls_would_have_been_blocked_is_not_let_through_by_the_role() -> None:
    calls = [seen({}, **whom(f"u{number}", None, ["clerk"])) for number in range(30)]
    made = text(*calls, seen({}, approval="block", **whom("mallory", None, ["clerk"])))
    assert "no rule tells its calls apart" in made


def test_many_numbers_become_the_range_that_was_seen() -> None:
    calls = [seen({"amount": number / 2}, action_type="get_rate") for number in range(1, 41)]
    made = text(*calls)
    policy = Policy.from_text(made)
    amounts = (0.5, 20.0, 3.3, 0.4, 20.5, -1)
    assert [approval(policy, {"amount": amount}, type="get_rate") for amount in amounts] == [
        *("auto", "auto", "auto", "approve", "approve", "approve"),
    ]
    assert "# Seen: 40 calls; any `amount` from 0.5 to 20.0." in made


def test_many_texts_are_left_open_for_what_reads_and_asked_for_what_changes() -> None:
    queries = [{"query": f"q{number}"} for number in range(20)]
    reads = Policy.from_text(text(*(seen(each, action_type="search") for each in queries)))
    assert approval(reads, {"query": "other"}, type="search") == "auto"
    assert approval(reads, {"query": "other", "more": 1}, type="search") == "approve"
    made = text(*(seen(each, action_type="delete") for each in queries))
    assert "# Asked: delete -> bank (20 calls): it changes something, and `query` had many values" in made
    assert Policy.from_text(made).rules == ()


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([seen(PAY, approval="block")], "the policy of then would have blocked all of its calls"),
        ([seen(PAY), seen(PAY, approval="block")], "no rule tells its calls apart from those that"),
        ([seen(PAY), seen({"key": "[REDACTED 3 chars]"}, approval="block")], "no rule tells its calls apart"),
        ([seen(PAY), seen(None, approval="block")], "no rule tells its calls apart"),
        ([seen(PAY, approval=None)], "would have blocked all"),
        ([seen({}, agent=None)], "the audit does not say which agent called it"),
        ([seen(PAY, reading="several")], "were judged by other arguments"),
        ([seen(PAY, reading="unread")], "were judged by other arguments"),
        ([seen(PAY), seen({"a": 1}, reading="several", approval="block")], "no rule tells its calls apart"),
        ([seen(PAY, other_names='[["pay", "shop"]]')], "no rule can name all that its calls were judged by"),
        ([seen(PAY, other_names='[["[CUT] 3 more items]", ""]]')], "no rule can name all"),
        ([seen(PAY, other_names="[1]")], "no rule can name all"),
        ([seen(PAY, other_names='[["p*", "bank"]]')], "no pattern means its name"),
        (
            [seen(PAY, other_names='[["x", "bank"]]'), seen(PAY, action_type="x", approval="block")],
            "another tool that was seen has one of its names, too",
        ),
        ([seen(PAY, **whom("[REDACTED email 9 chars]", "acme"))], "called for is redacted or cut"),
        ([seen(PAY, **whom("ann", roles=["[REDACTED 3 chars]"]))], "called for is redacted or cut"),
        ([seen(PAY, roles="{")], "called for is redacted or cut"),
        ([seen(PAY, **whom("ann")), seen(PAY)], "does not say of all its calls whom they were made for"),
        ([seen(PAY, **whom("ann")), seen(PAY, **whom("ann", "acme"))], "does not say of all its calls whom"),
        ([seen(PAY, **whom("ann", roles=["a", "b"]))], "for somebody with several roles or none"),
        ([seen(PAY, **whom("ann", roles=[]))], "for somebody with several roles or none"),
        ([seen(PAY, **whom("a*"))], "no patterns mean its users, tenants and roles only"),
        ([seen(PAY, **whom(f"u{number}")) for number in range(21)], "for more than 20 users"),
        ([seen(PAY, **whom("u", f"t{number}")) for number in range(21)], "for more than 20 different"),
        (
            [seen(PAY, **whom("ann")), seen(PAY, approval="block", **whom("[REDACTED 3 chars]"))],
            "no rule tells its calls apart",
        ),
        ([seen(None)], "the audit does not have all of its arguments"),
        ([seen([1])], "the audit does not have all of its arguments"),
        ([seen(PAY)._replace(params="{")], "the audit does not have all of its arguments"),
        ([seen({"a": 1, "[CUT]": "3 more members"})], "the audit does not have all of its arguments"),
        ([seen({"[REDACTED 5 chars]": 1})], "the audit does not have all of its arguments"),
        ([seen({"a.b": 1})], "a name that a condition cannot name"),
        ([seen({"a[any]": 1})], "a name that a condition cannot name"),
        ([seen({}, action_type="*")], "no pattern means its name and its target only"),
        ([seen({}, target="b?nk")], "no pattern means its name and its target only"),
        ([seen({}, action_type=None)], "no pattern means its name and its target only"),
        ([seen({}, agent="*")], "no patterns mean its agents only"),
        ([seen({}, agent="x [REDACTED 3 chars]")], "is redacted or cut"),
        ([seen({}, target="x[CUT 3 of 9 characters]")], "no pattern means its name and its target only"),
        ([seen({f"p{number}": 1}) for number in range(5)], "more than 4 different sets of parameters"),
        ([seen({"x": {"y": 1}})], "`x` had lists or objects"),
        ([seen({"x": {"y": 1}}, action_type="get_x")], "`x` had lists or objects"),
        ([seen({"x": [1]}, action_type="get_x"), seen({"x": 1}, action_type="get_x")], "`x` had lists"),
        ([seen({"x": "y" * 300}, action_type="get_x")], "`x` had values that cannot be written"),
        ([seen({"token": "[REDACTED 20 chars]"})], "`token` is redacted or cut"),
    ],
)  # fmt: skip
def test_what_is_not_let_through_is_named_with_the_reason(calls: list[SeenCalls], why: str) -> None:
    made = text(*calls)
    assert f"# Asked: {calls[0].action_type or ''}" in made
    assert why in made
    assert Policy.from_text(made).rules == ()


@pytest.mark.parametrize(
    "hidden",
    ["[REDACTED 20 chars]", "a [REDACTED email 9 chars]", "x[CUT 3 of 9 characters]", ["[REDACTED]"]],
)
def test_what_is_hidden_never_becomes_a_condition(hidden: Any) -> None:
    """The tool is asked about, also where it only reads: nobody knows what was there."""
    made = text(
        seen({"key": "plain", "n": 1}, action_type="get_x"),
        seen({"key": hidden, "n": 1}, action_type="get_x"),
    )
    assert "# Asked: get_x -> bank (2 calls): `key` " in made
    assert Policy.from_text(made).rules == ()


@pytest.mark.parametrize(
    ("name", "param", "what"),
    [
        ("find_files", "command", "commands"),
        ("read_file", "path", "paths"),
        ("fetch", "url", "URLs"),
        ("search", "sql", "SQL"),
        ("get_rows", "query", "SQL"),
    ],
)
def test_many_commands_paths_urls_and_sql_are_asked_also_of_what_reads(
    name: str, param: str, what: str
) -> None:
    made = text(*(seen({param: f"{number} x"}, action_type=name) for number in range(20)))
    assert f"# Asked: {name} -> bank (20 calls): it takes {what}, and `{param}` had many values." in made
    assert Policy.from_text(made).rules == ()
    few = Policy.from_text(text(seen({param: "1 x"}, action_type=name)))
    assert [approval(few, {param: value}, type=name) for value in ("1 x", "2 x")] == ["auto", "approve"]


def test_a_null_is_no_value() -> None:
    policy = Policy.from_text(text(seen({"a": 1, "b": None})))
    assert approval(policy, {"a": 1}) == "auto"
    assert approval(policy, {"a": 1, "b": 2}) == "approve"


def test_calls_of_agents_nobody_knows_are_asked() -> None:
    made = text(seen({"a": 1}, agent=None), seen({"a": 2}))
    policy = Policy.from_text(made)
    assert [approval(policy, {"a": 2}, agent=agent) for agent in ("Clerk", None, "Other")] == [
        *("auto", "approve", "approve"),
    ]
    assert approval(policy, {"a": 1}) == "approve"
    assert "# Calls run as 1 of these were seen" in made


def test_an_agent_all_of_whose_calls_would_have_been_blocked_runs_nothing() -> None:
    policy = Policy.from_text(text(seen({"a": 1}), seen({"a": 2}, agent="Other", approval="block")))
    assert [approval(policy, {"a": 1}, agent=agent) for agent in ("Clerk", "Other")] == ["auto", "approve"]


def test_what_an_unknown_agent_was_refused_runs_for_no_agent() -> None:
    """It may have been the one whose calls ran."""
    policy = Policy.from_text(text(seen({}), seen({}, agent=None, approval="block")))
    assert approval(policy, {}) == "approve"


def test_what_another_agent_was_refused_runs_for_the_one_that_it_ran_for() -> None:
    policy = Policy.from_text(text(seen({}), seen({}, agent="Intern", approval="block")))
    assert approval(policy, {}) == "auto"
    assert approval(policy, {}, agent="Intern") == "approve"


def test_a_tool_with_other_names_runs_by_all_of_them() -> None:
    names = json.dumps([["server__pay", "bank"]])
    policy = Policy.from_text(text(seen({}, other_names=names)))
    call = Action("pay", "bank", {}, agent="Clerk")
    call = call.qualify([Action("server__pay", "bank", call.params, agent="Clerk")])
    assert policy.evaluate(call).approval.value == "auto"


def test_names_of_rules_are_unique() -> None:
    made = text(seen({}), seen({"a": 1}), seen({}, target="shop"), seen({}, action_type="pay-2"))
    names = [rule.name for rule in Policy.from_text(made).rules]
    assert len(names) == len(set(names)) == 4


NAMES = st.sampled_from(["get_x", "search", "pay", "delete_it", "*", "a b", "ä", "x\u202ey", "[a]", ""])
ODD = st.sampled_from([0.5, 1e30, 10**20, "x", "", " y", "[REDACTED 3 chars]", "\u2028"])
VALUES = st.one_of(st.integers(-5, 5), st.booleans(), ODD, st.text(max_size=3), st.just([1]))
PARAMS = st.dictionaries(st.sampled_from(["a", "b", "c.d", "key"]), VALUES, max_size=3)
CALLS = st.builds(
    seen,
    PARAMS,
    action_type=NAMES,
    target=NAMES,
    agent=st.sampled_from([None, "Clerk", "*", "x"]),
    approval=st.sampled_from(["auto", "approve", "approve", "block"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=12), PARAMS, NAMES, NAMES)
def test_nothing_runs_that_is_looser_than_what_was_seen(
    calls: list[SeenCalls], params: dict[str, Any], name: str, target: str
) -> None:
    """Whatever was seen: the policy loads, and a call runs only by tools and parameters that were seen."""
    policy = Policy.from_text(text(*calls))
    tried = [
        SeenCalls(name, target, agent, json.dumps(params), "approve", 1) for agent in ("Clerk", "x", "y")
    ]
    for call in [*calls, *tried]:
        given_params = json.loads(call.params or "{}")
        action = Action(call.action_type or "", call.target or "", given_params, agent=call.agent)
        if policy.evaluate(action).approval != "auto":
            continue
        alike = [
            each
            for each in calls
            if (each.action_type, each.target) == (call.action_type, call.target)
            and json.loads(each.params or "{}").keys() == given_params.keys()
        ]
        assert any(each.approval != "block" for each in alike)
        # That of another agent is another call: a rule names its agents.
        of_the_agent = [each for each in alike if each.agent in (None, call.agent)]
        assert not any(each.approval == "block" and each.params == call.params for each in of_the_agent)
        agents = {
            each.agent for each in calls if (each.action_type, each.target) == (call.action_type, call.target)
        }
        assert call.agent is not None
        assert call.agent in agents


PLAIN = st.dictionaries(
    st.sampled_from(["a", "b"]), st.sampled_from([1, 2, True, "x", "y z", 0.25]), max_size=2
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=6), PLAIN)
def test_few_plain_arguments_run_exactly_as_they_were_seen(
    seen_params: list[Any], other: dict[str, Any]
) -> None:
    made = text(*(seen(params) for params in seen_params))
    policy = Policy.from_text(made)
    shapes = {tuple(sorted(params)) for params in seen_params}
    assert len(shapes) <= 4
    known = {json.dumps(params, sort_keys=True) for params in seen_params}
    for params in [*seen_params, other]:
        runs = approval(policy, params) == "auto"
        assert runs == (json.dumps(params, sort_keys=True) in known)
