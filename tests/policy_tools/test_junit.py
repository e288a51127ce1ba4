"""The JUnit XML: what CI services read of it, and that no text breaks it."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from aegis_otel.policy_tools.junit import JUnitCase, junit_xml

HOSTILE = "a\x00\x1b[2J\r\n<&\"']]>\ud800\ufffe\u202e" + chr(0x10FFFF)


def test_a_suite_for_each_file_with_its_counts() -> None:
    root = ElementTree.fromstring(
        junit_xml(
            [
                JUnitCase("a.yaml", 3, "one", None),
                JUnitCase("a.yaml", 5, "two", "expected auto\n  why"),
                JUnitCase("b.yaml", 3, "three", None),
            ]
        )
    )
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "3", "1")
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("a.yaml", "2", "1"),
        ("b.yaml", "1", "0"),
    ]
    (case,) = root.findall("testsuite/testcase[@name='two']")
    assert (case.get("classname"), case.get("file"), case.get("line")) == ("a.yaml", "a.yaml", "5")
    (failure,) = case
    assert (failure.get("message"), failure.text) == ("expected auto", "expected auto\n  why")


def test_no_text_breaks_it() -> None:
    root = ElementTree.fromstring(junit_xml([JUnitCase(HOSTILE, 1, HOSTILE, HOSTILE)]))
    (case,) = root.iter("testcase")
    assert case.get("name") == "a\\x00\\x1b[2J\\r\\n<&\"']]>\\ud800\\ufffe\\u202e\\U0010ffff"


@given(st.text(), st.text())
def test_whatever_a_text_holds_the_xml_can_be_read(name: str, failure: str) -> None:
    (case,) = ElementTree.fromstring(junit_xml([JUnitCase("a", 1, name, failure)])).iter("testcase")
    assert len(case) == 1
