"""Conditions that alerts are made of.

Counters are asked in two ways at once, for the first count of a series is no increase to Prometheus: there is
nothing before it. aegis-otel starts its series at zero for that, but a process may decide before it is first
scraped, and then the first sample seen is already one. So what is new and above zero counts too, unless it is
what was last seen before: then only the collector, or the scrape of it, was away.
"""

from __future__ import annotations

from dashboards.queries import increase, total
from dashboards.signals import INSTANCE, JOB, Signal

REMEMBERED = "6h"
"""How long an absence may be after which a known count is not news."""


def happened(*selectors: str, by: tuple[str, ...], window: str = "2m") -> str:
    """How often something was counted in the last `window`, the very first time included."""
    found = []
    for selector in selectors:
        found += [f"{increase(selector, *by, window=window)} > 0", total(first(selector, window), *by)]
    return "\nor ".join(found)


def first(selector: str, window: str) -> str:
    """Series that are new, or came back with more than they had."""
    known = f"last_over_time({selector}[{REMEMBERED}] offset {window})"
    return f"\n  {selector} > 0\n  unless {known} >= {selector}\n"


def surplus(more: Signal, fewer: Signal, window: str) -> str:
    """By how much one counter is ahead of another in each process, and was not `window` ago."""

    def ahead(offset: str = "") -> str:
        return f"{total(more.all() + offset, JOB, INSTANCE)} - {total(fewer.all() + offset, JOB, INSTANCE)}"

    before = f"clamp_min({ahead(f' offset {window}')}, 0)"
    return f"sum by ({JOB}) (clamp_min(\n  {ahead()}\n  - ({before} or 0 * ({ahead()})),\n0))"
