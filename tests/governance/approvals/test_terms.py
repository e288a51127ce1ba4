"""On what terms a question can be answered, as the audit has them."""

from __future__ import annotations

import pytest

from aegis_otel.governance.approvals.terms import decode_terms, encode_terms
from aegis_otel.model import Approvers

BOTH = Approvers(("ann", "*@ops"), (), 2, others=(Approvers((), ("finance",), allows_requester=True),))


@pytest.mark.parametrize(
    ("approvers", "expires_s"),
    [
        (None, None),
        (None, 900.0),
        (Approvers(), None),
        (Approvers(("ann\u00e4", 'a"b\\'), ("x*",), 20, allows_requester=True), 1.0),
        (BOTH, 60.0),
    ],
)
def test_they_are_read_as_they_were_written(approvers: Approvers | None, expires_s: float | None) -> None:
    text = encode_terms(approvers, expires_s)
    assert (text is None) is (approvers is None and expires_s is None)
    assert decode_terms(text) == (approvers, expires_s)
    assert decode_terms("") == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "5",
        '{"users": [], "roles": [], "count": 1}',
        '{"users":[],"roles":[],"count":1,"self":true}',
        '{"users": [], "roles": [], "count": 0.5, "self": true, "x": 1}',
        '{"users": "ann", "roles": [], "count": 1, "self": true}',
        '{"expires_s": 900.0, "expires_s": 5.0}',
        "{}",
        "[" * 100_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"they (cannot|are not)"):
        decode_terms(text)
