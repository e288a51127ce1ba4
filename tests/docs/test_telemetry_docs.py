"""docs/telemetry.md says what semconv.py says, and semconv.py what the signals are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_otel import semconv
from docs import generate

DOCUMENT = Path(generate.__file__).parent / "telemetry.md"


def test_the_tables_are_not_stale() -> None:
    """`make docs` would change nothing."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert generate.render(text) == text, "docs/telemetry.md is stale: run `make docs`"


def test_every_table_has_its_place() -> None:
    """A part that is generated and shown nowhere is a gap in the document."""
    shown = re.findall(r"<!-- generated: (\w+) -->", DOCUMENT.read_text(encoding="utf-8"))
    assert shown == list(generate.PARTS)


def test_the_snippets_run() -> None:
    """The setting and the two lines of Python, in a process of their own, without a word."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (setting,) = re.findall(r"^```sh\nexport (\w+)=(\S+)\n```$", text, re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    code = code.replace("configure_otlp()", "print(*configure_otlp())")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(DOCUMENT.parents[1]), setting[0]: setting[1]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "traces logs metrics\n", "")


def test_every_name_in_the_prose_exists() -> None:
    """What the text calls a span, an event, a metric or an attribute is one."""
    known = {attribute.key for attribute in semconv.ATTRIBUTES}
    known |= {each.name for each in (*semconv.EVENTS, *semconv.METRICS)}
    text = DOCUMENT.read_text(encoding="utf-8")
    assert set(re.findall(r"`((?:aegis|gen_ai|error)\.[a-z_.]+)`", text)) <= known


@pytest.mark.parametrize(
    "signal", [*semconv.SPANS, *semconv.EVENTS, *semconv.METRICS], ids=lambda signal: signal.name
)
def test_every_attribute_used_is_explained(signal: semconv.Span | semconv.Event | semconv.Metric) -> None:
    """And none twice."""
    explained = {attribute.key for attribute in semconv.ATTRIBUTES}
    assert set(signal.attributes) <= explained
    assert len(set(signal.attributes)) == len(signal.attributes)


def test_every_explained_attribute_is_used() -> None:
    """An attribute on no signal is a promise that is not kept."""
    signals = (*semconv.SPANS, *semconv.EVENTS, *semconv.METRICS)
    used = {key for signal in signals for key in signal.attributes}
    assert {attribute.key for attribute in semconv.ATTRIBUTES} == used


def test_an_unknown_part_is_an_error() -> None:
    """A misspelt marker must not pass for an empty table."""
    with pytest.raises(KeyError):
        generate.render("<!-- generated: nothing -->\n<!-- end -->")
