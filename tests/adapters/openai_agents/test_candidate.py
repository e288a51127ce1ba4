"""`instrument(candidate=...)`: given in any way, and what it and rows see of the SDK's calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import BeforeValidator

from aegis_otel import ConfigError, Instrumentation, Policy, instrument
from aegis_otel.runtime.audit import AuditLogger

TELLS_VALIDATORS = find_spec("agents._function_tool_arguments") is not None
"""Whether the SDK says which tools validate by code of the user's; before 0.24 every tool counts as one."""
POLICY = 'version: "1"\ndefaults: {approval: auto}\n'
CANDIDATE = """
version: "1"
defaults: {approval: auto}
rules:
  - {name: large, match: {type: "pay*"}, conditions: {param_gt: {amount: 100}}, approval: block}
"""
ran: list[str] = []


def double(value: Any) -> Any:
    ran.append("validator")
    return value * 2


@function_tool
def pay(amount: int) -> str:
    """Pay."""
    ran.append("pay")
    return f"paid {amount}"


@function_tool
def pay_twice(amount: Annotated[int, BeforeValidator(double)]) -> str:
    """Pay twice."""
    return f"paid {amount}"


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[Path]:
    ran.clear()
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    (tmp_path / "new.yaml").write_text(CANDIDATE)
    yield path
    if Instrumentation.current is not None:
        Instrumentation.current.uninstrument()


def call(folder: Path, tool: Any, **arguments: Any) -> dict[str, Any]:
    """The row of a call."""
    model = ScriptedModel([[function_call(tool.name, arguments, call_id="c")], [assistant_message("done")]])
    asyncio.run(Runner.run(Agent(name="A", model=model, tools=[tool]), "go"))
    return AuditLogger(folder / "audit").get_log(limit=1)[0]


def candidate_of(row: dict[str, Any]) -> tuple[Any, Any]:
    assert (row["approval"], row["result_status"]) == ("auto", "success")
    return row["candidate_approval"], row["candidate_rule"]


@pytest.mark.parametrize("given", ["path", "list", "policy", "environment"])
def test_a_candidate_is_given_in_any_way(
    policy: Path, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.yaml"
    ways: dict[str, Any] = {"path": new, "list": [str(new)], "policy": Policy.from_yaml(new)}
    if given == "environment":
        monkeypatch.setenv("AEGIS_CANDIDATE", str(new))
    settings = {"audit_dir": tmp_path / "audit", "candidate": ways.get(given)}
    found = instrument(policy, **settings)
    assert instrument(policy, **settings) is found
    assert candidate_of(call(tmp_path, pay, amount=500)) == ("block", "large")
    small = ("auto", "<default>") if TELLS_VALIDATORS else ("block", "large")
    assert candidate_of(call(tmp_path, pay, amount=5)) == small


def test_a_candidate_is_asked_what_the_tool_makes_of_the_arguments(policy: Path, tmp_path: Path) -> None:
    """As it would be if it were in force; the row says that the arguments have another reading."""
    instrument(policy, audit_dir=tmp_path / "audit", candidate=tmp_path / "new.yaml")
    row = call(tmp_path, pay, amount="500")
    assert candidate_of(row) == ("block", "large")
    assert row["arguments_reading"] == ("several" if TELLS_VALIDATORS else "unvalidated")


def test_no_validator_of_the_users_runs_for_a_candidate(policy: Path, tmp_path: Path) -> None:
    """It runs once, where the SDK runs it; the candidate does not know what it makes of the arguments."""
    instrument(policy, audit_dir=tmp_path / "audit", candidate=tmp_path / "new.yaml")
    row = call(tmp_path, pay_twice, amount=1)
    assert candidate_of(row) == ("block", "large")
    assert row["arguments_reading"] == "unvalidated"
    assert ran == (["validator"] if TELLS_VALIDATORS else [])  # before 0.24 the SDK itself runs none of these


def test_a_candidate_that_cannot_be_loaded_changes_nothing(
    policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "new.yaml").write_text("version: [")
    found = instrument(policy, audit_dir=tmp_path / "audit", candidate=tmp_path / "new.yaml")
    assert candidate_of(call(tmp_path, pay, amount=500)) == (None, None)
    assert caplog.text.count("was refused, which changes no verdict") == 1
    assert found.runtime.recorder._counts.read("aegis.candidate.errors") == {(): 1}


def test_a_saved_candidate_is_read_again(policy: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    found = instrument(policy, audit_dir=tmp_path / "audit", candidate=new, reload_interval=0.02)
    new.write_text(CANDIDATE.replace("block", "approve"))

    async def until_read() -> None:
        while found.runtime.candidate != Policy.from_yaml(new):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(until_read(), 10))
    assert candidate_of(call(tmp_path, pay, amount=500)) == ("approve", "large")
    found.uninstrument()
    assert not any(watch._thread for watch in found._watches)


def test_what_is_no_candidate_is_refused_and_nothing_is_installed(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`candidate` is a mapping"):
        instrument(policy, audit_dir=tmp_path / "audit", candidate={"version": "1"})  # type: ignore[arg-type]
    assert Instrumentation.current is None


def test_a_row_says_by_what_else_a_call_was_judged(policy: Path, tmp_path: Path) -> None:
    """A name that is not plain text is judged by what it looks like; unread arguments are said to be."""
    instrument(policy, audit_dir=tmp_path / "audit")
    odd = function_tool(pay.__wrapped__, name_override="p\u0430y")  # a Cyrillic letter
    row = call(tmp_path, odd, amount=1)
    assert json.loads(row["other_names"]) == [["pay", "default"]]
    assert row["arguments_reading"] == "unvalidated"
    assert call(tmp_path, pay, amount=1)["other_names"] is None
