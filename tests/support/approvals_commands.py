"""The commands of `aegis approvals` as processes of their own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

from aegis_otel.governance.approvals.inbox import QuestionState

ME = pwd.getpwuid(os.getuid()).pw_name


def id_of(state: QuestionState) -> str:
    return state.question.decision_id


def environment() -> dict[str, str]:
    own = {"PYTHONPATH": str(Path(__file__).parents[2])}
    # Unbuffered, Python loses what a pipe does not take at once, and the error with it.
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}, **own}


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegis_otel", "approvals", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, **options)
