"""`aegis.audit.*`: what alerts compare decisions with."""

from __future__ import annotations

from collections.abc import Callable

from aegis_otel import Action, Result, ResultStatus, semconv
from aegis_otel.adapters.base import BaseExecutor
from tests.kit import Bench


class Succeed(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


def counted(made: Bench) -> tuple[int, int, int]:
    """Decisions, records and errors."""
    decisions = sum(made.telemetry.points(semconv.METRIC_DECISIONS).values())
    records, errors = (
        made.telemetry.points(name)[()]
        for name in (semconv.METRIC_AUDIT_RECORDS, semconv.METRIC_AUDIT_ERRORS)
    )
    return decisions, records, errors


async def test_every_decision_has_a_record(bench: Callable[..., Bench]) -> None:
    """Allowed, blocked, approved and denied: as many records as decisions, and as rows."""
    made = bench(True, False, executor=Succeed())
    for kind in ("search", "delete_all", "write_file", "write_file"):
        await made.runtime.run_one(Action(kind, "web"))
    assert counted(made) == (4, 4, 0)
    assert len(made.rows()) == 4


async def test_a_decision_without_a_record_is_a_gap(bench: Callable[..., Bench]) -> None:
    """The audit cannot be written: the call is decided, refused, and missing among the records."""
    made = bench(executor=Succeed())
    await made.runtime.run_one(Action("search", "web"))
    made.runtime.audit.close()
    (made.audit / "journal").chmod(0o777)  # others could write to it
    assert not (await made.runtime.run_one(Action("search", "web"))).ok
    decisions, records, errors = counted(made)
    assert (decisions, records) == (2, 1)
    assert errors > 0
