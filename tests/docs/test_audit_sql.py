"""docs/audit-sql.md: every command prints what is shown, of an audit that is partly sealed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel import Policy
from aegis_otel.audit.journal.policy_changes import CHANGE_COLUMNS
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.views import VIEWS
from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli import main
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "audit-sql.md").read_text(encoding="utf-8")
COMMANDS = [
    part
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)
    if part
]

(POLICY,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

SEARCH = {
    "action_type": "search_orders",
    "risk_level": "LOW",
    "matched_rule": "reads",
    "result_status": "success",
}
REFUND = {
    "action_type": "refund",
    "action_target": "payments",
    "risk_level": "HIGH",
    "approval": "approve",
    "matched_rule": "refunds_ask",
    "agent_name": "billing",
    "session_id": "billing-1",
}
YES = {"human_decision": "approved", "approver": "dana", "result_status": "success", "duration_s": 0.8}
DROP = {
    "action_type": "drop_table",
    "action_params": '{"table":"orders"}',
    "risk_level": "CRITICAL",
    "approval": "block",
    "matched_rule": "never_drop",
    "result_status": "blocked",
    "result_error": "Action blocked by policy rule: never_drop",
    "args_digest": "hmac-sha256:5f1c",
}
MAIL = {
    "action_type": "send_mail",
    "action_target": "smtp",
    "action_params": '{"to":"kim@example.com"}',
    "risk_level": "MEDIUM",
    "matched_rule": "mail",
    "result_status": "success",
    "duration_s": 1.2,
}

CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("21T09:00:00", SEARCH | {"duration_s": 0.1}),
    ("21T09:00:05", SEARCH | {"duration_s": 0.2}),
    ("21T09:01:00", REFUND | YES | {"approval_wait_s": 41.0, "action_params": '{"order":"A-7","amount":80}'}),
    ("21T15:30:00", MAIL),
    (
        "21T15:31:00",
        MAIL
        | {
            "result_status": "failed",
            "result_error": "TimeoutError",
            "error_type": "TimeoutError",
            "duration_s": 30.0,
        },
    ),
    ("22T08:10:00", REFUND | YES | {"approval_wait_s": 12.5, "action_params": '{"order":"A-9","amount":20}'}),
    (
        "22T08:12:00",
        REFUND
        | {
            "human_decision": "denied",
            "approver": "lee",
            "approval_reason": "wrong order",
            "approval_wait_s": 95.0,
            "result_status": "denied",
            "action_params": '{"order":"A-7","amount":900}',
        },
    ),
    (
        "22T08:20:00",
        REFUND
        | {
            "human_decision": "expired",
            "approval_wait_s": 300.0,
            "result_status": "denied",
            "action_params": '{"order":"B-2","amount":55}',
        },
    ),
    ("22T13:59:58", SEARCH | {"duration_s": 0.1, "session_id": "support-2"}),
    ("22T14:00:00", DROP | {"session_id": "support-2"}),
    ("22T14:00:03", DROP | {"session_id": "support-2", "action_target": "orders_backup"}),
    ("22T14:00:09", MAIL | {"session_id": "support-2", "result_status": "open", "duration_s": None}),
    ("22T14:05:00", REFUND | {"result_status": "pending", "action_params": '{"order":"A-7","amount":10}'}),
    (
        "22T14:20:00",
        DROP
        | {
            "mode": "monitor",
            "result_status": "success",
            "result_error": None,
            "agent_name": "trial",
            "session_id": "trial-1",
            "action_target": "orders_copy",
        },
    ),
)


def write_sample() -> None:
    """Two days of two agents under two policies, the first day sealed; of one call nobody knows the end.

    A third agent is only watched.
    """
    Path("policy.yaml").write_text(POLICY)
    logger = AuditLogger()
    for number, (time, values) in enumerate(CALLS):
        if time == "22T08:10:00":
            logger.close()
            seal(logger.path)
        common = {
            "decision_id": f"01936f00-0000-7000-8000-{number:012x}",
            "timestamp": f"2026-11-{time}+00:00",
            "session_id": "support-1",
            "action_target": "orders",
            "agent_name": "support",
            "tool_name": values["action_type"],
            "policy_digest": "sha256:9a1e04f7" if time.startswith("21") else Policy.from_text(POLICY).digest,
        }
        logger.append(decided(**common | values))
    logger.close()


@pytest.fixture(autouse=True)
def sample() -> None:
    write_sample()


def run(command: str) -> str:
    """What a command writes; a table without the spaces that end its lines."""
    program, *arguments = shlex.split(command)
    assert program == "aegis"
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "110"}, catch_exceptions=False)
    return "".join(f"{line.rstrip()}\n" for line in result.output.splitlines()).strip("\n") + "\n"


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: shown[:50])
def test_every_command_prints_what_is_shown(shown: str) -> None:
    command, output = re.fullmatch(r"((?:[^\"\n]|\"[^\"]*\")*)\n(.*)", shown, re.DOTALL).groups()  # type: ignore[union-attr]
    assert run(command) == output.strip("\n") + "\n"


def test_k9_10_every_query_runs_on_the_audit_of_the_demo(tmp_path: Path) -> None:
    """Of a demo of three seconds; most of them find something, and none is an error."""
    audit = str(tmp_path / "demo")
    demo = [sys.executable, "-m", "aegis_otel", "demo", "--minutes", "0.05", "--rate", "40", "--path", audit]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    queries = [
        shlex.split(f'{command}"')[3]
        for command in re.findall(r'^(aegis audit sql "[^"]*)"', "\n".join(COMMANDS), re.MULTILINE)
    ]
    assert len(queries) >= 10
    found = []
    for query in queries:
        result = CliRunner().invoke(main, ["audit", "sql", "--db", audit, "--format", "json", query])
        assert result.exit_code == 0, (query, result.output)
        found.append(bool(json.loads(result.stdout)))
    assert sum(found) >= len(found) // 2, "an error in a name would find nothing"


def test_k9_10_what_a_snippet_needs_is_said_before_it() -> None:
    """Modules that neither this package nor Python brings."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            needed = set(re.findall(r"^(?:import|from) (numpy|pandas|polars)\b", match[1], re.MULTILINE))
            needed |= {"pandas", "numpy"} if ".df()" in match[1] else set()
            needed |= {"polars"} if ".pl()" in match[1] else set()
            said = text[: match.start()]
            assert all(name in said for name in needed), (document.name, needed)
            assert not needed or "pip install" in said


def test_ten_questions_are_answered() -> None:
    assert len(re.findall(r"^### .*\?$", TEXT, re.MULTILINE)) >= 10


def test_every_column_and_view_is_described() -> None:
    """As the code describes it."""
    assert [
        column
        for column in COLUMNS
        if f"| `{column.name}` | {column.sql_type} | {column.meaning} |" not in TEXT
    ] == []
    assert [
        name
        for name, each in CHANGE_COLUMNS
        if f"| `{name}` | {each.sql_type} | {each.meaning} |" not in TEXT
    ] == []
    assert [view for view in VIEWS if f"| `{view.name}` | {view.meaning} |" not in TEXT] == []


@pytest.mark.parametrize("snippet", re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
def test_every_snippet_runs_without_this_package(snippet: str) -> None:
    """In a process that has the views as SQL, and prints what is shown in its comments."""
    Path("views.sql").write_text(run("aegis audit sql --views"))
    code = snippet + "\nimport sys\nassert not [name for name in sys.modules if 'aegis' in name]\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)$", snippet, re.MULTILINE)
