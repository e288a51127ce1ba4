"""`aegis audit show`: the whole life of one call, and why."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aegis_otel import Policy
from aegis_otel.audit.seals.ed25519_keys import make_key_pair
from aegis_otel.cli import main
from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.inbox import GrantTerms
from aegis_otel.model import Approvers
from aegis_otel.runtime.approval import open_answer_desk
from aegis_otel.runtime.approval.answer_desk import Person
from aegis_otel.runtime.audit import AuditLogger
from tests.support.inbox import shared_question
from tests.support.records import completed, decided

POLICY = """\
version: "1"
rules:
  - name: searches
    match: {type: "search*"}
    approval: auto
  - name: large
    match: {type: pay}
    conditions: {param_gt: {amount: 1000}}
    approval: block
  - name: to_known
    match: {type: pay}
    conditions: {param_eq: {account.number: "DE00"}}
    approval: auto
  - name: payments
    match: {type: pay}
    risk_level: high
    approval: approve
  - name: rest
    approval: block
"""
GRANTED = "granted with decision 01a2-7 until 2026-11-30T13:14:02+00:00; all of them"
ID = "01930000-0000-7000-8000-0000000000aa"


@pytest.fixture
def digest() -> str:
    Path("policy.yaml").write_text(POLICY)
    return Policy.from_text(POLICY).digest


def pay(digest: str, **changed: Any) -> None:
    """A payment that a human approved and that then failed."""
    AuditLogger().append(
        decided(
            **{
                "decision_id": ID,
                "timestamp": "2026-11-22T14:30:00.250000+00:00",
                "action_type": "pay",
                "action_target": "bank",
                "action_params": '{"amount":50,"account":{"number":"DE11"}}',
                "risk_level": "HIGH",
                "approval": "approve",
                "matched_rule": "payments",
                "reason": "rule `payments` matched",
                "policy_digest": digest,
                "human_decision": "approved",
                "approver": "ops",
                "approval_wait_s": 3.5,
                "result_status": "failed",
                "result_error": "ValueError: no",
                "duration_s": 0.25,
                "agent_name": "Bo",
                "tool_name": "pay",
                "host": "h",
                "pid": 7,
            }
            | changed
        )
    )


def show(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["audit", "show", *arguments], catch_exceptions=False, **options)


def test_all_of_it(digest: str) -> None:
    pay(digest)
    assert (
        show(ID).stdout
        == f"""\
{ID}  HIGH  failed

  action        pay -> bank
  arguments     {{"amount": 50, "account": {{"number": "DE11"}}}}
  agent         Bo
  tool          pay
  session       a3f1b2c4d5e6
  process       h 7
  rule          payments (approve)
  reason        rule `payments` matched
  policy        {digest}
  error         ValueError: no

Timeline
  2026-11-22 14:30:00.250     +0.000 s  decided    a human is asked
  2026-11-22 14:30:03.750     +3.500 s  resolved   approved by ops
  2026-11-22 14:30:04.000     +3.750 s  completed  failed: ValueError: no

Why
   searches: for other tools
   large (block) does not match  [policy.yaml:6:5]
       `match.type` `pay`: yes
       `param_gt` on `amount` the number `1000`: no
   to_known (auto) does not match  [policy.yaml:10:5]
       `match.type` `pay`: yes
       `param_eq` on `account.number` `DE00`: no
=> payments (approve) matches  [policy.yaml:14:5]
       `match.type` `pay`: yes
   rest (block) not asked  [policy.yaml:18:5]
  so it decided: approve by `payments` at high risk: rule `payments` matched
"""
    )


def test_for_programs(digest: str) -> None:
    """The row as elsewhere, the moments, and the explanation."""
    pay(digest)
    found = json.loads(show(ID, "--format", "json").stdout)
    assert found["row"] == AuditLogger().get_log()[0]
    assert [(m["stage"], m["at"], m["after_s"], m["what"]) for m in found["life"]] == [
        ("decided", "2026-11-22T14:30:00.250000+00:00", 0.0, "a human is asked"),
        ("resolved", "2026-11-22T14:30:03.750000+00:00", 3.5, "approved by ops"),
        ("completed", "2026-11-22T14:30:04+00:00", 3.75, "failed: ValueError: no"),
    ]
    why = found["explanation"]
    assert (why["matched_rule"], why["policy_digest"]) == ("payments", digest)
    assert (why["is_the_policy_that_decided"], why["agrees_with_the_row"]) == (True, True)
    assert [rule["match"] for rule in why["rules"]] == [*["does not match"] * 3, "matches", "not asked"]
    assert why["rules"][1]["checks"][1] == {
        "label": "`param_gt` on `amount`",
        "wanted": "the number `1000`",
        "answer": False,
        "depth": 0,
        "lacks": None,
    }


def test_every_name_stands_apart_from_its_value(digest: str) -> None:
    ids = ("tool_call_id", "session_id", "conversation_id", "trace_id", "span_id")
    pay(digest, **{name: f"<{name}>" for name in ids})
    lines = [line for line in show(ID).stdout.splitlines() if "<" in line]
    assert [line.split("  ")[-1].strip() for line in lines] == [f"<{name}>" for name in ids]
    assert {line.index("<") for line in lines} == {16}


def test_monitor_mode_is_to_be_seen(digest: str) -> None:
    """In the first line, and no word says that somebody was asked or something was blocked."""
    pay(digest, mode="monitor", approval="block", human_decision=None, approval_wait_s=None)
    lines = show(ID).stdout.splitlines()
    assert lines[0] == f"{ID}  HIGH  failed  (monitor)"
    assert "  mode          monitor: decided and recorded, not enforced" in lines
    assert "  2026-11-22 14:30:00.250     +0.000 s  decided    would be blocked" in lines
    pay(digest, decision_id="other", mode="monitor", human_decision=None, approval_wait_s=None)
    assert "decided    a human would be asked" in show("other").stdout
    assert "(monitor)" not in show("other", "--format", "json").stdout


class TestLife:
    @pytest.mark.parametrize(
        ("row", "moments"),
        [
            ({"result_status": "open"}, ["decided allowed", "completed not yet: it is running"]),
            ({"result_status": "blocked", "approval": "block"}, ["decided blocked"]),
            (
                {"result_status": "pending", "approval": "approve"},
                ["decided a human is asked", "completed not yet: the human has not answered"],
            ),
            (
                {
                    "result_status": "denied",
                    "approval": "approve",
                    "human_decision": "expired",
                    "approval_wait_s": 300.0,
                },
                ["decided a human is asked", "resolved expired"],
            ),
            (
                {
                    "result_status": "denied",
                    "approval": "approve",
                    "approval_wait_s": 0.1,
                    "approval_reason": "broken",
                },
                ["decided a human is asked", "resolved no answer: broken"],
            ),
            (
                {
                    "result_status": "success",
                    "duration_s": 2.0,
                    "approval": "approve",
                    "human_decision": "approved",
                    "approver": "root",
                    "approval_reason": GRANTED,
                },
                [
                    "decided a grant covers it, so nobody is asked",
                    f"resolved approved by root: {GRANTED}",
                    "completed success",
                ],
            ),
            ({"result_status": "success", "duration_s": 2.0}, ["decided allowed", "completed success"]),
            (
                {
                    "result_status": "blocked",
                    "approval": "block",
                    "human_decision": "approved",
                    "approval_wait_s": 1.0,
                },
                ["decided a human is asked", "resolved approved"],
            ),
        ],
    )
    def test_every_kind_of_call(self, row: dict[str, Any], moments: list[str]) -> None:
        audit = AuditLogger()
        audit.append(decided(**row))
        found = json.loads(show("0001", "--format", "json").stdout)["life"]
        assert [f"{moment['stage']} {moment['what']}" for moment in found] == moments

    def test_a_lost_call_says_so(self) -> None:
        audit = AuditLogger()
        audit.append(decided())
        audit.close()
        assert "completed  unknown: its process was gone before it said" in show("0001").stdout

    def test_a_grant_is_named(self) -> None:
        said = {"approval": "approve", "approver": "root", "approval_reason": GRANTED}
        AuditLogger().append(decided(**said, human_decision="approved"))
        assert "  grant         01a2-7, by root, until 2026-11-30 13:14:02 UTC\n" in show("0001").stdout

    def test_a_no_is_no_grant_whatever_its_reason(self) -> None:
        said = {"approval": "approve", "approver": "root", "approval_reason": GRANTED}
        AuditLogger().append(decided(**said, human_decision="denied", result_status="denied"))
        out = show("0001").stdout
        assert "  grant " not in out
        assert "decided    a human is asked" in out


class TestWhy:
    def test_without_a_policy_it_says_how_to_get_one(self) -> None:
        pay("sha256:other")
        assert "give the policy that decided with --policy FILE" in show(ID).stdout
        assert json.loads(show(ID, "--format", "json").stdout)["explanation"] is None

    def test_a_policy_nearby_counts_only_if_it_decided(self, digest: str) -> None:
        """Another one, or one that is not valid, is not even mentioned."""
        pay("sha256:other")
        assert "give the policy that decided" in show(ID).stdout
        Path("policy.yaml").write_text("rules: 5")
        assert show(ID).exit_code == 0

    def test_a_policy_that_is_given_is_used_and_named_for_what_it_is(self, digest: str) -> None:
        pay("sha256:other")
        result = show(ID, "--policy", "policy.yaml")
        assert f"this is not the policy that decided: it is {digest}" in result.stdout
        assert "payments (approve) matches" in result.stdout

    def test_a_policy_that_is_not_valid(self) -> None:
        pay("x")
        Path("bad.yaml").write_text("rules: 5")
        result = show(ID, "--policy", "bad.yaml")
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("Error: bad.yaml:1:8: ")

    def test_a_redacted_value_makes_no_claim(self, digest: str) -> None:
        """What the rule looked at is not in the audit: its answer is unknown."""
        pay(digest, action_params='{"amount":50,"account":"[REDACTED]"}')
        out = show(ID).stdout
        assert "to_known (auto) unknown" in out
        assert "`param_eq` on `account.number` `DE00`: unknown: the value it looks at is redacted" in out
        assert "so it decided" in out  # payments is the stricter: unknown or not, it is what was decided

    def test_a_verdict_that_cannot_be_repeated_is_admitted(self, digest: str) -> None:
        pay(digest, action_params='{"amount":"[REDACTED]","account":{"number":"DE11"}}')
        out = show(ID).stdout
        assert "large (block) unknown" in out
        assert out.endswith(
            "  it decided by `payments`; `large` cannot be judged again: the audit has no redacted value\n"
        )
        assert json.loads(show(ID, "--format", "json").stdout)["explanation"]["agrees_with_the_row"] is False

    def test_what_counts_earlier_calls_is_not_judged_again(self) -> None:
        """That is so for every call under a policy with a limit: it must not look like a forged row."""
        limit = "{name: twice, conditions: {repeats: {by: [amount], within: 1h}}, approval: block}"
        total = (
            "{name: total, conditions: {total_over: {param: amount, limit: 9, within: 1h}}, approval: block}"
        )
        rule = "{name: payments, match: {type: pay}, approval: approve, risk_level: high}"
        text = f"defaults: {{approval: auto}}\nrules:\n  - {limit}\n  - {total}\n  - {rule}\n"
        Path("policy.yaml").write_text(text)
        pay(Policy.from_text(text).digest)
        out = show(ID).stdout
        assert "=> payments (approve) matches" in out
        assert out.endswith(
            "  it decided by `payments`; `twice`, `total` cannot be judged again: the audit keeps no count "
            "of earlier calls\n"
        )

    def test_what_was_unknown_then_is_told(self) -> None:
        """Of earlier calls all is unknown now; it may have been one of the call's own values."""
        rule = (
            "{name: once, match: {type: pay}, conditions: {repeats: {by: [id], within: 1h}}, approval: block}"
        )
        text = f"defaults: {{approval: auto}}\nrules:\n  - {rule}\n"
        Path("policy.yaml").write_text(text)
        why = "rule `once` may match, so it counts as a match: `repeats` is unknown: there is no `id`"
        about = {"matched_rule": "once", "approval": "block", "risk_level": "MEDIUM"}
        pay(Policy.from_text(text).digest, reason=why, **about)
        assert show(ID).stdout.endswith(f"  so it decided: block by `once` at medium risk: {why}\n")

    def test_a_rule_that_does_not_match_did_not_decide(self, digest: str) -> None:
        pay(digest, matched_rule="searches", approval="auto", risk_level="LOW")
        assert "this is not what it decided: " in show(ID).stdout
        pay(digest, decision_id="other", matched_rule="large", approval="block")
        assert "this is not what it decided: " in show("other").stdout

    @pytest.mark.parametrize(
        ("name", "answer"),
        [("pay", " (approve) matches"), ("[REDACTED]", " (approve) unknown"), ("send", ": for other tools")],
    )
    def test_the_other_names_by_which_it_was_judged_are_asked_about(self, name: str, answer: str) -> None:
        """What decided may match only one of them, and then explains the row."""
        rule = "{name: payments, match: {type: pay}, approval: approve, risk_level: high}"
        text = f"defaults: {{approval: auto}}\nrules:\n  - {rule}\n"
        Path("policy.yaml").write_text(text)
        others = json.dumps([[name, "bank"]])
        pay(Policy.from_text(text).digest, action_type="transfer", other_names=others)
        out = show(ID).stdout
        assert f"payments{answer}" in out
        assert ("so it decided: " in out) == (name != "send")

    def test_it_is_explained_at_the_time_it_was_decided(self) -> None:
        """After a yes that is when the human had answered."""
        evening = '{name: evening, conditions: {time_after: "14:31"}, approval: approve, risk_level: high}'
        text = f"rules:\n  - {evening}\n"
        Path("policy.yaml").write_text(text)
        late = {"matched_rule": "evening", "approval_wait_s": 90.0}
        pay(Policy.from_text(text).digest, **late)
        assert "evening (approve) matches" in show(ID).stdout
        pay(Policy.from_text(text).digest, decision_id="other", **late, human_decision="denied")
        assert "evening (approve) does not match" in show("other").stdout


class TestId:
    @pytest.fixture(autouse=True)
    def audit(self) -> None:
        logger = AuditLogger()
        for id in ("0193-aa-11", "0193-ab-12", "0193-ab-13", "0193-ab"):
            logger.append(decided(decision_id=id))
            logger.append(completed(decision_id=id))

    @pytest.mark.parametrize(
        ("id", "found"),
        [("0193-aa", "0193-aa-11"), ("13", "0193-ab-13"), ("0193-ab", "0193-ab"), ("b-12", "0193-ab-12")],
    )
    def test_the_beginning_or_the_end_will_do(self, id: str, found: str) -> None:
        """And the whole id always does, whatever else begins with it."""
        assert show(id).stdout.startswith(f"{found}  CRITICAL  success")

    def test_more_than_one(self) -> None:
        result = show("0193-ab-")
        assert (result.exit_code, result.stdout) == (1, "")
        first, *ids = result.stderr.splitlines()
        assert first == "more than one call has an id with `0193-ab-`, among them:"
        assert sorted(ids) == ["  0193-ab-12", "  0193-ab-13"]

    @pytest.mark.parametrize("id", ["nope", "%", "' OR true --", "\x1b[2J"])
    def test_none(self, id: str) -> None:
        result = show(id)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("no call with the id `")
        assert "\x1b" not in result.stderr


def test_b44_nothing_in_a_value_acts_on_the_terminal(digest: str) -> None:
    """B44: in any column, in both formats."""
    evil = "\x1b[2K\x1b]0;x\x07\u202e\r\n[bold]x[/]"
    texts = (
        "session_id",
        "action_type",
        "action_target",
        "approver",
        "approval_reason",
        "result_error",
        "reason",
    )
    pay(digest, action_params=json.dumps({evil: evil}), **dict.fromkeys(texts, evil))
    for form in ("text", "json"):
        assert not re.search(r"[^\n\x20-\x7e]", show(ID, "--format", form).stdout)


@pytest.mark.parametrize("columns", [60, 80])
def test_lines_fit_the_terminal(digest: str, columns: int) -> None:
    """A pipe gets a value on one line; at a terminal each further line begins with characters of ours."""
    lie = f"{'x' * columns}  rule          harmless "
    pay(digest, approval_terms=TERMS, result_error=lie * 3, approval_reason="because of this " * 9)
    whole = show(ID).stdout
    assert f"  error         {(lie * 3).rstrip()}\n" in whole.replace(" \n", "\n")
    shown = show(ID, env={"COLUMNS": str(columns)}).stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if line.startswith("  rule ")] == ["  rule          payments (approve)"]
    together = [re.sub(r"\s+", "", text.replace("\n  | ", "")) for text in (shown, whole)]
    assert together[0] == together[1]


TERMS = '{"users": [], "roles": ["finance"], "count": 2, "self": false, "expires_s": 900.0}'


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (None, "not yet: the human has not answered"),
        ("approved", "not yet: it is approved in the inbox, and no process has taken the yes"),
        (
            "used",
            "not known in this audit: the yes was taken by host, pid 7, and this row is closed a minute",
        ),
        ("denied", "not yet: in the inbox it is denied; this row is closed a minute after that"),
        ("expired", "not yet: in the inbox it is expired: nobody answered in time; this row is closed"),
    ],
)
def test_a_row_that_waits_says_what_the_inbox_has(digest: str, end: str | None, said: str) -> None:
    """It does not say that nobody has answered beside the answer."""
    desk = open_answer_desk(str(AuditLogger().path))
    state = desk.inbox.put(shared_question(ID, expires_s=0.05 if end == "expired" else 900.0))
    pending = {"human_decision": None, "approver": None, "approval_wait_s": None, "duration_s": None}
    pay(digest, **pending, result_status="pending", result_error=None)
    if end == "expired":
        time.sleep(0.1)
    elif end is not None:
        desk.give(ID, state.digest, Person("bob", (), "local"), approved=end != "denied")
    if end == "used":
        assert desk.inbox.use(ID, state.digest, "host, pid 7")
    timeline = show(ID).stdout.partition("\nTimeline\n")[2].partition("\n\n")[0]
    assert said in timeline.splitlines()[-1]
    assert ("has not answered" in timeline) == (end is None)
    assert said in json.loads(show(ID, "--format", "json").stdout)["life"][-1]["what"]


def test_an_answer_that_cannot_be_checked_here_is_no_missing_one(
    digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_answer_desk(str(AuditLogger().path))
    state = desk.inbox.put(shared_question(ID))
    pay(digest)
    desk.give(ID, state.digest, Person("bob", (), "local"), approved=True)
    _, public = make_key_pair(tmp_path / "keys", "other")
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(public))
    assert "  inbox         an answer cannot be checked here, as it is signed with a key" in show(ID).stdout
    pending = {"result_status": "pending", "human_decision": None, "approver": None, "result_error": None}
    pay(digest, **pending, duration_s=None, timestamp="2026-11-22T14:30:00.500000+00:00")
    assert "stored as approved, and no answer proves that\n" in show(ID).stdout, "nothing closes the row"


def test_who_may_answer_and_who_did(digest: str) -> None:
    """What the row says of approvers, and what the inbox has of answers, roles, refusals and grants."""
    audit = AuditLogger().path
    desk = open_answer_desk(str(audit))
    finance = Approvers(roles=("finance",), count=2)
    state = desk.inbox.put(shared_question(ID, approvers=finance, expires_s=900.0))
    pay(digest, approval_terms=TERMS, approver="bob, eve")
    assert (
        "  may answer    2 of: role `finance`, not the user that the agent acts for, within 15 min\n"
        in show(ID).stdout
    )
    grant = GrantTerms(3600.0, "time")
    with pytest.raises(AnswerRefused):
        desk.give(ID, state.digest, Person("mallory", ("sales",), "oidc"), approved=True)
    for name in ("bob", "eve"):
        person = Person(name, ("finance", "board"), "oidc")
        desk.give(ID, state.digest, person, approved=True, reason="fine", grant=grant)
    desk.inbox.revoke(ID, "dana")
    shown = show(ID).stdout
    for name in ("bob", "eve"):
        said = rf"  yes           {name} \(finance, board\), 20[^\n]* UTC, also for such calls [^\n]*: fine\n"
        assert re.search(said, shown), shown
    assert re.search(r"  refused       mallory, 20[^\n]* UTC: they are none of the rule's approvers\n", shown)
    assert "  grant         ended by dana\n" in shown
    report = json.loads(show(ID, "--format", "json").stdout)
    assert [each["roles"] for each in report["inbox"]["answers"]] == [["finance", "board"]] * 2
    assert report["inbox"]["refused_answers"][0]["approver"] == "mallory"
    assert report["inbox"]["grant"]["revoked_by"] == "dana"


def test_an_inbox_that_cannot_be_read(digest: str) -> None:
    """The call is shown, and why there is no more. Where there is no inbox, none is made."""
    pay(digest, approval_terms="no terms")
    shown = show(ID).stdout
    assert "  may answer    no terms\n" in shown
    file = AuditLogger().path / "state.sqlite3"
    assert not file.exists()
    assert json.loads(show(ID, "--format", "json").stdout)["inbox"] is None
    file.write_text("in the way")
    assert re.search(r"  inbox         .*run `chmod 600` on it", show(ID).stdout)


def test_other_names_that_the_row_has_not_leave_its_own(digest: str) -> None:
    pay(digest, other_names="[REDACTED]")
    assert "=> payments (approve) matches" in show(ID).stdout
