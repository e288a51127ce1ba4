"""A plan: what the policy says about actions before they run, and the executor that carries them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from aegis_otel.model import Action, Approval, Mode, PolicyDecision, Result, RiskLevel


class BaseExecutor(ABC):
    """Subclass it and implement `execute`. See docs/executors.md."""

    @abstractmethod
    async def execute(self, action: Action) -> Result:
        """Carry out one action that the policy allowed.

        An exception counts as a FAILED result; it does not leave the Runtime.
        """

    async def verify(self, action: Action, result: Result) -> bool:  # noqa: ARG002
        """Return whether the action really happened. False turns a success into FAILED."""
        return result.ok

    async def setup(self) -> None:  # noqa: B027
        """Prepare; called once on `async with Runtime(...)`, before the first action."""

    async def teardown(self) -> None:  # noqa: B027
        """Clean up; called once at the end of `async with Runtime(...)`."""


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """Made by `Runtime.plan`, run by `Runtime.execute`, which decides on each action anew."""

    decisions: tuple[PolicyDecision, ...]

    @property
    def has_blocked(self) -> bool:
        """Return whether any action is blocked."""
        return any(not decision.is_allowed for decision in self.decisions)

    @property
    def requires_approval(self) -> bool:
        """Return whether a human would be asked about any action."""
        return any(decision.enforced_approval is Approval.APPROVE for decision in self.decisions)

    @property
    def auto_only(self) -> bool:
        """Return whether every action would run at once."""
        return all(decision.enforced_approval is Approval.AUTO for decision in self.decisions)

    def summary(self) -> str:
        """Return a text for people, a line for each action."""
        return "\n".join(
            f"  {number}. [{decision.approval.name:>7}] {decision.action}"
            f"  (risk={decision.risk_level.name}, rule={decision.matched_rule}"
            f"{', only monitored' if decision.verdict.mode is Mode.MONITOR else ''})"
            for number, decision in enumerate(self.decisions, 1)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data; `params` are as given, not redacted.

        A decision of a rule that is only monitored has its `mode`.
        """
        return {
            "decisions": [
                {
                    "action_type": decision.action.type,
                    "action_target": decision.action.target,
                    "params": decision.action.params,
                    "description": decision.action.description,
                    "risk_level": decision.risk_level.name.lower(),
                    "approval": decision.approval.value,
                    "matched_rule": decision.matched_rule,
                    "is_allowed": decision.is_allowed,
                    **({"mode": mode.value} if (mode := decision.verdict.mode) is Mode.MONITOR else {}),
                }
                for decision in self.decisions
            ]
        }

    def filter(
        self,
        *,
        approval: Approval | None = None,
        risk_level: RiskLevel | None = None,
        allowed_only: bool = False,
    ) -> ExecutionPlan:
        """Return a plan with only the decisions that meet every condition given."""
        return ExecutionPlan(
            tuple(
                decision
                for decision in self.decisions
                if (approval is None or decision.approval is approval)
                and (risk_level is None or decision.risk_level is risk_level)
                and (not allowed_only or decision.is_allowed)
            )
        )

    def __len__(self) -> int:
        return len(self.decisions)

    def __iter__(self) -> Iterator[PolicyDecision]:
        return iter(self.decisions)

    @overload
    def __getitem__(self, index: int) -> PolicyDecision: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PolicyDecision]: ...
    def __getitem__(self, index: int | slice) -> PolicyDecision | Sequence[PolicyDecision]:
        return self.decisions[index]
