"""`aegis policy`: write, check, test and compare policies before they are used."""

from __future__ import annotations

import click

from aegis_otel.cli import LazyGroup

_MODULES = {
    "check": "check",
    "diff": "diff",
    "explain": "explain",
    "init": "init",
    "replay": "replay",
    "schema": "schema",
    "show": "show",
    "test": "test",
    "tools": "tools",
}


@click.group(
    cls=LazyGroup,
    modules={name: f"{__name__}.{module}" for name, module in _MODULES.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
def policy() -> None:
    """Write, check and test policies before they are used."""
