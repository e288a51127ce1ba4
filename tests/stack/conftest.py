from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.stack.stack import ROOT

# Read here: a test does not see the machine's settings.
REQUIRED = os.environ.get("AEGIS_REQUIRE_STACK") == "1"


def cannot_be_had(what: str) -> None:
    """Fail where the whole stack is demanded, else skip."""
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(f"{what} (AEGIS_REQUIRE_STACK=1 makes this a failure)")


@pytest.fixture(scope="session")
def binary() -> Path:
    """The collector of collector/builder.yaml, built where the stack is demanded."""
    if REQUIRED:
        made = subprocess.run(["make", "-s", "collector"], cwd=ROOT, text=True, stdout=subprocess.PIPE)
        path = Path(made.stdout.rstrip("\n").rpartition("\n")[2])
        assert made.returncode == 0, "`make collector` failed; what it said is above"
    else:
        asked = [ROOT / "collector" / "build.sh", "--path"]
        path = Path(subprocess.run(asked, check=True, text=True, stdout=subprocess.PIPE).stdout.strip())
    if not os.access(path, os.X_OK):
        cannot_be_had(f"no collector at {path}; build it with `make collector`")
    return path
