from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.kit import Bench, make_bench

# The machine may be busy: how long an example takes says nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_finish() -> None:
    """Leave the collected tests out of all collections of garbage, which would pass through each of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No setting of the machine reaches a test, and nothing is written where the tests were started."""
    for name in os.environ:
        # pytest loads readline, which sets COLUMNS for the processes that pytest-xdist starts.
        if name.startswith(("AEGIS_", "OTEL_", "OPENAI_")) or name == "COLUMNS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes Runtimes on `tmp_path / "audit"`; closes what they opened."""
    made: list[Bench] = []

    def make(*answers: Any, **options: Any) -> Bench:
        made.append(make_bench(options.pop("audit", tmp_path / "audit"), *answers, **options))
        return made[-1]

    yield make
    for each in made:
        each.runtime.audit.close()
        each.telemetry.close()
