"""`aegis report --candidate`: what another policy would have decided, in the page."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.model import Action
from aegis_otel.policy import Policy
from tests.support.recorded_calls import START_NS, MadeCall, write_calls

OLD = 'version: "1"\ndefaults: {approval: block}\n'
NEW = (
    'version: "1"\ndefaults: {approval: block}\nrules:\n'
    "  - {name: <b>looser</b>, match: {type: drop}, approval: auto}\n"
    "  - {name: keyed, match: {type: pay}, conditions: {param_eq: {password: x}}, approval: auto}\n"
)
CALLS = [Action("read"), Action("drop"), Action("drop"), Action("pay", params={"password": "hunter2"})]


def run(folder: Path, *options: str) -> Result:
    calls = [MadeCall(action, START_NS) for action in CALLS]
    write_calls(folder / "audit", calls, Policy.from_text(OLD)).close()
    (folder / "new.yaml").write_text(NEW)
    return CliRunner().invoke(main, ["report", "--path", str(folder / "audit"), "--out", "-", *options])


def test_the_page_shows_what_would_be_decided_otherwise(tmp_path: Path) -> None:
    result = run(tmp_path, "--candidate", str(tmp_path / "new.yaml"))
    assert result.exit_code == 0
    assert "<b>" not in result.output
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", result.output.replace("<wbr>", "")))
    assert "of 4 calls 1 would be decided alike; 1 cannot be replayed" in text
    assert "looser block by &lt;default&gt; auto by &lt;b&gt;looser&lt;/b&gt; 2" in text
    assert "rules read parameter `password`, of which something was redacted or cut 1" in text
    assert Policy.from_text(NEW).digest in text


def test_another_risk_is_shown_apart(tmp_path: Path) -> None:
    policy = tmp_path / "riskier.yaml"
    policy.write_text("defaults: {approval: block, risk_level: critical}")
    result = run(tmp_path, "--candidate", str(policy))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", result.output.replace("<wbr>", "")))
    assert "of 4 calls 0 would be decided alike, and 4 alike but for the risk; 0 cannot be replayed" in text
    assert "other risk block by &lt;default&gt;, MEDIUM block by &lt;default&gt;, CRITICAL 4" in text


def test_without_a_candidate_there_is_no_such_section(tmp_path: Path) -> None:
    assert "Under another policy" not in run(tmp_path).output


def test_a_candidate_that_is_not_valid_writes_no_page(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: [")
    result = run(tmp_path, "--candidate", str(tmp_path / "bad.yaml"))
    assert "not valid YAML" in result.output
    assert "<html" not in result.output
    assert result.exit_code == 3
