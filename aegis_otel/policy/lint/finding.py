"""What the linter finds: a policy that loads, but probably does not say what was meant.

The texts of all findings stand in `data/findings.json`: by severity, then by kind. A check names the kind and
the words that the text leaves open.
"""

from __future__ import annotations

import json
import pkgutil
from dataclasses import dataclass
from enum import StrEnum
from string import Formatter
from typing import Any

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.messages import quoted, shown
from aegis_otel.policy.rules import Place


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
        return f"{self.place}: {self.severity}[{self.kind}]: {self.message}{hint}"


_STARTS = {
    "lets run": "{test} of {rule} lets {value!v} run: ",
    "does not block": "{test} of {rule} does not block {value!v}, which runs: ",
}
"""How the sentence begins in the groups of texts that say only why a value runs."""
_GROUPS: dict[str, dict[str, str]] = json.loads(
    pkgutil.get_data("aegis_otel.policy.lint", "data/findings.json") or b""
)
TEXTS = {
    what: (group, _STARTS.get(group, "") + text)
    for group, texts in _GROUPS.items()
    for what, text in texts.items()
}
"""The group and the text of each finding by its kind; `/` and a word follow where it has several texts."""


KINDS = frozenset(what.partition("/")[0] for what in TEXTS)
"""The kinds of all findings."""


class _Words(Formatter):
    """Formats `{x!q}` as `quoted(x)` and `{x!v}` as `shown(x)`."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion in ("q", "v"):
            return quoted(value) if conversion == "q" else shown(value)
        return super().convert_field(value, conversion)


def finding(
    what: str,
    place: Place,
    rule: CompiledRule | None = None,
    /,
    *,
    severity: Severity | None = None,
    suggestion: str | None = None,
    **words: Any,
) -> Finding:
    """Return the finding `what`, a key of `TEXTS`.

    Args:
        rule: The rule that it is about, `{rule}` in the text.
        severity: Other than that of the text's group.
        words: What the text leaves open, by name.
    """
    group, text = TEXTS[what]
    if severity is None:
        usual = severity_for(rule) if rule is not None and group == "as the rule" else Severity.WARNING
        severity = Severity.ERROR if group == "error" else usual
    message = _Words().vformat(text, (), {"rule": rule, **words})
    return Finding(severity, what.partition("/")[0], message, place, suggestion)


def severity_for(rule: CompiledRule) -> Severity:
    """Return the severity of what makes `rule` miss what it names: an error where it should block."""
    return Severity.ERROR if rule.rule.approval is Approval.BLOCK else Severity.WARNING
