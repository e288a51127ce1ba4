"""`aegis approvals`: show the questions that wait for a human, and answer them."""

from __future__ import annotations

import click

from aegis_otel.cli import LazyGroup

_MODULES = {
    "approve": "answers",
    "deny": "answers",
    "expire": "ending",
    "list": "listing",
    "revoke": "ending",
    "serve": "serve",
    "show": "show",
}


@click.group(
    cls=LazyGroup,
    modules={name: f"{__name__}.{module}" for name, module in _MODULES.items()},
    short_help="Show and answer the questions of agents.",
)
def approvals() -> None:
    """Show and answer the questions that agents have put into the inbox (docs/approvals.md).

    The inbox is where AEGIS_STATE says, or else SQLite beside the audit.
    """
