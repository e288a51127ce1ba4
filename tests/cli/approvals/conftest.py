"""An inbox with its keys, and the commands on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_page import make_desk


@pytest.fixture
def desk(tmp_path: Path) -> AnswerDesk:
    return make_desk(tmp_path / "audit")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        command = ["approvals", *arguments, "--path", str(tmp_path / "audit")]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return run
