"""CPU seconds of `aegis policy test` on 1,000 cases, the whole command: the shortest of several runs.

`python benchmarks/policy_test.py [runs]`
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = 1000
POLICY = """
rules:
  - { name: large, match: { type: pay }, conditions: { param_gt: { amount: 1000 } }, approval: block }
  - { name: small, match: { type: pay }, conditions: { param_lte: { amount: 50 } }, approval: auto }
"""
COMMAND = "import sys; from aegis_otel.cli import main; sys.argv[0] = 'aegis'; main()"


def expected(amount: int) -> str:
    return "block" if amount > 1000 else "auto" if amount <= 50 else "approve"


def cases() -> str:
    """Return a file of cases that all pass."""
    lines = ["cases:"]
    for amount in range(1, CASES + 1):
        lines += [
            f"  - name: pay {amount}",
            f"    action: {{ type: pay, params: {{ amount: {amount} }} }}",
            f"    expect: {{ approval: {expected(amount)} }}",
        ]
    return "\n".join(lines)


def cpu_seconds(folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["policy", "test", "cases.yaml", "--policy", "policy.yaml"]
    subprocess.run([sys.executable, "-c", COMMAND, *arguments], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "policy.yaml").write_text(POLICY)
        Path(folder, "cases.yaml").write_text(cases())
        print(f"{CASES} cases: {min(cpu_seconds(folder) for _ in range(runs)):.2f} s of CPU")


if __name__ == "__main__":
    main()
