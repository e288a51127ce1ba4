"""CPU seconds of `aegis policy check` on 1,000 rules, the whole command, against an earlier commit, in turns.

Each shape of rules is one that some check could take quadratic time for. A figure is the shortest of several
runs, user and system time of the process together; one of more than half a minute is cut there.
`python benchmarks/policy_check.py [runs [commit]]`
"""

from __future__ import annotations

import io
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMMIT = "29792a5"
RULES = 1000
LONG = "a" * 150
LIMIT = 30.0
"""Seconds after which a run is stopped; its figure is then this one."""
COMMAND = "import sys; from aegis_otel.cli import main; sys.argv[0] = 'aegis'; main()"
Match = dict[str, Any]


def letters(source: random.Random, alphabet: str, count: int) -> str:
    return "".join(source.choice(alphabet) for _ in range(count))


SHAPES: dict[str, Callable[[int, random.Random], tuple[Match, Match]]] = {
    "literal types": lambda n, _: ({"type": f"tool_{n}"}, {}),
    "long globs, infix": lambda n, _: ({"type": f"*{n}_{LONG}*{LONG}_{n}*"}, {}),
    "long globs, mixed": lambda n, _: ({"type": f"{LONG}*_{n}_*{LONG}?"}, {}),
    "long globs, stars": lambda n, _: ({"type": "*a" * 100 + f"*{n}"}, {}),
    "long globs, a thousand letters": lambda n, _: ({"type": "*ab?c" * 190 + f"*{n}"}, {}),
    "random globs": lambda _, source: ({"type": letters(source, "abcdefgh*?*", source.randint(5, 30))}, {}),
    "random globs of few letters": lambda _, source: ({"type": letters(source, "ab*?", 9)}, {}),
    "random targets": lambda _, source: ({"type": "*", "target": letters(source, "abcd/*?", 12)}, {}),
    "lists": lambda _, source: (
        {
            "type": [letters(source, "abcdefgh_*", 10) for _ in range(5)],
            "target": [letters(source, "abc*", 5) for _ in range(3)],
        },
        {},
    ),
    "five types": lambda n, _: (
        {"type": [f"{verb}_{n}*" for verb in ("get", "set", "del", "put", "post")], "target": f"t{n % 7}"},
        {},
    ),
    "five conditions": lambda n, _: (
        {"type": f"tool_{n}*"},
        {
            "param_matches": {"path": f"^/srv/{n}/", "command": f"^ls [a-z{n}]+$"},
            "param_lte": {"amount": n},
            "param_eq": {"env": f"e{n}"},
            "param_contains": {"url": f"h{n}"},
        },
    ),
    "shell patterns": lambda n, _: (
        {"type": f"run_{n}"},
        {"param_matches": {"command": f"^(ls|cat|git (status|diff)) [a-z{n} ./-]*$"}},
    ),
    "one condition for every tool": lambda n, _: ({"type": "*"}, {"param_eq": {"env": f"e{n}"}}),
    "times": lambda n, _: (
        {"type": "*"},
        {"time_after": f"{n % 24:02}:{n % 60:02}", "weekdays": [n % 7 + 1]},
    ),
}


def policy(shape: str, first: int = 0, count: int = RULES) -> dict[str, Any]:
    """`count` rules of a shape, `auto` and `block` in turns."""
    source, rules = random.Random(shape), []
    for number in range(first, first + count):
        match, conditions = SHAPES[shape](number, source)
        approval = ("auto", "block")[number % 2]
        rules.append({"match": match, "conditions": conditions, "approval": approval})
    return {"defaults": {"approval": "approve"}, "rules": rules}


def seconds(package: Path, file: Path) -> float:
    """CPU seconds of one run of the command with the package in `package`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "policy", "check", str(file)],
            cwd=file.parent,
            env={**os.environ, "PYTHONPATH": str(package)},
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return LIMIT
    assert done.returncode in (0, 1), done
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(runs: int = 3, commit: str = COMMIT) -> None:
    """Print a line for each shape: seconds now, seconds at `commit`, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.check_output(["git", "-C", str(ROOT), "archive", commit, "aegis_otel"])
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(Path(folder, "before"), filter="data")
        file = Path(folder, "policy.yaml")
        print(f"{'CPU seconds of 1,000 rules':34} now    {commit}  ratio")
        for shape in SHAPES:
            file.write_text(yaml.safe_dump(policy(shape)))
            pairs = [(seconds(ROOT, file), seconds(Path(folder, "before"), file)) for _ in range(runs)]
            now, before = (min(each) for each in zip(*pairs, strict=True))
            print(f"{shape:34} {now:5.2f}  {before:5.2f}  {now / before:5.2f}", flush=True)


if __name__ == "__main__":
    main(*(int(each) if each.isdigit() else each for each in sys.argv[1:]))  # type: ignore[arg-type]
