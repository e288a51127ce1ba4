"""An application under load, governed and exported: `load_program.py CALLS PER_SECOND ACCEPTED ENOUGH`.

CALLS are made, or fewer where the file ENOUGH comes to be. Of ten calls eight are LOW, one is HIGH and one is
CRITICAL; each is in a request of its own. At the end it flushes and prints what the slowest call took, in
seconds. ACCEPTED is a file for the events that the exporter said had arrived: name and decision.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult

import aegis_otel
from aegis_otel import Action, Policy, Runtime, semconv
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import Result, ResultStatus
from aegis_otel.runtime.approval import AutoApprovalHandler

POLICY = """\
version: "1"
rules:
  - { name: reads, match: { type: "search" }, approval: auto, risk_level: low }
  - { name: writes, match: { type: "write" }, approval: approve, risk_level: high }
  - { name: nothing_else, match: { type: "*" }, approval: block, risk_level: critical }
"""
TEN = (*["search"] * 4, "write", *["search"] * 4, "delete")


class Nothing(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action, ResultStatus.SUCCESS)


def note_accepted(file: Path) -> None:
    export = OTLPLogExporter.export

    def noting(self: OTLPLogExporter, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = export(self, batch)
        if result is LogRecordExportResult.SUCCESS:
            with file.open("a") as out:
                for each in (one.log_record for one in batch):
                    out.write(f"{each.event_name} {(each.attributes or {}).get(semconv.DECISION_ID)}\n")
        return result

    OTLPLogExporter.export = noting  # type: ignore[method-assign]


async def work(calls: int, per_second: float, enough: Path) -> float:
    runtime = Runtime(
        policy=Policy.from_text(POLICY), executor=Nothing(), approval_handler=AutoApprovalHandler()
    )
    tracer = trace.get_tracer("application")
    slowest, begun = 0.0, time.monotonic()
    for number in range(calls):
        if enough.exists():
            break
        before = time.monotonic()
        with tracer.start_as_current_span("request"):
            await runtime.run_one(Action(TEN[number % len(TEN)], "web", {"number": number}))
        slowest = max(slowest, time.monotonic() - before)
        await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
    return slowest


if __name__ == "__main__":
    _, calls, rate, accepted, enough = sys.argv
    note_accepted(Path(accepted))
    aegis_otel.configure_otlp()
    took = asyncio.run(work(int(calls), float(rate), Path(enough)))
    for provider in (trace.get_tracer_provider(), _logs.get_logger_provider(), metrics.get_meter_provider()):
        provider.force_flush()  # type: ignore[attr-defined]  # the SDK's
    print(took)
