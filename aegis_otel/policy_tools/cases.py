"""Read files with cases: calls, and what a policy must decide about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from aegis_otel.errors import CasesError, PolicyError, Problem
from aegis_otel.model import Action, Approval, Mode, RiskLevel, Subject
from aegis_otel.policy.lint.tool_list import Inventory, NotTools, parse_tools
from aegis_otel.policy.loading import loader, yaml_reader
from aegis_otel.policy.loading.schema import Validation
from aegis_otel.policy.loading.yaml_reader import Document
from aegis_otel.policy.messages import Invalid, quoted
from aegis_otel.policy.rules import Place
from aegis_otel.policy_tools import case_keys
from aegis_otel.policy_tools.calls import UnknownCall, WrittenCall, action_of, oddities
from aegis_otel.policy_tools.case_keys import json_schema

__all__ = ["Case", "CaseFile", "Expected", "json_schema", "read_case_files"]

_MAX_PROBLEMS = 100


class Expected(NamedTuple):
    """What must be decided; None stands for what the case does not state."""

    approval: Approval | None
    rule: str | None
    risk_level: RiskLevel | None
    mode: Mode | None
    """That of the verdict. An approval without a mode is one that is enforced."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call, and what a policy must decide about it."""

    name: str
    place: Place
    rule_place: Place
    """The place of the expected rule; that of `expect` where it states none."""
    action: Action
    at: datetime | None
    """The time of the call; None where the case does not state it."""
    expected: Expected
    oddities: tuple[str, ...] = ()
    """Why the program would hardly make this call, a sentence each."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One file with cases."""

    source: str
    """Its path, as it was given."""
    policies: tuple[Path, ...]
    """The policy's files; empty where the file names none."""
    place: Place
    """The place of its key `policy`, or the beginning of the file where it has none."""
    cases: tuple[Case, ...]
    tools: Inventory | None = None
    """The program's tools; None where they are not known."""


def read_case_files(paths: Sequence[Path], known: Inventory | None = None) -> list[CaseFile]:
    """Read files with cases, whose names must be unique in all of them.

    Args:
        known: The program's tools, instead of those that the files name as `tools`.

    Raises:
        CasesError: one of them cannot be read or is not valid; it has the problems of all.
    """
    files: list[CaseFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            files.append(_read_file(path, known))
        except (CasesError, PolicyError) as error:
            problems += error.problems
    first: dict[str, Case] = {}
    for case in (case for file in files for case in file.cases):
        if first.setdefault(case.name, case) is not case:
            message = f"duplicate name {quoted(case.name)}: it is already at {first[case.name].place}"
            problems.append(Problem(message, *case.place))
    if problems:
        raise CasesError(problems)
    return files


def _read_file(path: Path, known: Inventory | None) -> CaseFile:
    source = str(path)
    text = loader.decode_text(loader.read_content(path, source, "file with cases"), source)
    document, problems = yaml_reader.read(text, source)
    if document is None:
        raise CasesError(problems or [Problem("the file is empty: write at least one case", source, 1, 1)])
    validation = Validation()
    valid = case_keys.read_file_section(document.value, validation)
    for fault in validation.faults[:_MAX_PROBLEMS]:
        message, suggestion = case_keys.explain_fault(fault)
        place = document.find(fault.location, at_key=fault.at_key)
        problems.append(Problem(message, source, *place, suggestion))
    if problems:
        raise CasesError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return _build(path, document, valid, known)


def _build(path: Path, document: Document, valid: Any, known: Inventory | None) -> CaseFile:
    source = str(path)

    def place(*location: str | int, at_key: bool = False) -> Place:
        return Place(source, *document.find(location, at_key=at_key))

    if known is None and "tools" in valid:
        known = _read_tools(path, valid["tools"], place("tools"))
    cases, problems = [], []
    for number, each in enumerate(valid["cases"]):
        expect = each["expect"]
        call = WrittenCall(**each["action"], subject=_subject(each))
        try:
            action = action_of(call, known)
        except Invalid as error:
            key = error.key if isinstance(error, UnknownCall) else "type"
            meant = error.suggestion if isinstance(error.suggestion, str) else None
            problems.append(Problem(str(error), *place("cases", number, "action", key), meant))
            continue
        risk = expect.get("risk_level")
        cases.append(
            Case(
                each["name"],
                place("cases", number, "name"),
                place("cases", number, "expect", "rule"),
                action,
                each.get("at"),
                Expected(
                    Approval(expect["approval"]) if "approval" in expect else None,
                    expect.get("rule"),
                    None if risk is None else RiskLevel[risk.upper()],
                    Mode(expect["mode"]) if "mode" in expect else None,
                ),
                tuple(oddities(call, action, known)),
            )
        )
    if problems:
        raise CasesError(problems)
    policies = tuple(path.parent / each for each in valid.get("policy", ()))
    return CaseFile(source, policies, place("policy"), tuple(cases), known)


def _subject(case: Mapping[str, Any]) -> Subject | None:
    """Return for whom the agent acts; None where the case says nothing about it."""
    given = {key: case[key] for key in ("user", "tenant", "roles") if key in case}
    return Subject(**given) if given else None


def _read_tools(path: Path, name: str, place: Place) -> Inventory:
    source = str(path.parent / name)
    try:
        return parse_tools(loader.read_content(source, source, "list of tools"))
    except NotTools as error:
        raise CasesError([Problem(f"`tools`: {quoted(source)}: {error}", *place)]) from None
    except PolicyError as error:
        raise CasesError(
            [Problem(f"`tools`: {error.problems[0].message}: {quoted(source)}", *place)]
        ) from None
