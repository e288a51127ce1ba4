"""How long a decision under a limit takes in the state that processes share, on SQLite and on PostgreSQL.

Eight processes make 200 calls a second together, at random moments. Each asks for a user's calls of the
last hour and leaves a mark (`judge`), and then says how it ended (`settle`). The aims for `judge` are a p99
of 1 ms on SQLite and of 5 ms on PostgreSQL. `unthrottled` is the same as fast as they can, and the last rows
are of one process with 100 to 10,000 marks in the window. PostgreSQL is a server of the installed package on
this machine and waits for its disk, whose own time comes first. `python benchmarks/state.py [seconds]`
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aegis_otel.model import Mark, SeriesQuery
from aegis_otel.state.opening import LazyState, open_state
from tests.support.postgres import running

HOUR = 3_600.0
PROCESSES = 8
PER_SECOND = 200
USERS = 50


def call(state: LazyState, decision: str, series: str) -> tuple[float, float]:
    """Make one call; return the milliseconds of its two steps."""
    begin = time.perf_counter()
    state.judge(decision, [SeriesQuery(series, HOUR)], lambda _: [Mark(series, keep_s=HOUR)])
    middle = time.perf_counter()
    state.settle(decision, "success")
    return 1e3 * (middle - begin), 1e3 * (time.perf_counter() - middle)


def work(address: str, name: str, seconds: float, pace: float) -> None:
    """Call for some seconds, and print what each took. `pace`: calls a second; 0: as many as it can."""
    state = open_state(address)
    state.read([])
    chance = random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    now = time.perf_counter()
    until, due, taken = now + seconds, now, []
    while (now := time.perf_counter()) < until:
        if pace:
            due += chance.expovariate(pace)
            time.sleep(max(0.0, due - now))
        taken.append(call(state, f"{name}-{len(taken)}-{now}", f"rule calls user={chance.randrange(USERS)}"))
    state.close()
    print(json.dumps(taken))


def together(address: str, seconds: float, pace: float) -> list[tuple[float, float]]:
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "work", address, str(n), str(seconds), str(pace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return [each for child in children for each in json.loads(child.communicate()[0])]


def syncs(folder: Path) -> list[float]:
    """Return the milliseconds of 200 writes that wait for the disk."""
    taken = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(200):
            begin = time.perf_counter()
            file.write(b"x" * 8_192)
            os.fdatasync(file.fileno())
            taken.append(1e3 * (time.perf_counter() - begin))
    return taken


def shown(taken: list[float]) -> str:
    taken = sorted(taken)
    return "".join(f"{taken[min(len(taken) - 1, int(len(taken) * part))]:9.3f}" for part in (0.5, 0.99, 1))


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, Callable[[], str]]]:
    """The address of an empty store of each engine, each time it is asked for."""
    numbers = iter(range(1_000))
    with running() as server:

        def postgres() -> str:
            server.run("DROP SCHEMA IF EXISTS aegis CASCADE")
            return server.address()

        yield {"SQLite": lambda: f"sqlite:///{folder / str(next(numbers))}", "PostgreSQL": postgres}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as engines:
        print(f"{'milliseconds':44}{'p50':>9}{'p99':>9}{'most':>9}")
        print(f"{'a write and its fdatasync':44}{shown(syncs(Path(folder)))}")
        for engine, new in engines.items():
            taken = together(new(), seconds, PER_SECOND / PROCESSES)
            print(
                f"{f'{engine}, judge, {len(taken) / seconds:.0f} calls a second':44}"
                f"{shown([a for a, _ in taken])}"
            )
            print(f"{f'{engine}, settle':44}{shown([b for _, b in taken])}")
            taken = together(new(), seconds / 4, 0)
            print(
                f"{f'{engine}, judge, unthrottled: {len(taken) / seconds * 4:,.0f} a second':44}"
                f"{shown([a for a, _ in taken])}"
            )
        for engine, new in engines.items():
            state = open_state(new())
            for marks in (100, 1_000, 10_000):
                series = f"{marks} marks"
                for n in range(marks - 100):
                    state.judge(f"{series}-{n}", [], lambda _, s=series: [Mark(s, keep_s=HOUR)])  # type: ignore[misc]
                taken = [call(state, f"{series}+{n}", series) for n in range(100)]
                print(f"{f'{engine}, judge, {series} in the window':44}{shown([a for a, _ in taken])}")
            state.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
