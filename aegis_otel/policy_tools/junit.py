"""Write what came of cases as JUnit XML, which CI services show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from aegis_otel.policy_tools.case_runner import CaseResult
from aegis_otel.redaction.terminal import escape


class JUnitCase(NamedTuple):
    """One case of the report."""

    file: str
    line: int
    name: str
    failure: str | None
    """What was expected, what came and why, on several lines; None where the case passed."""


def junit_case(result: CaseResult, failure: Sequence[str]) -> JUnitCase:
    """Return a case of the report for what came of a case.

    Args:
        result: What came of it.
        failure: The lines that say why it failed; none where it passed.
    """
    place = result.case.place
    return JUnitCase(place.source, place.line, result.case.name, "\n".join(failure) or None)


def junit_xml(cases: Sequence[JUnitCase]) -> bytes:
    """Return the report, one suite for each file with cases.

    Names and texts may hold anything. XML has no way to write most control characters, so they are escaped as
    on a terminal.
    """
    root = ElementTree.Element("testsuites", _counts(cases) | {"name": "aegis policy test"})
    for file in dict.fromkeys(case.file for case in cases):
        its = [case for case in cases if case.file == file]
        suite = ElementTree.SubElement(root, "testsuite", {"name": escape(file)} | _counts(its))
        for case in its:
            attributes = {
                "name": escape(case.name),
                "classname": escape(file),
                "file": escape(file),
                "line": str(case.line),
                "time": "0",
            }
            element = ElementTree.SubElement(suite, "testcase", attributes)
            if case.failure is not None:
                lines = [escape(line) for line in case.failure.split("\n")]
                failure = ElementTree.SubElement(element, "failure", {"type": "failed", "message": lines[0]})
                failure.text = "\n".join(lines)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _counts(cases: Sequence[JUnitCase]) -> dict[str, str]:
    failures = sum(case.failure is not None for case in cases)
    return {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "time": "0"}
