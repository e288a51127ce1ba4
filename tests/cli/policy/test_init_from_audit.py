"""`aegis policy init --from-audit`: a policy from an audit, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from agents import Agent, function_tool
from agents.tool_context import ToolContext
from click.testing import CliRunner, Result
from pydantic import StringConstraints

from aegis_otel import Action, Policy, Runtime, Subject
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.cli import main
from aegis_otel.runtime.approval import DenyApprovalHandler
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(*rows: dict[str, Any]) -> None:
    audit = AuditLogger("audit")
    for number, row in enumerate(rows):
        id = f"01930000-0000-7000-8000-{number:012}"
        audit.append(decided(**{"decision_id": id, "mode": "monitor", "approval": "approve"} | row))
        audit.append(completed(decision_id=id))
    audit.close()


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["policy", "init", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


SEARCH = {
    "action_type": "search", "action_target": "web", "agent_name": "Clerk", "action_params": '{"query":"x"}',
}  # fmt: skip


def test_what_ran_in_monitor_mode_runs() -> None:
    record(
        SEARCH,
        SEARCH,
        {**SEARCH, "action_type": "enforced", "mode": "enforce"},
        {**SEARCH, "action_type": "drop", "approval": "block"},
    )
    result = run("--from-audit", "audit", "--out", "p.yaml")
    assert (result.exit_code, result.output) == (0, "wrote p.yaml; next: aegis policy check p.yaml\n")
    assert Path("p.yaml").read_text() == (
        "# Made by `aegis policy init --from-audit audit` from 3 calls in monitor mode.\n"
        "# Calls run as 2 of these were seen; every other one is asked about. Read it first.\n"
        "# Asked: drop -> web (1 call): the policy of then would have blocked all of its calls.\n"
        'version: "1"\n'
        "defaults:\n"
        "  risk_level: medium\n"
        "  approval: approve # whatever was not seen\n"
        "rules:\n"
        "\n"
        "  # Seen: 2 calls.\n"
        '  - name: "run_search"\n'
        "    match:\n"
        "      type:\n"
        '        - "search"\n'
        '      target: ["web"]\n'
        '      agent: ["Clerk"]\n'
        "    conditions:\n"
        '      param_only: ["query"]\n'
        '      param_present: ["query"]\n'
        "      param_in:\n"
        '        "query": ["x"]\n'
        "    risk_level: low\n"
        "    approval: auto\n"
    )
    policy = Policy.from_yaml("p.yaml")
    assert policy.evaluate(Action("search", "web", {"query": "x"}, agent="Clerk")).approval == "auto"


def test_calls_run_for_those_only_for_whom_they_were_made() -> None:
    record({**SEARCH, "user_id": "ann", "tenant_id": "acme", "user_roles": '["clerk"]'})
    text = run("--from-audit", "audit").output
    assert 'user: ["ann"]\n      tenant: ["acme"]\n      role: ["clerk"]' in text
    policy = Policy.from_text(text)
    clerk, guest = (Subject("ann", "acme", [role]) for role in ("clerk", "guest"))
    assert [
        policy.evaluate(Action("search", "web", {"query": "x"}, agent="Clerk", subject=subject)).approval
        for subject in (clerk, guest, None)
    ] == ["auto", "approve", "approve"]


def test_only_calls_since_then() -> None:
    now = datetime.now(UTC)
    old, new = ((now - timedelta(days=days)).isoformat(timespec="microseconds") for days in (30, 1))
    record({**SEARCH, "timestamp": old}, {**SEARCH, "timestamp": new, "action_type": "find"})
    text = run("--from-audit", "audit", "--since", "7d").output
    assert "from 1 call in" in text
    assert '"find"' in text
    assert '"search"' not in text


def test_secrets_never_become_conditions() -> None:
    """The audit has them redacted; what stands for them is no value."""
    secret = "sk-proj-" + "a1B2c3D4e5F6" * 4
    with governed_in_monitor_mode() as runtime:
        asyncio.run(runtime.governor.authorize(Action("get_x", "web", {"note": secret}, agent="Clerk")))
    text = run("--from-audit", "audit").output
    assert "# Asked: get_x -> web (1 call): `note` is redacted or cut." in text
    assert Policy.from_text(text).rules == ()
    assert "sk-proj" not in text
    assert "REDACTED" not in text


@contextmanager
def governed_in_monitor_mode() -> Iterator[Runtime]:
    logger = AuditLogger("audit")
    yield Runtime(policy=Policy.from_dict({"rules": []}), audit_logger=logger, mode="monitor")
    logger.close()


def test_an_audit_without_such_calls_is_exit_1() -> None:
    record({**SEARCH, "mode": "enforce"})
    result = run("--from-audit", "audit")
    assert (result.exit_code, result.stderr) == (
        1,
        "no calls in monitor mode: nothing to write a policy from\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("m:a", "--from-audit", "audit"), 2),
        (("m:a", "--since", "7d"), 2),
        (("--from-audit", "audit", "--since", "soon"), 2),
        (("--from-audit", "none"), 1),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: int) -> None:
    record(SEARCH)
    assert run(*arguments).exit_code == code


def test_a_tool_that_runs_something_is_not_said_to_run_twice() -> None:
    record({**SEARCH, "action_type": "run_sql"})
    assert '- name: "run_sql"\n' in run("--from-audit", "audit").output


def send_mail(to: Annotated[str, StringConstraints(to_lower=True)]) -> str:
    return f"sent to {to}"


def test_calls_that_were_not_validated_are_drafted_as_they_were_sent() -> None:
    """No rule read the arguments, so the audit does not say what the tool made of them."""

    def calls(policy: Policy, mode: str) -> list[str]:
        with closing(AuditLogger(mode)) as audit:
            runtime = Runtime(policy=policy, mode=mode, audit_logger=audit, approval_handler=deny)
            tool = governed_tool(runtime=runtime)(function_tool(send_mail))
            return [asyncio.run(tool.on_invoke_tool(*context(each))) for each in ("ann", "Ann", "ANN", "eve")]

    deny = DenyApprovalHandler()
    asks = Policy.from_dict({"rules": []})
    assert calls(asks, "monitor") == ["sent to ann", "sent to ann", "sent to ann", "sent to eve"]
    with closing(AuditLogger("seen")) as audit:
        for row in AuditLogger("monitor").get_log():
            assert row["arguments_reading"] == "unvalidated"
            if row["action_params"]["to"] in ("ann", "Ann"):
                kept = {name: row[name] for name in SENT}
                audit.append(decided(**kept, action_params=json.dumps(row["action_params"])))
                audit.append(completed(decision_id=row["decision_id"]))
    result = run("--from-audit", "seen")
    assert (
        "  # Seen: 2 calls; 2 as sent, and asked about where the tool's validation changes" in result.output
    )
    refused = "[AEGIS DENIED] Action denied by human operator"
    assert calls(Policy.from_text(result.output), "enforce") == [
        "sent to ann",
        "sent to ann",
        refused,
        refused,
    ]


SENT = ("decision_id", "action_type", "action_target", "mode", "approval", "arguments_reading", "agent_name")


def context(to: str) -> tuple[ToolContext[None], str]:
    text = json.dumps({"to": to})
    clerk = Agent(name="Clerk")
    return ToolContext(None, tool_name="send_mail", tool_call_id=to, tool_arguments=text, agent=clerk), text
