"""One policy decision against agent-aegis's, both in one process, in turns.

Of the rules, 60 % have a literal type, 30 % `word.*`, 10 % `*_word_delete`; half of the targets are `*`,
30 % literal, 20 % `prefix/*`; none overlap, and only the last rule matches (its type is of the third
kind). A figure is the shortest of many batches, with the garbage collector off. The machine's speed
wanders, so only the ratios say something. `python benchmarks/decision.py [batches]`
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import aegis

from aegis_otel import Action, Policy

SIZES = (10, 100, 1_000, 10_000)
CONDITIONS = {"param_gt": {"amount": 100}, "param_eq": {"currency": "EUR"}}
PARAMS = {"amount": 500, "currency": "EUR", "note": "lunch"}
Run = Callable[[int], object]
"""Makes that many decisions."""


class Case(NamedTuple):
    about: str
    target: str
    """The target pattern of the rule that matches."""
    conditions: dict[str, Any]
    least: dict[int, float]
    """The ratio to reach, by number of rules."""


CASES = (
    Case("last rule matches", "*", {}, {100: 40, 1_000: 300}),
    Case("last rule matches, its target a prefix", "repo/*", {}, {100: 40, 1_000: 300}),
    Case("the same, a target never seen before", "repo/*", {}, {}),
    Case("two conditions on every rule", "*", CONDITIONS, {100: 40, 1_000: 300}),
    Case("two conditions, target a prefix", "repo/*", CONDITIONS, {100: 40, 1_000: 300}),
)


def rules(count: int, case: Case) -> dict[str, Any]:
    kinds = ("tool_{n}",) * 6 + ("word{n}.*",) * 3 + ("*_word{n}_delete",)
    targets = ("*", "db{n}", "*", "dir{n}/*", "*", "db{n}", "*", "dir{n}/*", "*", "db{n}")
    made = [
        {
            "name": f"rule{n}",
            "match": {"type": kinds[n % 10].format(n=n), "target": targets[n * 7 % 10].format(n=n)},
            "conditions": case.conditions,
            "risk_level": "high",
            "approval": "approve",
        }
        for n in range(count - 1)
    ]
    last = {"name": "last", "match": {"type": "*_last_delete", "target": case.target}, "approval": "block"}
    return {"version": "1", "rules": [*made, {**last, "conditions": case.conditions}]}


def repeated(policy: Any, action: Any) -> Run:
    assert policy.evaluate(action).matched_rule == "last"
    evaluate = policy.evaluate

    def run(count: int) -> None:
        for _ in range(count):
            evaluate(action)

    return run


def fresh(policy: Any, make: Callable[[str], Any]) -> Run:
    """Every decision is about another action, made before the clock starts."""
    assert policy.evaluate(make("first")).matched_rule == "last"
    evaluate, serial = policy.evaluate, 0

    def run(count: int) -> float:
        nonlocal serial
        actions = [make(f"{serial + n}") for n in range(count)]
        serial += count
        start = time.perf_counter()
        for action in actions:
            evaluate(action)
        return time.perf_counter() - start

    return run


def shortest(sides: tuple[Run, Run], counts: tuple[int, int], batches: int) -> list[float]:
    """Microseconds per decision of each side, measured in turns."""
    best = [float("inf")] * 2
    for _ in range(batches):
        for side, (run, count) in enumerate(zip(sides, counts, strict=True)):
            start = time.perf_counter()
            inner = run(count)
            taken = inner if isinstance(inner, float) else time.perf_counter() - start
            best[side] = min(best[side], taken / count * 1e6)
    return best


def compare(case: Case, size: int, batches: int) -> list[float]:
    data = rules(size, case)
    ours, peer = Policy.from_dict(data), aegis.Policy.from_dict(data)
    counts = (20_000, max(5, 20_000 // size))
    if "never seen" in case.about:
        sides = (
            fresh(ours, lambda name: Action("x_last_delete", f"repo/{name}", PARAMS)),
            fresh(peer, lambda name: aegis.Action("x_last_delete", f"repo/{name}", params=PARAMS)),
        )
    else:
        sides = (
            repeated(ours, Action("x_last_delete", "repo/1", PARAMS)),
            repeated(peer, aegis.Action("x_last_delete", "repo/1", params=PARAMS)),
        )
    return shortest(sides, counts, batches)


def first_of_a_name(size: int, batches: int) -> list[float]:
    """Each decision is the first one for its tool, so each makes a plan."""
    data = rules(size, CASES[0])
    ours, peer = Policy.from_dict(data), aegis.Policy.from_dict(data)
    sides = (
        fresh(ours, lambda name: Action(f"{name}_last_delete")),
        fresh(peer, lambda name: aegis.Action(f"{name}_last_delete", target="default")),
    )
    return shortest(sides, (200, max(5, 2_000 // size)), batches)


def loading(batches: int) -> list[float]:
    """Reading a thousand rules with conditions from a dict, where both only compile."""
    data = rules(1_000, CASES[3])
    sides = (
        lambda count: [Policy.from_dict(data) for _ in range(count)],
        lambda count: [aegis.Policy.from_dict(data) for _ in range(count)],
    )
    return shortest(sides, (1, 1), batches)


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    gc.disable()
    print(f"{'':44}{'rules':>7}{'ours, us':>10}{'agent-aegis, us':>17}{'ratio':>9}{'to reach':>11}")
    for case in CASES:
        for size in SIZES:
            ours, peer = compare(case, size, batches)
            least = f">= {case.least[size]:g}" if size in case.least else ""
            print(f"{case.about:44}{size:7}{ours:10.2f}{peer:17.1f}{peer / ours:9.0f}{least:>11}")
    for size in SIZES:
        ours, peer = first_of_a_name(size, batches)
        least = ">= 3.3" if size == 1_000 else ""
        print(
            f"{'first decision for a tool':44}{size:7}{ours:10.2f}{peer:17.1f}{peer / ours:9.1f}{least:>11}"
        )
    ours, peer = loading(batches)
    print(f"{'loading a dict, two conditions a rule':44}{1_000:7}{ours:10.0f}{peer:17.0f}{peer / ours:9.1f}")


if __name__ == "__main__":
    main()
