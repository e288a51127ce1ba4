"""`aegis policy schema`: the JSON Schemas by which editors complete and check policies and their cases."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--cases", is_flag=True, help="Print the schema of files with cases for `aegis policy test`.")
def schema(cases: bool) -> None:
    """Print the JSON Schema of policy files."""
    if cases:
        from aegis_otel.policy_tools.cases import json_schema
    else:
        from aegis_otel.policy.loading.schema import json_schema
    click.echo(json.dumps(json_schema(), indent=2))
