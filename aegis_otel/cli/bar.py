"""A progress bar on standard error: on a terminal only, and not before there is something to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, *, color: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Gives what is told how much is done, and of how much; the bar is gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, color_system="auto" if color else None)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(label, total=None)

    def update(done: int, total: int) -> None:
        if total:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
