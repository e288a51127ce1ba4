"""Run the SDK's own test suite without us and with us, and compare what came of each test.

    python tests/sdk/run.py SUITE [--mode enforce --mode sdk] [--quick]

The interpreter that runs this runs the suite: openai-agents, what its tests need and aegis-otel are
installed in it. SUITE is the unpacked source distribution of the same openai-agents.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_LISTING = HERE / "differences.toml"
BASELINE = "baseline"
MODES = ("enforce", "monitor", "sdk", "processor")
MOST_DIFFERENCES = 25
_RERUNS = 2
_TOO_MANY = 200
"""Tests that differ are run again, unless so many do that something else is wrong."""
_LINE = "\N{EM DASH}"

Outcomes = dict[str, str]


def main() -> int:
    """Return 0 where exactly the listed tests differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", type=Path, help="the unpacked source distribution")
    parser.add_argument("--mode", action="append", choices=MODES, help="default: all")
    parser.add_argument("--quick", action="store_true", help="only what QUICK lists: what meets tools")
    parser.add_argument("--workers", default="2")
    parser.add_argument("tests", nargs="*", help="only these files or tests, as pytest names them")
    options = parser.parse_intermixed_args()
    suite = Suite(options.suite, options.workers)
    listed = read_differences()
    tests = options.tests or (suite.quick() if options.quick else [])
    baseline = suite.run(BASELINE, tests)
    wrong = 0
    for mode in options.mode or MODES:
        expected = {test for test, where in listed.items() if mode in where and test in baseline}
        wrong += suite.compare(mode, tests, baseline, expected)
    return 1 if wrong else 0


def read_differences() -> dict[str, list[str]]:
    """Return the modes in which each listed test of this SDK may differ.

    Raises:
        SystemExit: the list is longer than it may be, or an entry is incomplete.
    """
    entries = _listing().get("difference", [])
    if len({entry["test"] for entry in entries}) > MOST_DIFFERENCES:
        raise SystemExit(f"{_LISTING.name}: {len(entries)} tests, at most {MOST_DIFFERENCES} may differ")
    if any(not entry.get("reason") for entry in entries):
        raise SystemExit(f"{_LISTING.name}: every entry needs a `reason`")
    installed = version("openai-agents")
    return {
        entry["test"]: entry.get("modes", list(MODES))
        for entry in entries
        if installed in entry.get("sdk", [installed])
    }


def _listing() -> dict[str, Any]:
    return tomllib.loads(_LISTING.read_text())


class Suite:
    """The tests of one version of the SDK."""

    def __init__(self, root: Path, workers: str) -> None:
        self._root = root.resolve()
        self._workers = workers
        self._broken = [entry["test"] for entry in _listing().get("broken", [])]

    def quick(self) -> list[str]:
        """Return the test files that meet tools, guardrails, approvals or saved states."""
        words = _listing()["quick"]
        found = []
        for path in sorted(self._root.glob("tests/**/test_*.py")):
            name = str(path.relative_to(self._root))
            if any(name.startswith(prefix) for prefix in words["without"]):
                continue
            text = path.read_text()
            if any(word in text for word in words["words"]):
                found.append(name)
        return found

    def run(self, mode: str, tests: Iterable[str]) -> Outcomes:
        """Return the outcome of each test; raises SystemExit where the run itself breaks.

        As the SDK's own Makefile does: what is marked serial runs in one process, and not beside others.
        """
        parallel = ["-n", self._workers, "--dist", "worksteal", "-m", "not serial"]
        return self._pytest(mode, ["-m", "serial", *tests]) | self._pytest(mode, [*parallel, *tests])

    def _pytest(self, mode: str, arguments: Iterable[str]) -> Outcomes:
        print(f"{version('openai-agents')} {mode}: running", flush=True)
        with tempfile.TemporaryDirectory(prefix="aegis-sdk-", ignore_cleanup_errors=True) as scratch:
            outcomes = Path(scratch, "outcomes")
            command = [sys.executable, "-m", "pytest", "-p", "aegis_sdk_plugin", "-p", "no:cacheprovider"]
            command += ["-q", "--no-header", "--tb", "no", "--timeout", "300"]
            command += ["--continue-on-collection-errors"]  # of tests that need the SDK's repository
            command += [f"--deselect={test}" for test in self._broken]
            done = subprocess.run(
                [*command, *arguments],
                cwd=self._root,
                env=self._environment()
                | {"AEGIS_SDK_MODE": mode, "AEGIS_SDK_SCRATCH": scratch, "AEGIS_SDK_OUTCOMES": str(outcomes)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            # 1: some tests failed; 5: there is none to run; anything else: the run broke.
            if done.returncode not in (0, 1, 5) or not outcomes.exists():
                raise SystemExit(f"{mode}: pytest ended with {done.returncode}:\n{done.stdout[-5000:]}")
            lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
        print(f"{version('openai-agents')} {mode}: {done.stdout.strip().splitlines()[-1]}", flush=True)
        return {line["test"]: line["outcome"] for line in lines}

    def _environment(self) -> dict[str, str]:
        """Return the environment of a run; its tests look for the SDK in the suite itself."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AEGIS_", "OTEL_"))}
        return {**own, "PYTHONPATH": os.pathsep.join([str(HERE), str(self._root / "src")])}

    def compare(
        self, mode: str, tests: Iterable[str], baseline: Mapping[str, str], expected: set[str]
    ) -> int:
        """Print what differs and should not, and what should and does not; return how many."""
        seen = different(baseline, self.run(mode, tests))
        for _ in range(_RERUNS):
            suspects = sorted(seen ^ expected)
            if not suspects or len(suspects) > _TOO_MANY:
                break
            without, with_us = (self._pytest(each, suspects) for each in (BASELINE, mode))
            again = different(without, with_us) | {test for test in suspects if test not in without}
            # What differs only now and then is the test's own unsteadiness.
            seen = seen - (set(suspects) - expected - again) | (again & expected)
        for test in sorted(seen - expected):
            print(f"{mode}: DIFFERS {_LINE} {test}")
        for test in sorted(expected - seen):
            print(f"{mode}: listed, and does not differ {_LINE} {test}")
        print(f"{mode}: {len(seen)} tests differ, {len(expected)} of them are listed", flush=True)
        return len(seen ^ expected)


def different(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """Return the tests with another outcome, or with none on one side."""
    return {test for test in one.keys() | other.keys() if one.get(test) != other.get(test)}


if __name__ == "__main__":
    sys.exit(main())
