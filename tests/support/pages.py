"""The blocks of a page of docs/, and a reader who does what the page says, from top to bottom."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from aegis_otel.cli import main

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    file: str
    """The file name after the language, where there is one."""
    text: str
    before: str
    """The paragraph before it."""


def read_page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks_of(text: str) -> list[Block]:
    return [
        Block(found[1], found[2] or "", found[3], text[: found.start()].rstrip().rpartition("\n\n")[2])
        for found in _BLOCK.finditer(text)
    ]


def section_of(text: str, title: str) -> str:
    """Return the section with that title of the second level, up to the next one."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block and what it is said to print.

    A command goes on where its quotes are open, or a line ends with a backslash.
    """
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        command = lines.pop(0)
        while command.count('"') % 2 or command.endswith("\\\n"):
            command += lines.pop(0)
        yield command.rstrip("\n"), "".join(lines)


def save(block: Block, folder: Path) -> None:
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def unnamed_files(blocks: Iterable[Block]) -> list[str]:
    """Return the files whose names only the source of the page says: a rendered page does not show them."""
    return [block.file for block in blocks if block.file and f"`{block.file}`" not in block.before]


def run_aegis(command: str) -> str:
    """Run a command of `aegis` in this process, as a fresh one would; return all that it prints."""
    program, *arguments = shlex.split(command)
    assert program == "aegis"
    return CliRunner().invoke(main, arguments).output


def run_in_shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell with this package as `aegis`; a failure before a pipe counts."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", 'aegis() { python -m aegis_otel "$@"; }\n' + command],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "error",
            "HOME": str(folder),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def prints(said: str, printed: str) -> bool:
    """Whether that is printed, with other ids; `…` stands for what is left out."""
    said, printed = (_ID.sub("<id>", text) for text in (said, printed))
    return re.fullmatch(".*".join(map(re.escape, said.split("…"))), printed, re.DOTALL) is not None


def follow(blocks: Iterable[Block], folder: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Save each file and run each command and program, in turn; each command prints what the page says.

    Args:
        leave_out: How the commands begin that are not run.
    """
    for block in blocks:
        if block.file:
            save(block, folder)
        elif block.language == "console":
            for command, said in commands_of(block):
                if command.startswith("aegis "):
                    printed = run_aegis(command)
                elif not command.startswith(leave_out):
                    ran = run_in_shell(command, folder)
                    assert ran.returncode == 0, (command, ran.stderr)
                    printed = ran.stdout
                else:
                    continue
                assert prints(said, printed), f"$ {command}\n{printed}"
        elif block.language == "python":
            ran = run_in_shell(f"python - <<'END'\n{block.text}END", folder)
            assert ran.returncode == 0, ran.stderr
