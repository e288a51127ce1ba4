"""What is committed is what the generator writes."""

from __future__ import annotations

import pytest

from dashboards.__main__ import HERE, generated


@pytest.mark.parametrize("name", generated())
def test_the_committed_file_is_not_stale(name: str) -> None:
    committed = (HERE / name).read_text(encoding="utf-8")
    assert committed == generated()[name], f"dashboards/{name} is stale: run `make dashboards`"


def test_nothing_else_is_committed_among_the_dashboards() -> None:
    written = {f"grafana/{path.name}" for path in (HERE / "grafana").iterdir()}
    assert written == {name for name in generated() if name.startswith("grafana/")}
