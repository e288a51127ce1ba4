"""The one text that is kept of a policy: it is read to the same digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Policy

ONE = "# a comment\nversion: '1'\nrules:\n- {name: a, match: {type: x}, approval: auto}\n"
TWO = "defaults: {approval: block}\nrules: [{name: b, conditions: {weekdays: [mon], time_after: '09:00'}}]\n"


def test_a_file_is_kept_as_it_is() -> None:
    assert Policy.from_text(ONE).to_yaml() == ONE


@pytest.mark.parametrize(
    "order", [(ONE, TWO), (TWO, ONE), (ONE, TWO, "rules: []"), (TWO, TWO.replace("b,", "c,"))]
)
def test_several_files_become_one_text(order: tuple[str, ...], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.yaml" for number in range(len(order))]
    for path, text in zip(paths, order, strict=True):
        path.write_text(text)
    merged = Policy.from_yaml_files(*paths)
    text = merged.to_yaml()
    assert text is not None
    (tmp_path / "kept.yaml").write_text(text)
    again = Policy.from_yaml(tmp_path / "kept.yaml")
    assert (again.digest, len(again.rules)) == (merged.digest, len(merged.rules))


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1.5",
        "null",
        "~",
        "",
        " x ",
        "a: b",
        "#",
        "é\u2028",
        "\x07",
        "=",
        "2026-01-01",
        1,
        1.0,
        1e300,
        True,
    ],
)
def test_a_dict_becomes_text_with_the_same_values(value: Any) -> None:
    rule = {"name": "r", "conditions": {"param_eq": {"on": value}}, "approval": "block"}
    policy = Policy.from_dict({"rules": [rule]})
    text = policy.to_yaml()
    assert text is not None
    assert Policy.from_text(text) == policy


def test_a_dict_that_is_changed_afterwards_is_kept_as_it_was() -> None:
    data = {"rules": [{"name": "r", "approval": "block"}]}
    policy = Policy.from_dict(data)
    data["rules"][0]["approval"] = "auto"
    text = policy.to_yaml()
    assert text is not None
    assert Policy.from_text(text) == policy


def test_unnamed_rules_of_several_files_keep_their_names() -> None:
    policy = Policy.from_text("rules: [{approval: auto}]", "a").merge(
        Policy.from_text("rules: [{approval: block}]", "b")
    )
    text = policy.to_yaml()
    assert text is not None
    assert [rule.name for rule in Policy.from_text(text).rules] == ["rule_0", "rule_1"]
