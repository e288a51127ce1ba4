"""A progress bar on standard error: on a terminal only, and not before there is something to do.

Lay out tables so that a name is never broken in the middle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 1_000_000
"""Columns of a pipe or a file: programs and pagers have lines of any length."""
_GAP = 2
"""Between two columns, and of both edges together."""


def standard_output(*, color: bool) -> Console:
    """Return the console for tables, as wide as the terminal or `COLUMNS`; in a pipe as wide as it takes.

    Args:
        color: False for none; else there are colours on a terminal that has them.
    """
    console = Console(highlight=False, color_system="auto" if color else None)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _UNBOUNDED
    return console


def is_unbounded(console: Console) -> bool:
    """Return whether lines may have any length."""
    return console.width >= _UNBOUNDED


def widths(columns: Sequence[Sequence[Text]], whole: Sequence[bool], room: int) -> list[int] | None:
    """Return how wide each column is to be, so that lines are broken between words only.

    Args:
        columns: The cells of each, its header among them.
        whole: Whether a column is not broken at all.
        room: Of all columns and what is between them.

    Returns:
        None where there is not that much room.
    """
    longest = [max(_longest_line(cell) for cell in cells) for cells in columns]
    least = [
        most if never else max(_longest_word(cell) for cell in cells)
        for cells, never, most in zip(columns, whole, longest, strict=True)
    ]
    free = room - sum(least) - _GAP * len(columns)
    if free < 0:
        return None
    for index in sorted(range(len(columns)), key=lambda index: longest[index] - least[index]):
        more = min(free, longest[index] - least[index])
        least[index] += more
        free -= more
    return least


def takes(columns: Sequence[Sequence[Text]]) -> int:
    """Return how much room columns take where no line is broken."""
    return sum(max(_longest_line(cell) for cell in cells) for cells in columns) + _GAP * len(columns)


def make_table(columns: Sequence[Sequence[Text]], sizes: Sequence[int]) -> Table:
    """Return a table of columns of those widths."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for (header, *_), size in zip(columns, sizes, strict=True):
        table.add_column(header, overflow="fold", width=size)
    for row in zip(*(cells[1:] for cells in columns), strict=True):
        table.add_row(*row)
    return table


def _longest_line(cell: Text) -> int:
    return max((line.cell_len for line in cell.split("\n", allow_blank=True)), default=0)


def _longest_word(cell: Text) -> int:
    return max((Text(word).cell_len for word in cell.plain.split()), default=0)


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
