"""The demo's policy, the stricter one that replaces it, and that one with a typing error."""

from __future__ import annotations

from pathlib import Path


def relaxed() -> str:
    """Return the policy that is in force at first."""
    return Path(__file__).with_name("policy.yaml").read_text(encoding="utf-8")


def tightened() -> str:
    """Return the policy that is in force afterwards: it blocks exports, and fewer refunds are small."""
    text = _replaced(relaxed(), "amount: 50 ", "amount: 20 ")
    exports = 'name: exports, match: { type: "export_*" }, risk_level: high, approval: '
    return _replaced(text, f"{exports}approve", f"{exports}block")


def mistyped() -> str:
    """Return the stricter policy with a typing error, which is refused when it is loaded."""
    return _replaced(tightened(), "risk_level: high, approval: block", "risk_level: high, approval: blok")


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)
