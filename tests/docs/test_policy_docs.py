"""docs/policy.md: every policy loads, every snippet runs, every command prints what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.lint import lint
from aegis_otel.policy.lint.finding import TEXTS
from aegis_otel.policy.loading.schema import KEYS
from tests.support.pages import ROOT, Block, blocks_of, follow, read_page, unnamed_files

TEXT = read_page("policy.md")
BLOCKS = blocks_of(TEXT)
POLICIES = [block for block in BLOCKS if block.language == "yaml"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", POLICIES, ids=lambda block: block.file or block.text[:40])
def test_every_policy_loads_and_has_no_finding(block: Block) -> None:
    """But for the one that shows what is refused, and the one that shows an error."""
    if block.file == "broken.yaml":
        with pytest.raises(PolicyError):
            Policy.from_text(block.text)
        return
    found = [finding.severity for finding in lint(Policy.from_text(block.text))]
    assert found == (["error"] if block.file == "shadowed.yaml" else [])


@pytest.mark.timeout(300)
def test_every_block_works_in_turn(folder: Path) -> None:
    follow(BLOCKS, folder)


def test_the_page_says_how_to_name_each_file() -> None:
    assert unnamed_files(BLOCKS) == []


def test_every_key_is_described() -> None:
    """Each stands in a table, and in a policy that loads."""
    keys = {key for section in KEYS.values() for key in section} - {"match"}
    tables = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    policies = "\n".join(block.text for block in POLICIES)
    assert {key for key in keys if not re.search(rf"`(\w+\.)?{key}`", tables)} == set()
    assert {key for key in keys if f"{key}:" not in policies} == set()


def test_every_finding_is_described() -> None:
    """The table of docs/policy.md names what the linter can find, and nothing else."""
    kinds = {what.partition("/")[0] for what in TEXTS}
    table = TEXT[TEXT.index("| finding | severity |") :].partition("\n\n")[0]
    described = {
        kind for line in table.splitlines()[2:] for kind in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert kinds == described


def test_every_text_of_a_finding_is_used() -> None:
    """Each key of data/findings.json stands in a check."""
    source = "".join(path.read_text() for path in (ROOT / "aegis_otel/policy/lint").glob("*.py"))
    made = {f"no-{what}" for what in ("target", "agent")}
    assert {what for what in TEXTS if f'"{what}"' not in source} == made


def test_the_globs_do_not_match_what_is_said() -> None:
    """B23, as the document has it."""
    said = re.search(r"What `delete_\*` does \*\*not\*\* match:\n\n(.*?)\n\n", TEXT, re.DOTALL)
    assert said
    policy = Policy.from_dict({"rules": [{"name": "r", "match": {"type": "delete_*"}}]})
    names = re.findall(r"^- `(\w+|\w+-\w+)`", said[1], re.MULTILINE)
    assert len(names) == 4
    assert [policy.evaluate(Action(name)).matched_rule for name in names] == ["<default>"] * 4


def test_the_weekend_window_is_as_said() -> None:
    from datetime import UTC, datetime

    (policy,) = [Policy.from_text(block.text) for block in POLICIES if "weekend_nights" in block.text]
    hours = {
        datetime(2026, 3, 7, 5): "<default>",  # a Saturday
        datetime(2026, 3, 7, 22): "weekend_nights",
        datetime(2026, 3, 9, 5, 59): "weekend_nights",
        datetime(2026, 3, 9, 6): "<default>",
    }
    assert {
        hour: policy.evaluate(Action("deploys"), now=hour.replace(tzinfo=UTC)).matched_rule for hour in hours
    } == hours
