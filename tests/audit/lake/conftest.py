from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_otel.audit.journal import writer


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "aegis_audit"


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    yield
    for journal in list(writer._journals):
        journal.close()
