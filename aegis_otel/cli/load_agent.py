"""Import the agent that MODULE:AGENT names, for the commands that inspect an agent."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import click

from aegis_otel.redaction.terminal import escape


def load_agent(target: str) -> Any:
    """Return the agent at MODULE:AGENT, or what the function there returns. Importing MODULE runs its code.

    Raises:
        click.UsageError: there is no such module or attribute, or it is not an agent.
    """
    from aegis_otel.adapters.openai_agents.coverage.coverage import is_agent
    from aegis_otel.governance.error_text import describe

    module, _, path = target.partition(":")
    if not module or not path:
        raise click.UsageError(f"`{escape(target)}` is not MODULE:AGENT, such as `shop.agents:clerk`")
    if module.endswith(".py"):
        named = module.removesuffix(".py").replace(os.sep, ".")
        raise click.UsageError(f"`{escape(module)}` is a file: write `{escape(named)}:{escape(path)}`")
    sys.path.insert(0, "")  # as `python -m` does
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is not part of the report
            found = attrgetter(path)(importlib.import_module(module))
            if _makes_agents(found):
                found = found()
    except SystemExit as end:  # as from a script: its exit code would be taken for the command's
        raise click.UsageError(
            f"`{escape(target)}` cannot be loaded: importing `{escape(module)}` ends the program "
            f'(sys.exit({escape(repr(end.code))})); put what runs it below `if __name__ == "__main__":`'
        ) from None
    except (Exception, KeyboardInterrupt) as error:  # a module may raise that, too
        hint = _hint(error, module)
        raise click.UsageError(
            f"`{escape(target)}` cannot be loaded: {escape(describe(error))}{hint}"
        ) from None
    finally:
        sys.path.remove("")
    if not is_agent(found):
        raise click.UsageError(
            f"`{escape(target)}` is a `{escape(type(found).__name__)}`, not an agent: name an agent, or a "
            "function that needs no arguments and returns one"
        )
    return found


def _makes_agents(found: object) -> bool:
    """Return whether a value is a function to be called: not a coroutine's, and without arguments."""
    if not inspect.isfunction(found) or inspect.iscoroutinefunction(found):
        return False
    try:
        inspect.signature(found).bind()
    except TypeError:
        return False
    return True


def _hint(error: BaseException, module: str) -> str:
    """Return what to do where a module is not found because it lies below `src`."""
    first = module.partition(".")[0]
    source = Path("src", first)
    if not isinstance(error, ModuleNotFoundError) or error.name != first:
        return ""
    is_below = source.is_dir() or source.with_suffix(".py").is_file()
    return "; it is below `src`: set PYTHONPATH=src" if is_below else ""
