"""The sampler that keeps what matters, on real spans, and the ways to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.util._importlib_metadata import entry_points

from aegis_otel.model import Outcome, RiskLevel
from aegis_otel.telemetry.sampler import NAME, from_argument
from tests.support.telemetry import make_call, run_body, sink

ROOT = Path(__file__).parents[2]


def govern(sampler: Sampler, calls: int, *, below: bool) -> list[tuple[str, str | None]]:
    """Spans of so many calls of each risk, and their parents; `below` a span of a program, a trace each."""
    with sink(sampler) as seen:
        recorder = seen.recorder()
        for _ in range(calls):
            for risk in RiskLevel:
                call = make_call(tool=risk.name, risk=risk)
                if below:
                    with seen.tracer.start_as_current_span("program"):
                        recorder.opened(call)
                        run_body(recorder, call, Outcome.ALLOWED)
                else:
                    recorder.opened(call)
                    run_body(recorder, call, Outcome.ALLOWED)
        return [(span["name"], span["parent"]) for span in seen.spans()]


@pytest.mark.parametrize("below", [False, True], ids=["on its own", "below an unsampled span"])
def test_high_and_critical_are_kept_whatever_the_ratio(below: bool) -> None:
    """The decision with the body below it; of what is less, nothing."""
    parent = "?" if below else None
    kept = [
        span
        for risk in ("HIGH", "CRITICAL")
        for span in ((f"govern_tool {risk}", parent), (f"execute_tool {risk}", f"govern_tool {risk}"))
    ]
    assert govern(from_argument("0"), 1, below=below) == kept


def test_of_the_rest_a_ratio_is_kept_and_a_trace_is_kept_whole() -> None:
    """Half of 400 traces, give or take what chance does less than once in a million runs."""
    names = [name for name, _ in govern(from_argument("0.5"), 200, below=True)]
    programs, low = names.count("program"), names.count("govern_tool LOW")
    assert 300 < programs < 500
    assert 60 < low < 140
    assert names.count("execute_tool LOW") == low
    assert names.count("govern_tool CRITICAL") == 200


@pytest.mark.parametrize("argument", [None, "", " 1 "], ids=repr)
def test_without_a_ratio_everything_is_kept(argument: str | None) -> None:
    names = [name for name, _ in govern(from_argument(argument), 1, below=True)]
    assert names.count("program") == 4
    assert names.count("govern_tool LOW") == 1


@pytest.mark.parametrize("argument", ["1 %", "2", "-0.1", "nan"])
def test_what_is_no_ratio_is_refused(argument: str) -> None:
    with pytest.raises(
        ValueError, match=f"OTEL_TRACES_SAMPLER_ARG is `{argument}`: expected a ratio of 0 to 1"
    ):
        from_argument(argument)


def test_it_is_found_by_its_name() -> None:
    """As `opentelemetry-instrument` finds it."""
    (found,) = entry_points(group="opentelemetry_traces_sampler", name=NAME)
    assert found.load() is from_argument


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ("0.25", "RiskSampler{0.25}"),
        (
            "many",
            "OTLP export cannot be set up: OTEL_TRACES_SAMPLER_ARG is `many`: expected a ratio of 0 to 1, "
            "such as 0.01; correct the `OTEL_*` variables",
        ),
    ],
)
def test_it_can_be_had_from_configure_otlp(ratio: str, said: str) -> None:
    code = """
from opentelemetry import trace
from aegis_otel import ConfigError, configure_otlp
try:
    configure_otlp()
    print(trace.get_tracer_provider().sampler.get_description())
except ConfigError as error:
    print(error)
"""
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces",
        "OTEL_TRACES_SAMPLER": NAME,
        "OTEL_TRACES_SAMPLER_ARG": ratio,
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout.strip(), ran.stderr) == (said, "")
