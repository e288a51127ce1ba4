"""Whatever a record says, the view says the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION, AuditRecord
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import encode_line

# Every code point but surrogates; NUL, line breaks and what lies beyond the first plane come up often.
TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from('\0\n\r\t"\\\x7f\u2028\ufeff\U0001f600')
    ),
    max_size=20,
)
ANY_TEXT = st.text(st.characters(categories=["Cs", "L", "Cc"]), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
_OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "VARCHAR": TEXT,
    "DOUBLE": NUMBER,
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "JSON": JSON.map(json.dumps),
    "TIMESTAMPTZ": st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "+00:00"),
}
_ALWAYS = {  # of this version: what earlier ones did not write is filled in
    "timestamp": _OF_TYPE["TIMESTAMPTZ"],
    "schema_version": st.just(SCHEMA_VERSION),
}
_SOMETIMES = {c.name: _OF_TYPE[c.sql_type] for c in COLUMNS if c.name not in {"decision_id", *_ALWAYS}}
RECORDS = st.fixed_dictionaries(_ALWAYS, optional=_SOMETIMES)


@settings(max_examples=50)
@given(st.lists(RECORDS, min_size=1, max_size=8))
def test_record_journal_view_is_the_identity(records: list[dict[str, Any]]) -> None:
    """Any text, any number, any JSON: what was recorded is what is read, column by column."""
    with tempfile.TemporaryDirectory() as place:
        logger = AuditLogger(Path(place) / "audit")
        for n, values in enumerate(records):
            logger.append(AuditRecord(stage="decided", decision_id=str(n), **values))
        rows = {row["decision_id"]: row for row in logger.get_log()}
        logger.close()
    for n, values in enumerate(records):
        expected: dict[str, Any] = (
            dict.fromkeys((c.name for c in COLUMNS), None) | values | {"decision_id": str(n)}
        )
        if "action_params" in values:
            expected["action_params"] = json.loads(values["action_params"])
        assert rows[str(n)] == expected


@given(ANY_TEXT, ANY_TEXT)
def test_every_text_can_be_written(reason: str, session: str) -> None:
    """A lone surrogate becomes its escape; nothing else changes, and it is one line of JSON in UTF-8."""
    line = encode_line(
        AuditRecord(stage="decided", decision_id="x", timestamp="", reason=reason, session_id=session)
    )
    assert line.count(b"\n") == 1
    read = msgspec.json.decode(line, type=AuditRecord)
    assert (read.reason, read.session_id) == tuple(
        text.encode(errors="backslashreplace").decode() for text in (reason, session)
    )


@settings(max_examples=20)
@given(
    st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    st.integers(0, 400),
)
def test_garbage_costs_no_row(garbage: list[bytes], cut: int) -> None:
    """Whole lines count, whatever stands between them and whatever is left of a last line cut off."""
    good = encode_line(
        AuditRecord(stage="decided", decision_id="good", timestamp="2026-11-22T14:30:00+00:00")
    )
    last = encode_line(
        AuditRecord(stage="decided", decision_id="last", timestamp="2026-11-22T14:30:00+00:00")
    )[:-2]
    with tempfile.TemporaryDirectory() as place:
        audit = Path(place) / "audit"
        journal = Journal(audit)
        journal.append(
            AuditRecord(stage="decided", decision_id="first", timestamp="2026-11-22T14:30:00+00:00")
        )
        (file,) = (audit / "journal").iterdir()
        with file.open("ab") as out:
            out.write(b"\n".join(garbage) + b"\n" + good + last[:cut])
        found = {row["decision_id"] for row in AuditLogger(audit).get_log()}
        journal.close()
    assert found == {"first", "good"}
