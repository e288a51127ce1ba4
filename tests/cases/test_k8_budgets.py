"""Bounds on what one call may write, on what a query may take, and on what a spreadsheet may run."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agents.testing import function_call
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel.audit.query.sandbox import select
from aegis_otel.audit.record import AuditRecord, encode
from aegis_otel.cli import main
from aegis_otel.errors import AuditError
from aegis_otel.model import Action
from aegis_otel.runtime.audit import AuditLogger
from tests.adapters.openai_agents.conftest import installed  # noqa: F401 - a fixture
from tests.adapters.openai_agents.local_kinds import Body, a_function, an_agent, run
from tests.support.kit import Bench
from tests.support.records import decided

BLOCK = {
    "version": "1",
    "rules": [{"name": "none", "match": {"type": "*"}, "risk_level": "high", "approval": "block"}],
}


async def test_k8_bytes_of_blocked_calls(installed: Callable[..., Bench]) -> None:  # noqa: F811
    """Five blocked calls of 10 MB each write less than a megabyte; each row says what is missing."""
    b = installed(policy=BLOCK)
    arguments = json.dumps({"name": "a" * 10_000_000, "amount": 7})
    calls = [function_call("greet", arguments, call_id=f"call_{n}") for n in range(5)]
    agent, _ = an_agent(a_function(Body()), calls=calls)
    await run(agent)
    assert sum(file.stat().st_size for file in b.audit.rglob("*") if file.is_file()) < 1_000_000
    for row in b.rows():
        assert row["result_status"] == "blocked"
        params = row["action_params"]
        assert params["amount"] == 7
        assert re.search(r"\[CUT [\d,]+ of 10,000,000 characters\]$", params["name"])
        assert params["[CUT]"] == f"{len(arguments) - 3:,} bytes in all"
    assert len({row["args_digest"] for row in b.rows()}) == 1


async def test_k8_digest_covers_the_whole(bench: Callable[..., Bench]) -> None:
    """Arguments that differ only in what is cut differ in their digest; secrets are hidden before the cut."""
    b = bench(policy=BLOCK)
    for end in ("x", "y"):
        text = "a" * 16_370 + " password=hunter2hunter2 " + "a" * 200_000 + end
        await b.runtime.governor.authorize(Action("t", "u", {"text": text}))
    first, second = b.rows()
    assert first["action_params"] == second["action_params"]
    assert first["args_digest"] != second["args_digest"]
    assert "hunter2" not in json.dumps(first)
    assert len(json.dumps(first["action_params"])) <= 1 << 16


async def test_k8_names_of_any_length(bench: Callable[..., Bench]) -> None:
    """A tool's, an agent's and a conversation's name are cut, and those that differ stay apart."""
    b = bench(policy=BLOCK)
    for end in "xy":
        await b.runtime.governor.authorize(
            Action("t" * 1_000_000 + end, "u" * 1_000_000, agent="a" * 1_000_000)
        )
    first, second = b.rows()
    assert first["action_type"] != second["action_type"]
    assert all(len(str(value)) < 2_000 for row in (first, second) for value in row.values())
    (span, _) = b.telemetry.spans("govern_tool")
    assert all(len(str(value)) < 2_000 for value in span.attributes.values())


def test_k8_line_of_the_journal() -> None:
    """Whatever a record has, its line has a bound, is JSON, and its arguments stay JSON."""
    texts = dict.fromkeys(
        ("reason", "result_error", "approver", "approval_reason", "tool_name"), '"\\' * 500_000
    )
    params = json.dumps({"a": '"' * 400_000, "b": [1, 2]})
    line = encode(decided(**texts, action_params=params))
    assert len(line) < 300_000
    record = msgspec.json.decode(line, type=AuditRecord)
    assert "[CUT" in (record.reason or "")
    assert json.loads(record.action_params or "")["b"] == [1, 2]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
    max_leaves=30,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN, st.integers(1, 4_000), st.sampled_from(["list", "dict", "text", "key", "deep"]))
def test_k8_cut_arguments_are_valid_json(inner: Any, times: int, shape: str) -> None:
    """Any arguments, of any size and shape, come to JSON within the budget that says how much there was."""
    from aegis_otel.audit.record import PARAMS_BYTES, cut_params
    from aegis_otel.redaction.serialize import encode_plain, to_plain

    value: Any = {
        "list": [inner] * times,
        "dict": {f"{n}": inner for n in range(times)},
        "text": "\x00\u2028\U0001f600" * times * 10,
        "key": {"k" * times * 20: inner, "k" * times * 20 + "x": inner},
        "deep": inner,
    }[shape]
    if shape == "deep":
        for _ in range(min(times, 60)):
            value = {"d": value, "t": "x" * times}
    plain = to_plain({"value": value, "amount": 1})
    encoded = encode_plain(plain)
    cut = cut_params(plain, encoded)
    assert len(cut) <= PARAMS_BYTES
    decoded = json.loads(cut)
    if len(encoded) <= PARAMS_BYTES:
        assert cut == encoded
    else:
        assert f"{len(encoded):,} bytes" in decoded["[CUT]"]


def test_k8_audit_sql_huge_value() -> None:
    """A value of 100 MB does not come through the pipe: an error says what to do, in seconds."""
    AuditLogger().append(decided())
    audit, value = Path("aegis_audit"), "repeat(action_type, 7000000)"
    begun = time.monotonic()
    with pytest.raises(AuditError, match=r"16 MB .*left\("):
        list(select(audit, f"SELECT {value} FROM audit", timeout=60).rows)
    assert time.monotonic() - begun < 60
    (row,) = select(audit, f"SELECT length({value}), left({value}, 3) FROM audit").rows
    assert row == [105_000_000, "del"]


def test_k8_audit_sql_timeout_is_kept_holds() -> None:
    """Also where the answer keeps coming: rows without end, of little memory, are stopped in time."""
    AuditLogger().append(decided())
    begun = time.monotonic()
    with pytest.raises(AuditError, match=r"took longer than 3 s"):
        for _ in select(
            Path("aegis_audit"), "SELECT repeat('x', 100000) FROM range(10000000000)", timeout=3
        ).rows:
            pass
    assert time.monotonic() - begun < 60


def test_k8_audit_sql_table_of_large_values_holds() -> None:
    """A table keeps of each value what it shows."""
    AuditLogger().append(decided())
    result = CliRunner().invoke(main, ["audit", "sql", "SELECT repeat('x', 5000000) AS x FROM range(20)"])
    assert (result.exit_code, len(result.stdout) < 50_000) == (0, True)


def test_k8_audit_show_of_a_huge_row() -> None:
    """What an older version had written is shown to people as far as they can read."""
    AuditLogger().append(decided(action_params=json.dumps({"a": ["x" * 50] * 1_000})))
    result = CliRunner().invoke(main, ["audit", "show", "00000001"])
    assert result.exit_code == 0
    assert len(result.stdout) < 30_000
    assert "more with --format json" in result.stdout


FORMULAS = [
    *("=1+1", "+1+1", "-1+1", "@SUM(1)"),
    *("x;=cmd", "x; =cmd", 'x;"=cmd"', "x|=cmd", "a;b;@x", "x\t=cmd", "x\n=cmd", "x\r\n+cmd"),
    *(" =cmd", "\t=cmd", "\n=cmd", "\ufeff=cmd", "\u200b=cmd", "\x00=cmd", '"=cmd"', "'=cmd", "\u3000=cmd"),
    *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201", "x;\uff1dcmd", "\ufe66cmd", "\u22121+1"),
]


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
@pytest.mark.parametrize("outlet", ["audit", "export", "sql", "show-header"])
def test_k8_csv_formulas(text: str, outlet: str) -> None:
    """No cell, however a program divides the line, begins with a sign of a formula."""
    AuditLogger().append(decided(agent_name=text))
    name = text.replace('"', '""')
    sql = "SELECT agent_name FROM audit" if outlet == "sql" else f'SELECT 1 AS "{name}"'
    arguments = {
        "audit": ["audit", "--format", "csv"],
        "export": ["audit", "export", "-", "--format", "csv"],
        "sql": ["audit", "sql", sql, "--format", "csv"],
        "show-header": ["audit", "sql", sql, "--format", "csv"],
    }[outlet]
    if outlet == "show-header" and "\x00" in text:
        return
    out = CliRunner().invoke(main, arguments).stdout
    for delimiter in ",;|\t":
        for line in csv.reader(out.splitlines(), delimiter=delimiter):
            for cell in line:
                start = re.sub(r"^(\s|\"|\\[tnr]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4})*", "", cell)
                assert start[:1] not in set("=+-@\uff1d\uff0b\uff0d\uff20\ufe66\u2212"), (delimiter, cell)


def test_k8_exports_for_programs_lose_nothing_holds() -> None:
    """JSON has what was recorded, signs and all; CSV keeps numbers and ordinary words as they are."""
    AuditLogger().append(decided(agent_name="x;=cmd", duration_s=1.5))
    runner = CliRunner()
    (row,) = json.loads(runner.invoke(main, ["audit", "--format", "json"]).stdout)
    assert row["agent_name"] == "x;=cmd"
    out = runner.invoke(
        main, ["audit", "sql", "SELECT -5 AS a, 'e-mail, a@b.c' AS b", "--format", "csv"]
    ).stdout
    assert out == 'a,b\n-5,"e-mail, a@b.c"\n'


def test_k8_limits_page_names_every_budget() -> None:
    """docs/limits.md has the figures of the code."""
    from aegis_otel.audit import record
    from aegis_otel.audit.query import sandbox

    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    for figure in (
        f"{record.PARAMS_BYTES >> 10} kB",
        f"{record.TEXT_CHARS:,} characters",
        f"{record.NAME_CHARS:,} characters",
        f"{record.LINE_BYTES >> 10} kB",
        f"{sandbox.TIMEOUT:g} s",
        f"{sandbox.ROW_MB} MB",
    ):
        assert figure in page, figure
