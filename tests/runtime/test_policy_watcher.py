"""Hot reload: whole or not at all, by content, and said so."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Policy, PolicyWatcher, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
BLOCKING = 'version: "1"\nrules:\n  - {name: all, approval: block, risk_level: high}\n'
ALLOWING = 'version: "1"\nrules:\n  - {name: any, approval: auto, risk_level: low}\n'


@asynccontextmanager
async def watched(bench: BENCH, path: Path, text: str = BLOCKING, **options: Any) -> AsyncIterator[Bench]:
    path.write_text(text)
    b = bench(policy=Policy.from_yaml(path))
    async with PolicyWatcher(b.runtime, path, interval=0.02, **options):
        yield b


async def rule_becomes(b: Bench, name: str) -> None:
    async with asyncio.timeout(5):
        while b.runtime.policy.evaluate(Action("x")).matched_rule != name:
            await asyncio.sleep(0.01)


async def load_failures(b: Bench, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        while len(found := b.telemetry.events("aegis.policy.load_failed")) < count:
            await asyncio.sleep(0.01)
    return found


async def test_a_change_comes_into_force(bench: BENCH, tmp_path: Path) -> None:
    """Inventory 79: the new policy is in force when on_reload hears of it; the digest is on the event."""
    heard: list[Policy] = []

    async def on_reload(policy: Policy) -> None:
        heard.append(policy)

    async with watched(bench, tmp_path / "p.yaml", on_reload=on_reload) as b:
        (tmp_path / "p.yaml").write_text(ALLOWING)
        await rule_becomes(b, "any")
        await asyncio.sleep(0.05)
        assert heard == [b.runtime.policy]
        loaded = [event["aegis.policy.digest"] for event in b.telemetry.events("aegis.policy.loaded")]
        assert loaded[-1] == b.runtime.policy.digest


@pytest.mark.parametrize(
    "broken",
    [
        'version: "1"\ndefaults: {approval: auto}\n',
        'version: "1"\nrules: []\n',
        "",
        'version: "1"\nrules:\n  - {name: all, aproval: block}\n',
        "rules: [\x00",
    ],
    ids=["truncated after defaults", "no rules left", "empty", "typo", "binary"],
)
async def test_b47_a_broken_file_keeps_the_old_policy(
    broken: str, bench: BENCH, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Inventory 80: refused, logged once, told to telemetry; the blocking rule stays in force."""
    async with watched(bench, tmp_path / "p.yaml") as b:
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            (tmp_path / "p.yaml").write_text(broken)
            await load_failures(b, 1)
            await asyncio.sleep(0.1)
        assert b.runtime.policy.evaluate(Action("x")).matched_rule == "all"
        assert len(b.telemetry.events("aegis.policy.load_failed")) == 1
        assert len([r for r in caplog.records if "was refused" in r.message]) == 1
        (tmp_path / "p.yaml").write_text(ALLOWING)
        await rule_becomes(b, "any")


async def test_b48_content_counts_not_the_time_stamp(bench: BENCH, tmp_path: Path) -> None:
    """An edit that keeps size and mtime is seen; a touch that changes nothing is no reload."""
    path = tmp_path / "p.yaml"
    async with watched(bench, path) as b:
        before = path.stat()
        path.write_text(BLOCKING.replace("all", "new"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        await rule_becomes(b, "new")
        reloads = len(b.telemetry.events("aegis.policy.loaded"))
        os.utime(path)
        await asyncio.sleep(0.1)
        assert len(b.telemetry.events("aegis.policy.loaded")) == reloads


async def test_b48_a_missing_file_is_told_once(
    bench: BENCH, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The policy in force stays; one warning, not one an interval; a file that comes back is taken."""
    path = tmp_path / "p.yaml"
    async with watched(bench, path) as b:
        with caplog.at_level(logging.WARNING, "aegis_otel"):
            path.unlink()
            await load_failures(b, 1)
            await asyncio.sleep(0.1)
        assert len(caplog.records) == 1
        assert b.runtime.policy.evaluate(Action("x")).matched_rule == "all"
        path.write_text(ALLOWING)
        await rule_becomes(b, "any")


async def test_b49_all_files_of_a_merged_policy_are_watched(bench: BENCH, tmp_path: Path) -> None:
    """Touching base keeps prod's rules; without prod, nothing of base comes into force."""
    prod, base = tmp_path / "prod.yaml", tmp_path / "base.yaml"
    prod.write_text(BLOCKING.replace("name: all", "name: no_deletes, match: {type: delete_*}"))
    base.write_text(ALLOWING)
    b = bench(policy=Policy.from_yaml_files(prod, base))
    async with PolicyWatcher(b.runtime, [prod, base], interval=0.02):
        base.write_text(ALLOWING.replace("any", "more"))
        await rule_becomes(b, "more")
        assert b.runtime.policy.evaluate(Action("delete_x")).matched_rule == "no_deletes"
        prod.unlink()
        base.write_text(ALLOWING.replace("any", "less"))
        await load_failures(b, 1)
        assert [rule.name for rule in b.runtime.policy.rules] == ["no_deletes", "more"]


async def test_b50_every_decision_says_which_policy_it_was(bench: BENCH, tmp_path: Path) -> None:
    """The digest in the audit and on the decision event is that of the last event about a policy."""

    class Succeeds(BaseExecutor):
        async def execute(self, action: Action) -> Result:
            return Result(action, ResultStatus.SUCCESS)

    path = tmp_path / "p.yaml"
    path.write_text(BLOCKING)
    b = bench(policy=Policy.from_yaml(path), executor=Succeeds())
    async with PolicyWatcher(b.runtime, path, interval=0.02):
        await b.runtime.run_one(Action("x"))
        path.write_text("{")
        await load_failures(b, 1)
        await b.runtime.run_one(Action("x"))
        path.write_text(ALLOWING)
        await rule_becomes(b, "any")
        await b.runtime.run_one(Action("x"))
    first, second = (event["aegis.policy.digest"] for event in b.telemetry.events("aegis.policy.loaded"))
    assert [row["policy_digest"] for row in b.rows()] == [first, first, second]
    decisions = b.telemetry.events("aegis.tool.decision")
    assert [event["aegis.policy.digest"] for event in decisions] == [first, first, second]
    assert set(b.telemetry.points("aegis.policy.reloads").items()) == {
        ((("aegis.policy.reload.outcome", "loaded"),), 1),
        ((("aegis.policy.reload.outcome", "refused"),), 1),
    }


async def test_a_file_that_is_being_written_is_waited_for(bench: BENCH, tmp_path: Path) -> None:
    """Growing content is not loaded half way, though its first half is a valid policy."""
    path = tmp_path / "p.yaml"
    half = 'version: "1"\nrules:\n  - {name: half, approval: auto, risk_level: low}\n'
    async with watched(bench, path) as b:
        seen: set[str] = set()
        text = half
        for n in range(40):
            text += f"  - {{name: r{n}, match: {{type: t{n}}}, approval: block, risk_level: high}}\n"
            path.write_text(text)
            await asyncio.sleep(0.004)
            seen.add(b.runtime.policy.rules[0].name + str(len(b.runtime.policy.rules)))
        await rule_becomes(b, "half")
        assert len(b.runtime.policy.rules) == 41


async def test_inventory_78_start_and_stop_are_idempotent(bench: BENCH, tmp_path: Path) -> None:
    """Twice is once, and a stopped watcher changes nothing."""
    path = tmp_path / "p.yaml"
    path.write_text(BLOCKING)
    b = bench(policy=Policy.from_yaml(path))
    watcher = PolicyWatcher(b.runtime, path, interval=0.02)
    await watcher.start()
    await watcher.start()
    tasks = [t for t in asyncio.all_tasks() if t.get_name() == "aegis-policy-watcher"]
    assert len(tasks) == 1
    await watcher.stop()
    await watcher.stop()
    path.write_text(ALLOWING)
    await asyncio.sleep(0.1)
    assert b.runtime.policy.evaluate(Action("x")).matched_rule == "all"


async def test_a_policy_in_code_stays_until_the_file_changes(bench: BENCH, tmp_path: Path) -> None:
    """The file is known as it was when the watch began."""
    path = tmp_path / "p.yaml"
    path.write_text(ALLOWING)
    b = bench(policy=Policy.from_text(BLOCKING))
    async with PolicyWatcher(b.runtime, path, interval=0.02):
        await asyncio.sleep(0.1)
        assert b.runtime.policy.evaluate(Action("x")).matched_rule == "all"
        path.write_text(ALLOWING.replace("any", "new"))
        await rule_becomes(b, "new")


async def test_a_raising_on_reload_does_not_end_the_watch(bench: BENCH, tmp_path: Path) -> None:
    """The callback is the user's; the watcher goes on."""

    def bad(policy: Policy) -> None:
        raise RuntimeError("mine")

    async with watched(bench, tmp_path / "p.yaml", on_reload=bad) as b:
        (tmp_path / "p.yaml").write_text(ALLOWING)
        await rule_becomes(b, "any")
        (tmp_path / "p.yaml").write_text(BLOCKING)
        await rule_becomes(b, "all")
        assert sum(b.telemetry.points("aegis.hook.errors").values()) >= 1


def test_an_interval_must_be_positive(bench: BENCH, tmp_path: Path) -> None:
    """Zero or less would spin."""
    with pytest.raises(ConfigError, match="interval is `0`"):
        PolicyWatcher(bench().runtime, tmp_path / "p.yaml", interval=0)
