"""K9.1 and K9.2: the words a newcomer writes, and YAML that cannot be read, are answered in plain words."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.cli import main
from aegis_otel.config import (
    APPROVALS,
    DURABILITY,
    EVALUATION_DURATION,
    MODE,
    ON_AUDIT_FAILURE,
    ON_UNGOVERNED,
)
from aegis_otel.errors import ConfigError
from aegis_otel.policy.loading import validators
from aegis_otel.policy.loading.schema import KEY_SYNONYMS, KEYS, json_schema


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(text, source="p")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("word", ["BLOCK", "Block", "bLoCk"])
def test_k9_1_approval_in_any_case(word: str) -> None:
    policy = Policy.from_text(f"rules: [{{ name: r, match: {{ type: x }}, approval: {word} }}]")
    assert policy.evaluate(Action("x")).approval == "block"
    assert Draft202012Validator(json_schema()).is_valid({"rules": [{"approval": word}]})
    assert Draft202012Validator(json_schema()).is_valid({"defaults": {"approval": word}})


def test_k9_1_aegis_mode_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_MODE", "Monitor")
    assert MODE.value() == "monitor"


@pytest.mark.parametrize(
    ("setting", "written", "value"),
    [
        (MODE, " ENFORCE ", "enforce"),
        (APPROVALS, "SDK", "sdk"),
        (ON_UNGOVERNED, "Refuse", "refuse"),
        (ON_AUDIT_FAILURE, "Allow", "allow"),
        (DURABILITY, "Power", "power"),
        (EVALUATION_DURATION, "ON", "on"),
    ],
)
def test_k9_1_every_enumeration_in_any_case(setting: object, written: str, value: str) -> None:
    assert setting.value(written) == value  # type: ignore[attr-defined]


def test_k9_1_a_misspelt_mode_is_still_refused_and_says_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean monitor"):
        MODE.value("Monitro")


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("action: deny", "approval: block"),
        ("action: DENY", "approval: block"),
        ("effect: Allow", "approval: auto"),
        ("decision: permit", "approval: auto"),
        ("verdict: ask", "approval: approve"),
        ("then: human", "approval: approve"),
        ("deny: true", "approval: block"),
        ("allow: true", "approval: auto"),
        ("ask: true", "approval: approve"),
        ("effect: something", "approval"),
        ("approval: deny", "block"),
        ("approval: require-approval", "approve"),
        ("approval: Forbid", "block"),
        ("tool: delete_file", 'match: { type: "delete_file" }'),
        ("tools: [a, b]", "match: { type: ... }"),
        ("function: f", 'match: { type: "f" }'),
        ("resource: db", 'match: { target: "db" }'),
        ("risk: HIGH", "risk_level: high"),
        ("severity: severe", "risk_level: high"),
        ("risk_level: moderate", "medium"),
        ("when: {}", "conditions"),
        ("id: x", "name"),
        ("match: { tool: x }", "type"),
        ("match: { resource: x }", "target"),
        ("conditions: { tz: UTC }", "timezone"),
        ("conditions: { param_greater_than: { a: 1 } }", "param_gt"),
        ("conditions: { param_max: { a: 1 } }", "param_lte"),
    ],
)
def test_k9_1_words_of_other_languages(rule: str, hint: str) -> None:
    (line,) = refused(f"rules: [{{ {rule} }}]\n")
    assert line.endswith(f"(did you mean `{hint}`?)"), line


@pytest.mark.parametrize(("text", "hint"), [("statements: []", "rules"), ("default: x", "defaults")])
def test_k9_1_words_of_other_languages_at_the_top(text: str, hint: str) -> None:
    assert refused(text)[0].endswith(f"(did you mean `{hint}`?)")


def test_k9_1_the_table_suggests_only_what_exists() -> None:
    own = {key for section in KEYS.values() for key in section}
    for section, words in KEY_SYNONYMS.items():
        assert section in KEYS
        assert {each.rpartition(".")[2] for each in words.values()} <= own
        assert not set(words) & set(KEYS[section])
    assert set(validators.SYNONYMS["approval"].values()) == set(validators.APPROVALS)
    assert set(validators.SYNONYMS["risk_level"].values()) == set(validators.RISK_LEVELS)


RULE = "rules:\n  - name: a\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (
            RULE + "    match: {}\n   approval: block\n",
            "4:4",
            "indented by 3 spaces where 4 spaces are expected",
        ),
        (RULE + "     match: { type: x }\n", "3:6", "indented by 5 spaces where 4 spaces are expected"),
        (RULE + "   - name: b\n", "3:4", "indented by 3 spaces where 2 spaces are expected"),
        (RULE + " - name: b\n", "3:2", "indented by 1 space where 2 spaces are expected"),
        (" version: '1'\nrules: []\n", "2:1", "indented by no spaces where 1 space is expected"),
        (
            RULE + "    conditions:\n      param_eq: {a: 1}\n     time_after: '10:00'\n",
            "5:6",
            "by 5 spaces where 6",
        ),
        ("rules:\n\t- name: a\n", "2:1", "indented with a tab: YAML indents with spaces, here 2 of them"),
        (RULE + "\tapproval: block\n", "3:1", "indented with a tab"),
        (RULE + "  \tapproval: block\n", "3:3", "indented with a tab"),
        ("rules:\n  - name a\n    approval: block\n", "2:9", "a `:` is missing after `name`"),
        ("version '1'\nrules: []\n", "1:8", "a `:` is missing after `version`"),
        ("rules:\n  - name:a\n    approval: block\n", "2:9", "a space is missing after `name:`"),
        (RULE + "    approval:block\n", "3:13", "a space is missing after `approval:`"),
        ("rules:\n  -name: a\n    approval: block\n", "2:3", "a space is missing after `-`"),
        (
            'rules:\n  - name: "a\n    approval: block\n',
            "2:11",
            'the quote " that begins here is never closed',
        ),
        ("rules:\n  - name: 'a' b\n", "2:15", "text follows a closing quote '"),
        (
            RULE + "    match: { type: x\n    approval: block\n",
            "4:13",
            "`{` on line 3, column 12 is not closed",
        ),
        ("rules:\n  - match: { type: [x, y }\n", "2:26", "`[` on line 2, column 20 is not closed"),
        ("rules: ]\n", "1:8", "`]` closes nothing that is open"),
        ("rules:\n  - match: { type: * }\n", "2:20", 'unless it is quoted: write `"*"`'),
        ("rules:\n  - match: { type: *_file }\n", "2:20", 'did you mean `"*_file"`'),
        ("rules:\n  - name: @a\n", "2:11", 'unless it is quoted: write `"@a"`'),
        ('rules:\n  - name: "\\d"\n', "2:11", "write the value in single quotes"),
        ("rules:\n  name: a\n  - x\n", "3:3", "an item (`- `) stands among keys"),
        ("rules: []\n...\nx: 1\n", "3:1", "text follows `...`, which ends the document"),
        ("rules:\n  - match: { type:x }\n", "2:14", "a space is missing after `type:`"),
        (
            "rules:\n- name: a\nmatch:\n  type: x\n",
            "3:1",
            "it is a key of a rule, indented as the rule's other",
        ),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_k9_2_yaml_that_cannot_be_read_is_explained(text: str, place: str, words: str, ends: str) -> None:
    for start in ("", "\ufeff") if not place.startswith("1:") else ("",):
        line = refused((start + text.replace("\n", ends)).encode())[0]
        assert line.startswith(f"p:{place}: "), line
        assert words in line


@pytest.mark.parametrize(
    "content", [b"\xff\xfer\x00", b"rules: []\n\xe9", b"\x00", b"\xef\xbb\xbf", b"---\n---\n"]
)
def test_k9_2_what_is_no_policy_text_holds(content: bytes) -> None:
    assert refused(content)[0].startswith("p:")


PIECES = st.sampled_from(
    [
        *"\t \n\r:-[]{}'\"*&!@%|>#,?\\.ab1\x00\u2028\ufeff",
        "- ",
        ": ",
        "  ",
        "rules:",
        "name: a",
        "\n  - ",
        "match: {",
        "\n---\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=25).map(lambda each: "".join(each).encode()))
)
def test_k9_2_no_bytes_lead_to_a_traceback_holds(content: bytes) -> None:
    for text in (content, b"rules:\n  - name: a\n" + content):
        with contextlib.suppress(PolicyError):
            assert Policy.from_text(text).digest


def test_k9_2_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("rules:\n\t- name: a\n")
    result = CliRunner().invoke(main, ["policy", "check", str(file)])
    assert result.exit_code == 3
    assert "indented with a tab" in result.output
    assert "cannot start any token" not in result.output


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_k9_2_a_file_in_another_encoding_says_which_and_how_to_save_it(written: str, named: str) -> None:
    assert refused("defaults: {}\nrules: []\n".encode(written)) == [
        f"p:1:1: not UTF-8 but {named}: save it as UTF-8 in the editor, or with "
        f"`iconv -f {named} -t UTF-8 OLD > NEW`"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"a", b"\xff", b"\xfe\xff", b"\0\0\0\0", b"a\0", b"\xef\xbb\xbf"]
)
def test_k9_2_bytes_that_are_no_policy_are_refused_holds(content: bytes) -> None:
    with pytest.raises(PolicyError):
        Policy.from_text(content)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("approval: true", "must be `auto`, `approve` or `block`, not `true`"),
        (
            "conditions: { param_ne: { a: 1 } }",
            "no condition is negated by its name: write it below `not`",
        ),
        ("conditions: { param_not_in: { a: [1] } }", "no condition is negated"),
        ("conditions: { param_between: { a: [1, 2] } }", "use `param_gte` and `param_lte` together"),
        ("conditions: { amount: '> 1000' }", "as in `param_gt: { amount: ... }`"),
    ],
)
def test_k9_no_suggestion_says_less_than_what_was_written(line: str, said: str) -> None:
    """The closest name of a condition may be its opposite, and `true` may ask for an approval as well."""
    (problem,) = refused(f"rules:\n  - {line}\n")
    assert said in problem
    assert "did you mean" not in problem
