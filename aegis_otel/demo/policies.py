"""The demo's policy, how it is tightened in the middle, and the typing error on the way there."""

from __future__ import annotations

from importlib.resources import files


def relaxed() -> str:
    """What is in force at first."""
    assert __package__ is not None
    return files(__package__).joinpath("policy.yaml").read_text(encoding="utf-8")


def tightened() -> str:
    """What is in force afterwards: exports are blocked, and of refunds fewer are small."""
    text = _replaced(relaxed(), "amount: 50 ", "amount: 20 ")
    exports = 'name: exports, match: { type: "export_*" }, risk_level: high, approval: '
    return _replaced(text, f"{exports}approve", f"{exports}block")


def mistyped() -> str:
    """What was meant to be that, and is refused when it is read."""
    return _replaced(tightened(), "risk_level: high, approval: block", "risk_level: high, approval: blok")


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)
