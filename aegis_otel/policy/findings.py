"""What the linter finds: a policy that loads, but probably does not say what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aegis_otel.policy.rules import Place


class Severity(StrEnum):
    ERROR = "error"
    """A rule that has no effect."""
    WARNING = "warning"
    """Something that may be meant as it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    kind: str
    """One word per check, for programs: `shadowed`, `never`, ..."""
    message: str
    place: Place
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{self.place}: {self.severity}: {self.message}{hint}"
