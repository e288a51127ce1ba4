"""Child processes of ours run nothing that lies beside the program, and inherit no secret without a need."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.query import sandbox
from aegis_otel.audit.seals.seal_log import read_seals
from tests.audit.seals.test_signing import make_key
from tests.support.records import completed, decided

ROOT = Path(__file__).parents[2]

# An agent whose tool writes files into the directory of its own script, as `write_file` may; then it seals.
AGENT = """
import logging, os, sys, threading
from pathlib import Path
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import decided

logging.basicConfig()
here = Path(__file__).parent
standard, packages = ("hashlib", "json", "runpy", "random"), ("duckdb", "msgspec", "pytz", "numpy", "pandas")
for name in (*standard, *packages, "sitecustomize", "usercustomize"):
    (here / f"{name}.py").write_text(f"open({str(here / 'ran')!r}, 'a').write('{name} ')\\n")
(here / "aegis_otel").mkdir()
(here / "aegis_otel" / "__init__.py").write_text(f"open({str(here / 'ran')!r}, 'a').write('aegis_otel ')\\n")
module.ROTATE_BYTES = seal_trigger.SEAL_BYTES = 500
done = threading.Event()
journal = Journal(sys.argv[1])
journal.on_seal = lambda seal: done.set()
for n in range(5):
    journal.append(decided(decision_id=f"{n}", result_status="blocked"))
print(done.wait(60))
"""


@pytest.mark.parametrize("where", ["script", "working directory"])
def test_k4_sealer_runs_nothing_that_lies_beside_the_script(tmp_path: Path, where: str) -> None:
    """Neither in place of the standard library nor of a package; and the key of the seals still signs."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "agent.py").write_text(AGENT)
    private, _ = make_key(tmp_path / "key.pem")
    audit = tmp_path / "audit"
    ran = subprocess.run(
        [sys.executable, str(work / "agent.py"), str(audit)],
        cwd=work if where == "working directory" else tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "AEGIS_SEAL_KEY": str(private)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("True\n", "")
    assert not (work / "ran").exists(), (work / "ran").read_text()
    assert all(each.signature for each in read_seals(audit))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the children of this process write down what their environment is."""
    wrapper = tmp_path / "python-that-tells"
    wrapper.write_text(f'#!/bin/sh\nenv > {tmp_path}/environment\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    for name in ("AEGIS_SEAL_KEY", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "PYTHONPATH", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, f"secret of {name}")
    return tmp_path / "environment"


def test_k4_the_process_of_a_query_inherits_no_secret(tmp_path: Path, environment: Path) -> None:
    """`aegis audit sql` runs other people's SQL: nothing that is worth reading is in its process."""
    journal = Journal(tmp_path / "audit")
    journal.append(decided(decision_id="a"))
    journal.append(completed(decision_id="a"))
    journal.close()
    assert list(sandbox.select(tmp_path / "audit", "SELECT decision_id FROM audit").rows) == [["a"]]
    assert "secret" not in environment.read_text()


def test_k4_children_are_started_in_one_way() -> None:
    """Whoever starts a process takes its command from `audit.journal.child_process`."""
    starters = {
        "run",
        "Popen",
        "call",
        "check_call",
        "check_output",
        "create_subprocess_exec",
        "spawnv",
        "system",
    }
    found = []
    for path in sorted((ROOT / "aegis_otel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if (
                name.partition(".")[0] in {"subprocess", "asyncio", "os"}
                and name.rpartition(".")[2] in starters
            ):
                if name == "asyncio.run" or "child_process.command(" in ast.unparse(node):
                    continue
                found.append(f"{path.name}:{node.lineno}: {name}")
    assert found == []
