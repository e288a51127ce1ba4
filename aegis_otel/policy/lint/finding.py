"""What the linter finds: a policy that loads, but probably does not say what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aegis_otel.model import Approval
from aegis_otel.policy.rules import Place, Rule


class Severity(StrEnum):
    ERROR = "error"
    """A rule without effect, or one that lets through what a block rule names."""
    WARNING = "warning"
    """Something that may be meant as it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    kind: str
    """The stable name of the check, for programs: `shadowed`, `never`, ... docs/policy.md lists them."""
    message: str
    """What goes wrong, with an example where there is one, and what to write instead."""
    place: Place
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{self.place}: {self.severity}: {self.message}{hint}"


def severity_for(rule: Rule) -> Severity:
    """Return the severity of what makes `rule` miss what it names: an error where it should block."""
    return Severity.ERROR if rule.approval is Approval.BLOCK else Severity.WARNING
