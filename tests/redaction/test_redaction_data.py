"""Each line of the data of redaction hides what it is there for, without a test of its own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aegis_otel.redaction import data_files
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.redaction.secrets.command_lines import PATTERNS
from aegis_otel.redaction.secrets.secret_names import held_by

NAMES = dict(data_files.lines("secret_names.txt"))
TOKENS = dict(data_files.lines("service_tokens.txt"))["shapes"]
FLAGS: list[Any] = [
    pytest.param(names, flag, fields.get("needs", [""])[0], id=f"{names[:40]} {flag}")
    for names, fields in data_files.records("command_lines.txt", vars(PATTERNS))
    for flags in (*fields.get("flag", ()), *fields.get("glued", ()))
    for flag in flags.split("|")
    if fields.get("needs") != ["-"]
]


def spelled(pattern: str) -> st.SearchStrategy[str]:
    """Texts that the pattern describes, in ASCII."""
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)


@pytest.mark.parametrize("shape", TOKENS)
@settings(max_examples=6)
@given(data=st.data())
def test_every_shape_of_a_token_is_hidden(shape: str, data: st.DataObject) -> None:
    token = data.draw(spelled(shape))
    assume(token != "sk-" and any(char.isdigit() for char in token))  # else a word: sk-estimators
    assert token not in redact_text(f"use {token} now")


@pytest.mark.parametrize(
    "pattern", [name for title in ("words", "glued", "last", "counted", "alone") for name in NAMES[title]]
)
@settings(max_examples=4)
@given(data=st.data())
def test_every_name_says_that_its_value_is_secret(pattern: str, data: st.DataObject) -> None:
    assert held_by(data.draw(spelled(pattern.replace(" ", "_")))) != "no"


@pytest.mark.parametrize(("names", "flag", "needs"), FLAGS)
@settings(max_examples=3)
@given(data=st.data())
def test_every_flag_hides_its_value(names: str, flag: str, needs: str, data: st.DataObject) -> None:
    program = data.draw(spelled(f"(?:{names})"))
    assert "Zq9hunter" not in redact_text(f"{program} {needs} {flag} Zq9hunter out")
