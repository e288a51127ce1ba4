"""Import the agent that MODULE:AGENT names, for the commands that inspect an agent."""

from __future__ import annotations

import contextlib
import importlib
import sys
from operator import attrgetter
from typing import Any

import click

from aegis_otel.redaction.terminal import escape


def load_agent(target: str) -> Any:
    """Return the agent at MODULE:AGENT. Importing MODULE runs its code.

    Raises:
        click.UsageError: there is no such module or attribute, or it is not an agent.
    """
    from aegis_otel.adapters.openai_agents.coverage.coverage import is_agent
    from aegis_otel.governance.error_text import describe

    module, _, path = target.partition(":")
    if not module or not path:
        raise click.UsageError(f"`{escape(target)}` is not MODULE:AGENT, such as `shop.agents:clerk`")
    sys.path.insert(0, "")  # as `python -m` does
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is not part of the report
            found = attrgetter(path)(importlib.import_module(module))
    except SystemExit as end:  # as from a script: its exit code would be taken for the command's
        raise click.UsageError(
            f"`{escape(target)}` cannot be loaded: importing `{escape(module)}` ends the program "
            f'(sys.exit({escape(repr(end.code))})); put what runs it below `if __name__ == "__main__":`'
        ) from None
    except (Exception, KeyboardInterrupt) as error:  # a module may raise that, too
        raise click.UsageError(f"`{escape(target)}` cannot be loaded: {escape(describe(error))}") from None
    finally:
        sys.path.remove("")
    if not is_agent(found):
        raise click.UsageError(f"`{escape(target)}` is a `{type(found).__name__}`, not an agent")
    return found
