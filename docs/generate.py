"""Writes the generated parts of the documents: `python -m docs.generate`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the prose around it is
written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aegis_otel import semconv

FOLDER = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def names(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) or "none"


def spans() -> str:
    return table(
        ("span", "kind", "what it is", "attributes"),
        ((f"`{span.name}`", span.kind, span.meaning, names(span.attributes)) for span in semconv.SPANS),
    )


def events() -> str:
    return table(
        ("event", "severity", "when", "attributes"),
        (
            (f"`{event.name}`", event.severity, event.meaning, names(event.attributes))
            for event in semconv.EVENTS
        ),
    )


def severities() -> str:
    return table(
        ("risk", "severity"),
        ((f"`{risk}`", f"{text} ({number})") for risk, (number, text) in semconv.SEVERITIES.items()),
    )


def metrics() -> str:
    return table(
        ("metric", "instrument", "unit", "what it measures", "attributes"),
        (
            (
                f"`{metric.name}`",
                metric.instrument,
                f"`{metric.unit}`",
                metric.meaning,
                names(metric.attributes),
            )
            for metric in semconv.METRICS
        ),
    )


def buckets() -> str:
    return table(
        ("histogram", "bucket boundaries"),
        (
            (f"`{metric.name}`", ", ".join(f"{bound:g}" for bound in metric.buckets))
            for metric in semconv.METRICS
            if metric.buckets
        ),
    )


def attributes() -> str:
    return table(
        ("attribute", "type", "what it says"),
        ((f"`{each.key}`", each.type, each.meaning) for each in semconv.ATTRIBUTES),
    )


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (spans, events, severities, metrics, buckets, attributes)
}


def render(text: str) -> str:
    """`text` with every generated part made anew.

    Raises:
        KeyError: a part that nothing generates.
    """
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}{match[3]}", text)


def main() -> None:
    """Bring every document in this folder up to date."""
    for document in sorted(FOLDER.glob("*.md")):
        text = document.read_text(encoding="utf-8")
        document.write_text(render(text), encoding="utf-8")


if __name__ == "__main__":
    main()
