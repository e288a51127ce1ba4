"""What is said of an attribute, an event, a metric and a span: the rows of the tables in `semconv`."""

from __future__ import annotations

from typing import NamedTuple


class Attribute(NamedTuple):
    key: str
    type: str
    meaning: str


class Event(NamedTuple):
    name: str
    severity: str
    """Severity text, or `by risk`: see `SEVERITIES`."""
    meaning: str
    attributes: tuple[str, ...]


class Metric(NamedTuple):
    name: str
    instrument: str
    unit: str
    meaning: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


class Span(NamedTuple):
    name: str
    kind: str
    meaning: str
    attributes: tuple[str, ...]
