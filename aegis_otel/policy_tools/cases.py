"""Read files with cases: calls, and what a policy must decide about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from aegis_otel.errors import CasesError, PolicyError, Problem
from aegis_otel.model import Action, Approval, Approvers, Mode, RiskLevel, Subject, Where
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


_WHERE = Where("session", "conversation", "run")
"""What all calls of a case are part of, where it does not say so."""


class Expected(NamedTuple):
    """What must be decided; None stands for what the case does not state."""

    approval: Approval | None
    rule: str | None
    risk_level: RiskLevel | None
    mode: Mode | None
    """That of the verdict. An approval without a mode is one that is enforced."""
    approvers: Approvers | None = None


class CallBefore(NamedTuple):
    """Calls that ran before the one of a case, all alike."""

    action: Action
    where: Where
    ago: timedelta
    """How long before the case they were."""
    result: str
    """`success`, `failed`, or empty where nobody knows."""
    times: int


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
    where: Where = _WHERE
    before: tuple[CallBefore, ...] = ()


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

        def built(written: Mapping[str, Any], *at: str | int) -> tuple[WrittenCall, Action] | None:
            call = WrittenCall(**written["action"], subject=_subject(written))
            try:
                return call, action_of(call, known)
            except Invalid as error:
                key = error.key if isinstance(error, UnknownCall) else "type"
                meant = error.suggestion if isinstance(error.suggestion, str) else None
                problems.append(Problem(str(error), *place(*at, "action", key), meant))
                return None

        shared = {key: each[key] for key in _SHARED if key in each}
        earlier = [shared | written for written in each.get("before", ())]
        calls = [built(each, "cases", number)]
        calls += [built(written, "cases", number, "before", index) for index, written in enumerate(earlier)]
        found = [call for call in calls if call is not None]
        if len(found) < len(calls):
            continue
        (call, action), *actions_before = found
        before = tuple(
            CallBefore(
                action=action_before,
                where=_where(written),
                ago=timedelta(seconds=written.get("ago", 0)),
                result="" if written.get("result") == "unknown" else written.get("result", "success"),
                times=written.get("times", 1),
            )
            for written, (_, action_before) in zip(earlier, actions_before, strict=True)
        )
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
                    loader.approvers_of(expect["approvers"]) if "approvers" in expect else None,
                ),
                tuple(oddities(call, action, known)),
                _where(each),
                before,
            )
        )
    if problems:
        raise CasesError(problems)
    policies = tuple(path.parent / each for each in valid.get("policy", ()))
    return CaseFile(source, policies, place("policy"), tuple(cases), known)


_SHARED = ("user", "tenant", "roles", "session", "conversation", "run")
"""The keys of a case that also say where the calls before it come from."""


def _where(written: Mapping[str, Any]) -> Where:
    """Return what a call is part of, without what the case says is not known."""
    given = {key: written[key] for key in ("session", "conversation", "run", "tokens") if key in written}
    return msgspec.structs.replace(_WHERE, **given, tool=written["action"]["type"])


def _subject(case: Mapping[str, Any]) -> Subject | None:
    """Return for whom the agent acts; None where the case says nothing about it."""
    given = {key: case[key] for key in ("user", "tenant", "roles") if case.get(key) is not None}
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
