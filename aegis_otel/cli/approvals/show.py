"""`aegis approvals show`: one question, with all that it says."""

from __future__ import annotations

import json

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.approvals.opening import open_desk, path_option
from aegis_otel.cli.approvals.question_lookup import find_question
from aegis_otel.cli.approvals.question_text import output_screen, question_lines, question_report
from aegis_otel.cli.rendering import echo


@click.command(short_help="Show one question: who asks, what exactly, why.")
@path_option
@text_or_json_option
@click.argument("id")
def show(path: str | None, form: str, id: str) -> None:
    """Show one question: who asks, for whom, what exactly, why, until when, and who has answered.

    ID is its decision id, or the beginning or the end of it.
    """
    desk = open_desk(path)
    state = find_question(desk.inbox, id)
    answers, refused = desk.answers(state), desk.refused(state.question.decision_id)
    if form == "json":
        click.echo(json.dumps(question_report(state, answers, refused), indent=2))
    else:
        is_unknown = desk.has_unknown_key(state)
        lines = question_lines(state, answers, refused, output_screen(), has_unknown_key=is_unknown)
        echo("\n".join(map(str.rstrip, lines)))
