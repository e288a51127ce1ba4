"""Work that is killed at every step it takes, each time on a copy of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.records import python


def killed_at_every_step(
    audit: Path, copies: Path, modules: Sequence[str], calls: Sequence[str], work: str, *, again: bool
) -> list[Path]:
    """What work on an audit leaves behind, by the step before which it was killed; the last was not killed.

    A step is a line of one of the modules that calls the system, or does so by others.

    Args:
        audit: What is worked on; it is left as it is.
        copies: Where the copies come to be.
        modules: Dotted names below `aegis_otel.audit`.
        calls: What a line that is a step has in its text.
        work: Python code, with `audit` as the path, `timedelta`, and the modules by their last names.
        again: Whether a line is a step each time that it is taken, or once.
    """
    order = {"modules": list(modules), "calls": list(calls), "work": work, "again": again}
    # A process of its own, which has everything loaded and no second thread: each step is a fork of it.
    code = "from tests.support.killed_at_every_step import _kill; _kill()"
    out, err = python(code, audit, copies, json.dumps(order)).communicate()
    assert err == ""
    return [copies / str(step) for step in range(1, int(out) + 1)]


def _kill() -> None:
    audit, copies, order = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    modules = {
        name.rpartition(".")[2]: import_module(f"aegis_otel.audit.{name}") for name in order["modules"]
    }
    places = {
        (str(module.__file__), number)
        for module in modules.values()
        for number, line in enumerate(Path(str(module.__file__)).read_text().splitlines(), 1)
        if any(call in line for call in order["calls"])
    }
    step = 0
    while True:
        step += 1
        copy = copies / str(step)
        shutil.copytree(audit, copy)
        child = os.fork()
        if child == 0:
            sys.settrace(_killer(places, step, order["again"]))
            exec(f"from datetime import timedelta\n{order['work']}", {**modules, "audit": copy})
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
    print(step)


def _killer(places: set[tuple[str, int]], step: int, again: bool) -> Any:
    """A trace function that kills this process before its `step`-th step."""
    files = {file for file, _ in places}
    left, taken = step, set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and place in places and (again or place not in taken):
            taken.add(place)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace if frame.f_code.co_filename in files else None

    return trace
