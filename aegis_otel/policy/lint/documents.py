"""Checks of whole files: missing rules, defaults that may surprise, a policy too large to be tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aegis_otel.policy.compiler import CompiledPolicy
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.rules import PolicyDocument


def documents(subject: Subject) -> Iterator[Finding]:
    """Files without `rules`, and defaults of a merge that come from another file than one may think."""
    written = subject.policy.documents
    for document in written:
        if not document.states_rules:
            message = "there is no `rules` key: was the file cut short?"
            yield Finding(Severity.WARNING, "no-rules", message, document.defaults_place)
    yield from _defaults(written, subject.policy.compiled)


def _defaults(written: Sequence[PolicyDocument], compiled: CompiledPolicy) -> Iterator[Finding]:
    """Surprises of a merge: the first file that states `defaults` wins, wherever it stands."""
    stated = [document for document in written if document.defaults is not None]
    approval, risk_level = compiled.defaults
    in_force = f"{approval.value} and {risk_level.name.lower()}"
    if stated and stated[0] is not written[0]:
        yield Finding(
            Severity.WARNING,
            "defaults",
            f"no `defaults` here: those of {stated[0].defaults_place} hold, {in_force}",
            written[0].defaults_place,
        )
    for document in stated[1:]:
        if document.defaults != compiled.defaults:
            yield Finding(
                Severity.WARNING,
                "defaults",
                f"these `defaults` do not hold: those of {stated[0].defaults_place} do, {in_force}",
                document.defaults_place,
            )
