"""A case says who must be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

POLICY = (
    "rules: [{ name: pay, match: { type: pay }, approval: approve, risk_level: high, "
    "approvers: { users: [ann, bob], roles: [finance], count: 2 } }]"
)


def run(folder: Path, expect: str, *options: str) -> Result:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "cases.yaml").write_text(
        f"policy: policy.yaml\ncases: [{{ name: c, action: {{ type: pay }}, expect: {expect} }}]"
    )
    return CliRunner().invoke(main, ["policy", "test", str(folder / "cases.yaml"), *options])


@pytest.mark.parametrize(
    ("approvers", "code"),
    [
        ("{ users: [bob, ann], roles: finance, count: 2 }", 0),
        ("{ users: [bob, ann], roles: finance, count: 2, self: false }", 0),
        ("{ users: [bob, ann], roles: finance, count: 2, self: true }", 1),
        ("{ users: [bob, ann], roles: finance }", 1),
        ("{ users: [ann], roles: finance, count: 2 }", 1),
        ("{ count: 2 }", 1),
    ],
)
def test_all_of_it_must_be_so(approvers: str, code: int, tmp_path: Path) -> None:
    found = run(tmp_path, f"{{ approval: approve, approvers: {approvers} }}")
    assert found.exit_code == code, found.output


def test_a_failure_says_who_is_asked(tmp_path: Path) -> None:
    found = run(tmp_path, "{ approvers: { roles: [board], self: true } }")
    assert "expected asking role `board`\n" in found.output
    assert (
        "decided approve by `pay` asking 2 of: `ann`, `bob` or role `finance`, not the user that"
        in found.output
    )
    (case,) = json.loads(run(tmp_path, "{ approvers: { roles: [board] } }", "--format", "json").stdout)[
        "cases"
    ]
    assert case["expected"]["approvers"]["roles"] == ["board"]
    assert case["decided"]["approvers"]["count"] == 2


@pytest.mark.parametrize(
    ("approvers", "problem"),
    [
        ("{}", "`expect.approvers` must not be empty: state who must be asked, as the policy does"),
        ("{ user: ann }", "unknown key `user` in `approvers` (did you mean `users`?)"),
        ("{ count: 0 }", "`approvers.count` must be a whole number from 1 to 20, not the number `0`"),
    ],
)
def test_what_is_no_approver_is_refused(approvers: str, problem: str, tmp_path: Path) -> None:
    found = run(tmp_path, f"{{ approvers: {approvers} }}")
    assert found.exit_code == 2
    assert problem in found.output
