"""Load the policy in the files that a command is given."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_otel.errors import PolicyError

if TYPE_CHECKING:
    from aegis_otel.policy import Policy

_STANDARD_INPUT = "-"


def split_paths(names: Iterable[str]) -> tuple[Path, ...]:
    """Return the paths of files; a name may be several that are separated as in `AEGIS_POLICY`, by `:`."""
    return tuple(
        Path(each)
        for name in names
        for each in ([name] if os.path.lexists(name) else name.split(os.pathsep))
        if each
    )


def load_policy(*names: str) -> Policy:
    """Return the policy in the files, merged, with the rules of the first file first.

    Args:
        names: Paths as for `split_paths`, or `-` alone for standard input.

    Raises:
        PolicyError: it is not a valid policy.
        click.UsageError: standard input is not the only file.
    """
    from aegis_otel.policy import Policy

    if _STANDARD_INPUT not in names:
        return Policy.from_yaml_files(*split_paths(names))
    if len(names) > 1:
        raise click.UsageError("`-`, standard input, cannot be merged with files")
    return Policy.from_text(sys.stdin.buffer.read(), "<stdin>")


@contextmanager
def problems_in_json(form: str) -> Iterator[None]:
    """Print the problems of a policy that is not valid as JSON, and exit with 3, where `form` is `json`.

    For people, the main command prints them to standard error.
    """
    try:
        yield
    except PolicyError as error:
        if form != "json":
            raise
        problems = [asdict(problem) for problem in error.problems]
        click.echo(json.dumps({"valid": False, "problems": problems}, indent=2))
        raise click.exceptions.Exit(3) from None
