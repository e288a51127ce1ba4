"""What the conditions on lists, paths, URLs and shell lines cost for one value, on one core.

A figure is the processor time of the shortest of many batches, with the garbage collector off, so that a
busy machine changes it little. `python benchmarks/operators.py [batches]`
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aegis_otel.policy.operators.table import OPERATORS

_CALLS = 2_000
_LINE = (
    "git status --short && ls -la src 2>/dev/null | grep -v 'foo bar'; cat README.md docs/policy.md > "
    "/dev/null && npm run test -- --watch=false --reporter=dot || "
    'echo "it failed" && git log -n 20 | head -5'
)


class Case(NamedTuple):
    about: str
    operator: str
    expected: Any
    """The policy's value."""
    value: Any
    """The value that is judged, which passes."""
    most_us: float


def param_in() -> Case:
    values = [f"value-{number}" for number in range(1_000)]
    return Case("one of 1,000 texts", "param_in", values, values[-1], 3)


def shell_only() -> Case:
    patterns = [
        *("git status *", "ls *", "grep *", "cat *"),
        *("npm run test *", "echo *", "git log *", "head *"),
    ]
    return Case(f"a line of {len(_LINE)} characters, 8 commands", "shell_only", patterns, _LINE, 100)


def date_from() -> Case:
    return Case("a date-time with a zone", "date_from", "2026-12-01", "2026-12-24T18:00:00+01:00", 10)


def path_within() -> Case:
    folders = [f"/srv/project-{number}" for number in range(20)]
    return Case("below one of 20 folders", "path_within", folders, f"{folders[-1]}/src/app/button_list.py", 3)


def path_within_resolved() -> Case:
    path = "/srv/other/../project/src/app//./button_list.py"
    return Case("the same with `..`, `.` and `//`", "path_within", ["/srv/project"], path, 10)


def path_matches() -> Case:
    patterns = ["src/**", "tests/**", "*.md", "!*.key", "!.env"]
    return Case("one of 5 gitignore patterns", "path_matches", patterns, "src/app/lists/button_list.py", 3)


def url_host() -> Case:
    hosts = [*(f"*.host-{number}.example" for number in range(20)), "api.example.org"]
    return Case("one of 21 hosts", "url_host", hosts, "https://api.example.org/v1/items?page=2&size=50", 3)


def url_host_by_ada() -> Case:
    return Case(
        "the same with user info", "url_host", ["api.example.org"], "https://me@api.example.org/v1", 20
    )


CASES = (
    *(param_in, path_within, path_within_resolved, path_matches, url_host, url_host_by_ada),
    *(shell_only, date_from),
)


def microseconds(case: Case, batches: int) -> float:
    """Return the time of one judgement."""
    row = OPERATORS[case.operator]
    checked = row.check(case.expected)
    prepared = checked if row.prepare is None else row.prepare(checked)
    judge: Callable[[Any, Any], Any] = row.judge
    assert judge(case.value, prepared) is True
    best = float("inf")
    for _ in range(batches):
        started = time.process_time()
        for _ in range(_CALLS):
            judge(case.value, prepared)
        best = min(best, time.process_time() - started)
    return best / _CALLS * 1e6


def main() -> int:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    gc.disable()
    missed = False
    for make in CASES:
        case = make()
        took = microseconds(case, batches)
        missed |= took > case.most_us
        print(f"{case.operator:12} {took:7.2f} us (at most {case.most_us:g})  {case.about}")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
