"""Many processes and one audit: at once, forked, spawned, and forked before they serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_otel.audit.lake.sealing import seal
from tests.support.records import files, python, select, statuses

CALLS = """
import sys
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import completed, decided
def write(journal, who, count):
    for n in range(count):
        journal.append(decided(decision_id=f"{who}-{n}", reason="because " * 20))
        journal.append(completed(decision_id=f"{who}-{n}"))
"""


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "aegis_audit"


def counts(audit: Path) -> list[tuple[int, ...]]:
    sql = (
        "SELECT count(*), count(DISTINCT decision_id), count(*) FILTER (result_status = 'success') FROM audit"
    )
    return select(audit, sql)


def test_b46_processes_write_while_they_have_themselves_sealed(audit: Path) -> None:
    """B46: 8 processes, all calls are there, once and complete, before and after the last sealing.

    The variable `CALLS` says how many each makes; `make soak` asks for 5,000.
    """
    each = int(os.environ.get("CALLS", "600"))
    code = CALLS + (
        "module.ROTATE_BYTES = seal_trigger.SEAL_BYTES = 100_000\n"
        f"write(Journal(sys.argv[1]), sys.argv[2], {each})\n"
    )
    children = [python(code, audit, n) for n in range(8)]
    assert [child.communicate()[1] for child in children] == [""] * 8
    assert counts(audit) == [(8 * each,) * 3]
    report = seal(audit, wait=True)
    assert report.problems == []
    assert counts(audit) == [(8 * each,) * 3]


def test_fork_after_the_first_call(audit: Path) -> None:
    """Parent and child are two writers with a chain each; both can be sealed."""
    code = CALLS + (
        "import os\n"
        "journal = Journal(sys.argv[1])\n"
        'write(journal, "before", 3)\n'
        "child = os.fork()\n"
        'write(journal, "parent" if child else "child", 5)\n'
        "child and os.waitpid(child, 0)\n"
    )
    assert python(code, audit).communicate() == ("", "")
    assert len(files(audit)) == 2
    assert seal(audit).problems == []
    assert counts(audit) == [(13,) * 3]


def test_fork_while_another_thread_writes(audit: Path) -> None:
    """The child of a fork takes over neither the lock, nor the chain, nor a half-written line."""
    code = CALLS + (
        "import os, threading\n"
        "journal = Journal(sys.argv[1])\n"
        'thread = threading.Thread(target=write, args=(journal, "thread", 2_000))\n'
        "thread.start()\n"
        "children = []\n"
        "for n in range(5):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        '        write(journal, f"child{n}", 20)\n'
        "        os._exit(0)\n"
        "    children.append(child)\n"
        "thread.join()\n"
        "print([os.waitpid(child, 0)[1] for child in children])\n"
    )
    assert python(code, audit).communicate() == ("[0, 0, 0, 0, 0]\n", "")
    assert seal(audit).problems == []
    assert counts(audit) == [(2_100,) * 3]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing(audit: Path, tmp_path: Path, method: str) -> None:
    """However workers are started, each is a writer of its own."""
    program = tmp_path / "program.py"
    program.write_text(
        CALLS + "import multiprocessing\n"
        "journal = Journal(sys.argv[1])\n"
        "def work(n):\n"
        '    write(journal, f"worker{n}", 10)\n'
        'if __name__ == "__main__":\n'
        '    write(journal, "main", 10)\n'
        f'    context = multiprocessing.get_context("{method}")\n'
        "    workers = [context.Process(target=work, args=(n,)) for n in range(3)]\n"
        "    [worker.start() for worker in workers]\n"
        "    [worker.join() for worker in workers]\n"
        "    print([worker.exitcode for worker in workers])\n"
    )
    ran = subprocess.run(
        [sys.executable, program, audit],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("[0, 0, 0]\n", "")
    assert len(files(audit)) == 4
    assert seal(audit).problems == []
    assert counts(audit) == [(40,) * 3]


def test_workers_forked_before_they_serve(audit: Path) -> None:
    """As gunicorn does it: the master writes and has itself sealed; its workers write, die, are replaced."""
    code = CALLS + (
        "import os, signal, threading\n"
        "module.ROTATE_BYTES = seal_trigger.SEAL_BYTES = 5_000\n"
        "journal, sealed = Journal(sys.argv[1]), threading.Event()\n"
        "journal.on_seal = lambda seal: sealed.set()\n"
        'write(journal, "master", 20)\n'
        "assert sealed.wait(60)\n"
        "def worker(n):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        '        write(journal, f"worker{n}", 50)\n'
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return child\n"
        "for generation in range(3):\n"
        "    workers = [worker(f'{generation}-{n}') for n in range(2)]\n"
        '    write(journal, f"master{generation}", 5)\n'
        "    [os.waitpid(child, 0) for child in workers]\n"
    )
    out, err = python(code, audit).communicate()
    assert (out, err) == ("", "")
    assert seal(audit, wait=True).problems == []
    assert counts(audit) == [(20 + 3 * 2 * 50 + 15,) * 3]
    assert set(statuses(audit).values()) == {"success"}
