"""Normal forms of text: as `unicodedata` gives them, in a time that grows with the length of the text."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel.redaction.name_forms import LONGEST, MOST_MARKS, decomposed, is_bounded, normalized

MARKS = "\u0315\u0300"
"""Of two classes, in the wrong order: each pair has to be exchanged, past all others."""
FORMS = ("NFC", "NFKC", "NFKD")
ORDINARY = [
    "",
    "amount_cents",
    "Größe",
    "Gro\u0308\u00dfe",
    "số điện thoại của người dùng",
    "so\u0302\u0301 die\u0323\u0302n thoa\u0323i",
    "पासवर्ड_की_संख्या",
    "รหัสผ่านที่นี่",
    "비밀번호",
    "\u1107\u1175\u1106\u1175\u11af",
    "パスワード",
    "ﾊﾟｽﾜｰﾄﾞ",
    "כִּי־טוֹב שָׁלוֹם",
    "كَلِمَةُ ٱلسِّرّ",
    "བསྒྲུབས\u0f71\u0f72\u0f7b",
    "ΰ ᾂ ᾳ\u0301 ﷺ",
    f"z{MARKS * (MOST_MARKS // 2)}algo{MARKS * (MOST_MARKS // 2)}",
    "é" * LONGEST,
    "ASCII" * LONGEST,
]


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: ascii(text[:12]))
def test_ordinary_text_is_normalized(text: str) -> None:
    assert is_bounded(text)
    for form in FORMS:
        assert normalized(text, form) == unicodedata.normalize(form, text)
        folded = unicodedata.normalize("NFKC", text).casefold()
        assert normalized(text, "NFKC", form) == unicodedata.normalize(form, folded)


@pytest.mark.parametrize("mark", ["\u0300", "\u0f71", "\u0f73", "\u0f81", "\u0344", "\uff9e"], ids=ascii)
def test_as_many_marks_in_a_row_as_stream_safe_text_has_are_normalized(mark: str) -> None:
    """UAX #15, section 13: also those that are marks only once they are decomposed."""
    most = f"a{mark * MOST_MARKS}b{mark * MOST_MARKS}"
    assert normalized(most, "NFKD") == unicodedata.normalize("NFKD", most)
    assert not is_bounded(f"a{mark * (MOST_MARKS + 1)}b")
    assert normalized(f"a{mark * (MOST_MARKS + 1)}b", "NFKD") is None
    assert normalized(f"\u00e9a{MARKS * MOST_MARKS}", "NFKC", "NFKC") is None


def test_every_character_that_can_be_part_of_a_run_is_counted() -> None:
    """And case folding makes no such character of another one."""
    for char in map(chr, range(sys.maxunicode + 1)):
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) != 0
        if is_mark:
            assert not is_bounded(char * (MOST_MARKS + 1)), ascii(char)
        elif not char.isascii():
            assert not unicodedata.combining(unicodedata.normalize("NFKD", char.casefold())[0]), ascii(char)


def test_longer_text_is_not_normalized() -> None:
    assert normalized("é" * (LONGEST + 1), "NFC") is None
    assert normalized("\ufdfa" * LONGEST, "NFKD") is not None


@pytest.mark.parametrize("text", [f"a{MARKS * 500_000}", "\ufdfa" * 1_000_000, f"a{MARKS * 15}" * 30_000])
def test_a_megabyte_is_answered_at_once(text: str) -> None:
    start = time.process_time()
    assert normalized(text, "NFKC", "NFKD") is None
    assert time.process_time() - start < 5


@given(st.text())
def test_characters_decomposed_by_themselves_are_the_same_but_for_the_order_of_marks(text: str) -> None:
    found, whole = decomposed(text), unicodedata.normalize("NFKD", text)
    assert sorted(found) == sorted(whole)
    assert [char for char in found if not unicodedata.combining(char)] == [
        char for char in whole if not unicodedata.combining(char)
    ]


def test_any_number_of_marks_is_decomposed() -> None:
    start = time.process_time()
    assert decomposed("\u00e9" + MARKS * 200_000) == "e\u0301" + MARKS * 200_000
    assert time.process_time() - start < 5
