"""What may not reach a terminal as it is."""

from __future__ import annotations

import pytest

from aegis_otel.redaction.terminal import escape, name_list


def test_b44_escapes_and_forged_rows() -> None:
    """B44: control sequences, OSC, newlines and bidi overrides are shown, not obeyed."""
    assert (
        escape("x\x1b[2K\x1b]0;title\x07\n| forged | row |") == r"x\x1b[2K\x1b]0;title\x07\n| forged | row |"
    )
    assert escape("a\u202eb\u2066c\u200fd\u061ce") == r"a\u202eb\u2066c\u200fd\u061ce"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ((), ""),
        (("clerk", "team:a/b.c@d+1_2-3", "Jürgen"), "clerk, team:a/b.c@d+1_2-3, Jürgen"),
        (("admin, clerk",), '"admin, clerk"'),
        (("admin", "clerk"), "admin, clerk"),
        (("team lead", ""), '"team lead", ""'),
        (('"admin", "clerk"',), r'"\"admin\", \"clerk\""'),
        (("admin\uff0cclerk", "a\u200b\u2028b"), '"admin\uff0cclerk", "a\u200b\u2028b"'),
    ],
)
def test_no_name_in_a_list_looks_like_two(names: tuple[str, ...], shown: str) -> None:
    assert name_list(names) == shown


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\t", r"\t"),
        ("\r", r"\r"),
        ("\x00", r"\x00"),
        ("\x7f", r"\x7f"),
        ("\x9b", r"\x9b"),
        ("\u200b", r"\u200b"),
        ("\u200d", r"\u200d"),
        ("\ufeff", r"\ufeff"),
        ("\u2028", r"\u2028"),
        ("\u2029", r"\u2029"),
        ("\ud800", r"\ud800"),
        ("\u3164", r"\u3164"),
        ("\u2800", r"\u2800"),
        ("\u180b", r"\u180b"),
        ("\u180f", r"\u180f"),
        ("\ufe00", r"\ufe00"),
        ("\ufe0f", r"\ufe0f"),
        ("\u2764\ufe0f\ufe0f", "\u2764\ufe0f" + r"\ufe0f"),
        ("\u2764\ufe0e", "\u2764" + r"\ufe0e"),
        ("\U0001d159", r"\U0001d159"),
        ("\U00016fe4", r"\U00016fe4"),
        ("\ue000", r"\ue000"),
        ("\U000e0041", r"\U000e0041"),
        ("\U000e0100", r"\U000e0100"),
        ("\u0336", r"\u0336"),
        ("\u0338", r"\u0338"),
        ("\u0489", r"\u0489"),
        ("\u20dd", r"\u20dd"),
        ("\u0301" * 5, "\u0301" * 3 + r"\u0301\u0301"),
    ],
)
def test_what_cannot_be_seen_is_escaped(char: str, shown: str) -> None:
    """Controls, zero-width and blank characters, separators, surrogates, tags, strokes, stacks of marks."""
    assert escape(f"a{char}b") == f"a{shown}b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain ~!",
        "naïve",
        "日本　語",
        "नमस्ते",
        "עברית",
        "ไทย",
        "été\u00a0!",
        "👍🏽",
        "⚠\ufe0f ❤\ufe0f",
        r"C:\x1b\new",
        r"\d+",
    ],
)
def test_text_of_any_language_stays(text: str) -> None:
    """Letters, marks, symbols, spaces and backslashes are what they were."""
    assert escape(text) == text


def test_a_mark_that_stands_on_nothing_is_escaped() -> None:
    assert escape("\u0301a") == r"\u0301a"


def test_every_character_there_is() -> None:
    """Whatever comes out is printable or a space of some width, and is no direction or format control."""
    for code in range(0x110000):
        for char in escape(chr(code)):
            assert char.isprintable() or char.isspace()
            assert char not in "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"
