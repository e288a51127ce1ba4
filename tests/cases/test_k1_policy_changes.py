"""K1: a policy that changes while a call waits is asked about what the body gets, too."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agents import function_tool
from agents.tool_context import ToolContext
from pydantic import AliasChoices, BaseModel, Field, field_validator

from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.model import PolicyDecision
from aegis_otel.policy import Policy
from aegis_otel.runtime.system import RealSystem
from tests.support.kit import make_bench

ASKS = {"version": "1", "defaults": {"approval": "approve"}, "rules": []}
LIMITS = {
    "version": "1",
    "defaults": {"approval": "auto"},
    "rules": [
        {
            "name": "limit",
            "match": {"type": "pay"},
            "conditions": {"param_gt": {"order.total": 100}},
            "approval": "block",
        }
    ],
}


class Order(BaseModel):
    total: float = Field(0, validation_alias=AliasChoices("total", "sum"))


@pytest.mark.parametrize("order", [{"sum": 5000}, {"total": 5000}], ids=["alias", "name"])
def test_k1_a_policy_that_changes_while_a_human_is_asked(tmp_path: Path, order: dict[str, Any]) -> None:
    """The first policy looks at no parameter, so nothing was validated; the second blocks by one."""
    ran: list[float] = []

    def change(_: PolicyDecision) -> bool:
        b.runtime.update_policy(Policy.from_dict(LIMITS))
        return True

    b = make_bench(tmp_path / "audit", change, policy=ASKS)

    @governed_tool(runtime=b.runtime)
    @function_tool
    def pay(order: Order) -> str:
        """Pay."""
        ran.append(order.total)
        return "paid"

    text = json.dumps({"order": order})
    context = ToolContext(None, tool_name="pay", tool_call_id="c", tool_arguments=text)
    read = asyncio.run(pay.on_invoke_tool(context, text))
    assert str(read).startswith("[AEGIS BLOCKED] Action blocked by policy rule: limit")
    assert ran == []
    assert b.row()["matched_rule"] == "limit"


_AROUND = {"after": timedelta(hours=-1), "before": timedelta(hours=1)}


class Later(RealSystem):
    """A clock by which a call is decided six hours after its arguments were read."""

    @staticmethod
    def now_ns() -> int:
        return time.time_ns() + 6 * 3600 * 10**9


class Thousandfold(BaseModel):
    total: float = 0

    @field_validator("total", mode="before")
    @classmethod
    def multiply(cls, value: float) -> float:
        return value * 1000


@pytest.mark.parametrize("total", [5, 5000])
def test_k1_a_time_window_that_ends_after_the_arguments_were_read(tmp_path: Path, total: float) -> None:
    """A blocked call runs no validator; where it is not blocked any more, nobody knows what they say."""
    now = datetime.now(UTC)
    window = {f"time_{name}": f"{(now + shift):%H:%M}" for name, shift in _AROUND.items()}
    closed = {"name": "closed", "match": {"type": "pay"}, "conditions": window, "approval": "block"}
    rules = {**LIMITS, "rules": [closed, *LIMITS["rules"]]}
    b = make_bench(tmp_path / "audit", policy=rules)
    b.runtime.governor.system = Later()

    @governed_tool(runtime=b.runtime)
    @function_tool
    def pay(order: Thousandfold) -> str:
        """Pay."""
        return "paid"

    text = json.dumps({"order": {"total": total}})
    context = ToolContext(None, tool_name="pay", tool_call_id="c", tool_arguments=text)
    read = asyncio.run(pay.on_invoke_tool(context, text))
    assert str(read).startswith("[AEGIS BLOCKED] Action blocked by policy rule: limit")
    assert b.row()["matched_rule"] == "limit"
