"""The files of a running policy: found by content, taken together, whole or not at all."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Policy, PolicyError, semconv
from aegis_otel.runtime.policy_reload import Change, PolicyFiles
from aegis_otel.telemetry.instruments import Counts
from tests.support.kit import Bench

BLOCKS = "rules:\n  - {name: no_deletes, match: {type: delete_*}, approval: block, risk_level: critical}\n"
ALLOWS = "rules:\n  - {name: anything, approval: auto, risk_level: low}\n"
BASE = "defaults: {approval: auto}\n" + ALLOWS


def write(folder: Path, **texts: str) -> list[Path]:
    paths = [folder / f"{name}.yaml" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths


def watch(in_force: Policy, *paths: Path | str) -> PolicyFiles:
    """A watch that has found the files to be what is in force."""
    files = PolicyFiles(paths, 1.0)
    files.begin(in_force)
    assert settled(files, in_force) is None
    return files


def settled(files: PolicyFiles, in_force: Policy) -> Change | None:
    """What the second look finds: a change is never found by the first."""
    assert files.poll(in_force) is None
    return files.poll(in_force)


def loaded(files: PolicyFiles, in_force: Policy) -> Policy:
    change = settled(files, in_force)
    assert change is not None
    assert isinstance(change.outcome, Policy), change.outcome
    return change.outcome


def refused(files: PolicyFiles, in_force: Policy) -> Exception:
    change = settled(files, in_force)
    assert change is not None
    assert isinstance(change.outcome, Exception), change.outcome
    return change.outcome


def rules(policy: Policy) -> list[str]:
    return [rule.name for rule in policy.rules]


def test_a_change_is_found_within_the_interval(tmp_path: Path) -> None:
    """The second look comes sooner than the first, and both fit into one interval."""
    (path,) = write(tmp_path, policy=BLOCKS)
    policy = Policy.from_yaml(path)
    files = watch(policy, path)
    usual = files.pause
    path.write_text(ALLOWS)
    assert files.poll(policy) is None
    assert files.pause < usual
    assert files.pause + usual == pytest.approx(1.0)
    assert files.poll(policy) is not None
    assert files.pause == usual


def test_what_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """Its first half is a policy, too; and what was written and taken back is no change."""
    (path,) = write(tmp_path, policy=BLOCKS)
    policy = Policy.from_yaml(path)
    files = watch(policy, path)
    text = ALLOWS
    for number in range(5):
        path.write_text(text)
        assert files.poll(policy) is None
        text += f"  - {{name: r{number}}}\n"
    path.write_text(BLOCKS)
    assert settled(files, policy) is None
    path.write_text(text)
    assert len(loaded(files, policy).rules) == 6


def test_a_change_between_loading_and_watching_is_found(tmp_path: Path) -> None:
    """Nothing else would bring it into force before the next one."""
    (path,) = write(tmp_path, policy=BLOCKS)
    policy = Policy.from_yaml(path)
    path.write_text(ALLOWS)
    files = PolicyFiles(path, 1.0)
    files.begin(policy)
    assert rules(loaded(files, policy)) == ["anything"]


def test_files_the_policy_is_not_made_of_are_known_as_they_are(tmp_path: Path) -> None:
    """A policy given in code stays until the file changes; then the file is the policy."""
    (path,) = write(tmp_path, policy=ALLOWS)
    policy = Policy.from_text(BLOCKS)
    files = watch(policy, path)
    path.write_text(ALLOWS.replace("anything", "changed"))
    assert rules(loaded(files, policy)) == ["changed"]


def test_a_change_that_was_not_taken_is_found_again(tmp_path: Path) -> None:
    """As in a process that was forked between the look and the update of its policy."""
    (path,) = write(tmp_path, policy=BLOCKS)
    policy = Policy.from_yaml(path)
    files = watch(policy, path)
    path.write_text(ALLOWS)
    assert loaded(files, policy) == loaded(files, policy)


def test_b49_touching_base_keeps_the_rules_of_prod(tmp_path: Path) -> None:
    """The files are one policy, in their order."""
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    policy = Policy.from_yaml_files(prod, base)
    files = watch(policy, prod, base)
    base.write_text(BASE.replace("anything", "changed"))
    new = loaded(files, policy)
    assert rules(new) == ["no_deletes", "changed"]
    assert new.evaluate(Action("delete_x")).approval == "block"
    prod.write_text(BLOCKS.replace("no_deletes", "none"))
    assert rules(loaded(files, new)) == ["none", "changed"]


def test_b49_what_is_not_watched_stays_in_its_place(tmp_path: Path) -> None:
    """A watch of one file of several, or of the file that a policy in code was merged with."""
    first = Policy.from_text("rules:\n  - {name: in_code, match: {type: x}, approval: block}\n")
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    policy = first.merge(Policy.from_yaml_files(prod, base))
    files = watch(policy, base)
    base.write_text(BASE.replace("anything", "changed"))
    new = loaded(files, policy)
    assert rules(new) == ["in_code", "no_deletes", "changed"]
    files = watch(new, prod)
    prod.write_text(BLOCKS.replace("no_deletes", "none"))
    assert rules(loaded(files, new)) == ["in_code", "none", "changed"]


def test_the_order_given_is_the_order_of_precedence(tmp_path: Path) -> None:
    """Where all files are watched, nothing else says which comes first."""
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    policy = Policy.from_yaml_files(base, prod)
    files = PolicyFiles([prod, base], 1.0)
    files.begin(policy)
    assert rules(loaded(files, policy)) == ["no_deletes", "anything"]


def delete(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def says(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (delete, "prod.yaml: policy file not found"),
        (pipe, "prod.yaml: policy file cannot be read: not a regular file"),
        (folder, "prod.yaml: policy file cannot be read: is a directory"),
        (says(BLOCKS.replace("approval", "aproval")), "prod.yaml:2:49: unknown key `aproval`"),
        (says(BLOCKS.replace("no_deletes", "anything")), "base.yaml:3:6: "),
        (says(b"rules: [\xff"), "prod.yaml:1:9: not UTF-8"),
        (says(""), "prod.yaml:1:1: the policy is empty"),
        (says("defaults: {approval: auto}\n"), "prod.yaml: no `rules` are left in it"),
        (says("rules: []\n"), "prod.yaml: no `rules` are left in it"),
        (says("#" * 5_000_000), "prod.yaml: is longer than 4 MiB"),
    ],
    ids=["gone", "pipe", "folder", "typo", "twice", "binary", "empty", "cut short", "no rules", "long"],
)
def test_one_bad_file_refuses_all(harm: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    """Also where the rest alone is a policy, one that lets more through."""
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    policy = Policy.from_yaml_files(prod, base)
    files = watch(policy, prod, base)
    base.write_text(BASE.replace("auto", "block", 1))
    harm(prod)
    error = refused(files, policy)
    assert isinstance(error, PolicyError)
    assert message in str(error)


def test_the_problems_of_all_files_are_told(tmp_path: Path) -> None:
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    policy = Policy.from_yaml_files(prod, base)
    files = watch(policy, prod, base)
    prod.unlink()
    base.write_text("rule: []\n")
    error = refused(files, policy)
    assert isinstance(error, PolicyError)
    assert [problem.source for problem in error.problems] == [str(prod), str(base)]


def test_a_file_without_rules_may_go_on_without(tmp_path: Path) -> None:
    """Overrides may be nothing but `defaults`, and so may a whole policy that never had a rule."""
    prod, base = write(tmp_path, prod="defaults: {approval: auto}\n", base=ALLOWS)
    policy = Policy.from_yaml_files(prod, base)
    files = watch(policy, prod, base)
    prod.write_text("defaults: {approval: block}\n")
    assert loaded(files, policy).default.approval == "block"
    policy = Policy.from_yaml(prod)
    files = watch(policy, prod)
    prod.write_text("defaults: {approval: approve}\n")
    assert loaded(files, policy).default.approval == "approve"


def test_a_policy_in_code_is_not_replaced_by_one_without_rules(tmp_path: Path) -> None:
    """Whatever its rules came from, all of them would be gone."""
    (path,) = write(tmp_path, policy=ALLOWS)
    policy = Policy.from_text(BLOCKS)
    files = watch(policy, path)
    path.write_text("defaults: {approval: auto}\n")
    assert "no `rules` are left in it" in str(refused(files, policy))


def test_a_swapped_directory_is_seen(tmp_path: Path) -> None:
    """How a ConfigMap changes: the files are links into `..data`, which is a link that is replaced."""
    for version, text in (("v1", BLOCKS), ("v2", BLOCKS.replace("no_deletes", "new"))):
        (tmp_path / version).mkdir()
        write(tmp_path / version, prod=text, base=BASE)
    (tmp_path / "..data").symlink_to("v1")
    paths = [tmp_path / "prod.yaml", tmp_path / "base.yaml"]
    for path in paths:
        path.symlink_to(Path("..data") / path.name)
    policy = Policy.from_yaml_files(*paths)
    files = watch(policy, *paths)
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert rules(loaded(files, policy)) == ["new", "anything"]


def test_a_program_may_change_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are those that were there when it named them."""
    prod, base = (path.relative_to(tmp_path) for path in write(tmp_path, prod=BLOCKS, base=BASE))
    policy = Policy.from_yaml_files(f"./{prod}", base)
    files = watch(policy, prod)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert settled(files, policy) is None
    (tmp_path / prod).write_text(BLOCKS.replace("no_deletes", "new"))
    assert rules(loaded(files, policy)) == ["new", "anything"]


def test_each_failure_is_told_once(
    bench: Callable[..., Bench], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, as an event and as a count; then the files are as they were, and that is a reload."""
    prod, base = write(tmp_path, prod=BLOCKS, base=BASE)
    b = bench(policy=Policy.from_yaml_files(prod, base))
    files = watch(b.runtime.policy, prod, base)

    def look() -> None:
        for _ in range(6):
            change = files.poll(b.runtime.policy)
            if change is not None:
                files.take(change, b.runtime)

    def told() -> list[str]:
        return [str(event["error.type"]) for event in b.telemetry.events("aegis.policy.load_failed")]

    with caplog.at_level(logging.WARNING, "aegis_otel"):
        prod.unlink()
        look()
        assert told() == ["PolicyNotFound"]
        prod.mkdir()
        look()
        base.write_text("{")
        look()
        assert told() == ["PolicyNotFound", "PolicyError", "PolicyError"]
        assert rules(b.runtime.policy) == ["no_deletes", "anything"]
        assert len(caplog.records) == 3
        prod.rmdir()
        write(tmp_path, prod=BLOCKS, base=BASE)
        look()
    assert len(b.telemetry.events("aegis.policy.loaded")) == 2
    assert b.telemetry.points("aegis.policy.reloads") == {
        (("aegis.policy.reload.outcome", "loaded"),): 1,
        (("aegis.policy.reload.outcome", "refused"),): 3,
    }


def test_reloads_start_at_zero(bench: Callable[..., Bench]) -> None:
    """An alert on an increase sees the first refusal; the first load is no reload."""
    assert set(bench().telemetry.points("aegis.policy.reloads").values()) == {0}


def _count_in_child(counts: Counts, results: Any) -> None:
    counts.add(semconv.METRIC_POLICY_RELOADS, ("refused",))
    results.put(counts.read(semconv.METRIC_POLICY_RELOADS))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_counts_its_own_reloads() -> None:
    """What its parent counted is reported by the parent."""
    counts = Counts()
    counts.add(semconv.METRIC_POLICY_RELOADS, ("loaded",))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_count_in_child, args=(counts, results), daemon=True)
    child.start()
    assert results.get(timeout=20) == {("loaded",): 0, ("refused",): 1}
    child.join(20)
    assert counts.read(semconv.METRIC_POLICY_RELOADS) == {("loaded",): 1, ("refused",): 0}


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf])
def test_an_interval_that_cannot_be_waited_for(interval: float, tmp_path: Path) -> None:
    """It would spin, or never look."""
    with pytest.raises(ConfigError, match="interval is `"):
        PolicyFiles(tmp_path / "policy.yaml", interval)


def test_some_file_must_be_named() -> None:
    with pytest.raises(ConfigError, match="names no policy file"):
        PolicyFiles([], 1.0)
