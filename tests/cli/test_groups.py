"""What every group of commands does with a name that is none of its commands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from aegis_otel.cli import main


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["audi"], "audit"),
        (["Doctr"], "doctor"),
        (["audit", "stat"], "stats"),
        (["audit", "--limit", "5", "exprt"], "export"),
        (["policy", "chek"], "check"),
    ],
)
def test_a_misspelt_command_has_a_suggestion(arguments: list[str], meant: str) -> None:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert f"Error: no command `{arguments[-1]}` (did you mean `{meant}`?)\n" in ran.output


@pytest.mark.parametrize("arguments", [["zzzzz"], ["audit", "zzzzz"], ["policy", "zzzzz"]])
def test_a_command_that_is_like_none_has_no_suggestion(arguments: list[str]) -> None:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert ran.output.endswith("Error: no command `zzzzz`\n")


@pytest.mark.parametrize("arguments", [["--nope"], ["audit", "--nope"], ["policy", "--nope"]])
def test_an_unknown_option_is_no_command(arguments: list[str]) -> None:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert "No such option" in ran.output
