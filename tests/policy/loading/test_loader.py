"""The loader: every problem at once, each with its place; hostile text refused."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest
import yaml

from aegis_otel import Action, Approval, Policy, PolicyError, RiskLevel
from aegis_otel.errors import PolicyNotFound, PolicyNotMapping
from aegis_otel.policy import messages
from aegis_otel.policy.loading import validators, yaml_reader
from aegis_otel.policy.loading.loader import read_data, read_text
from aegis_otel.policy.patterns import compile_regex

FAULTY = """\
version: 2
default: { approval: auto }
rules:
  - name: a
    mach: { type: x }
    approval: Blok
    risk_level: hgh
    conditions:
      weekdays: [0, mon]
      timezone: europe/berlin
      param_gt: { n: "10", a..b: 3, 5: 1 }
      param_eq: {}
  - name: "b\\x1b[2J"
    match: { type: [], target: [ok, 1, "\\u202e"] }
    conditions:
  - 5
  - approval: block
rules: []
"""


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(text, source="p.yaml")
    return [str(problem) for problem in caught.value.problems]


def refused_data(data: Any) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(data)
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_is_reported_at_once_with_its_place() -> None:
    assert refused(FAULTY) == [
        'p.yaml:1:10: `version` must be "1", not the number `2` (did you mean `"1"`?)',
        "p.yaml:2:1: unknown key `default` in a policy (did you mean `defaults`?)",
        "p.yaml:5:5: unknown key `mach` in a rule (did you mean `match`?)",
        "p.yaml:6:15: `approval` must be `auto`, `approve` or `block`, not `Blok` (did you mean `block`?)",
        "p.yaml:7:17: `risk_level` must be `low`, `medium`, `high` or `critical`, not `hgh` "
        "(did you mean `high`?)",
        "p.yaml:9:18: `weekdays` must name days: 1 (Monday) to 7, or `mon` to `sun`, not the number `0`",
        "p.yaml:10:17: `timezone` must be the name of an IANA time zone, like `Europe/Berlin`, "
        "not `europe/berlin` (did you mean `Europe/Berlin`?)",
        "p.yaml:11:22: `param_gt` on `n` must be a finite number, not the text `10` (did you mean `10`?)",
        "p.yaml:11:28: `param_gt` needs parameter names between the dots, not `a..b`",
        "p.yaml:11:37: a key must be text, not the number `5`: put it in quotes",
        "p.yaml:12:17: `param_eq` must not be empty: leave it out if nothing is meant",
        "p.yaml:13:11: `name` has a control or invisible character, `\\x1b`, in `b\\x1b[2J`",
        "p.yaml:14:20: `match.type` must not be empty: leave it out if nothing is meant",
        "p.yaml:14:37: `match.target` must be text, not the number `1`",
        "p.yaml:14:40: `match.target` has a control or invisible character, `\\u202e`, in `\\u202e`",
        "p.yaml:15:16: `conditions` must be a mapping, not nothing",
        "p.yaml:16:5: a rule must be a mapping, not the number `5`",
        "p.yaml:18:1: duplicate key `rules`: it is already on line 3",
    ]


def test_a_name_that_is_used_twice_is_reported_in_its_place_among_the_others() -> None:
    text = (
        "rules:\n- {name: a, aproval: auto}\n- {name: a}\n- {name: b, approval: no}\n"
        "- {name: [a]}\n- {name: no}\n- {name: no}\n- {name: a}\n- 5\n"
    )
    assert [line.partition(" (did")[0] for line in refused(text)] == [
        "p.yaml:2:13: unknown key `aproval` in a rule",
        "p.yaml:3:4: duplicate rule name `a`: it is already at p.yaml:2:4",
        "p.yaml:4:23: `approval` must be `auto`, `approve` or `block`, not `no`",
        "p.yaml:5:10: `name` must be text, not a list",
        *(
            f"p.yaml:{line}:10: `no` is a boolean to some YAML readers and text to others: "
            "write true or false, or quote it"
            for line in (6, 7)
        ),
        "p.yaml:8:4: duplicate rule name `a`: it is already at p.yaml:2:4",
        "p.yaml:9:3: a rule must be a mapping, not the number `5`",
    ]
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict({"rules": [{"name": "a"}, {"name": "a", "x": 1}]})
    assert [problem.message for problem in caught.value.problems] == [
        "rules[1].x: unknown key `x` in a rule",
        "rules[1].name: duplicate rule name `a`: it is already at rules[0].name",
    ]


@pytest.mark.parametrize("word", ["no", "Yes", "OFF", "on", "010"])
def test_a_word_that_yaml_versions_read_differently_where_few_words_may_stand(word: str) -> None:
    """Those are named; to quote the word would not help, and is not offered."""
    approval, risk = "`auto`, `approve` or `block`", "`low`, `medium`, `high` or `critical`"
    text = f"defaults: {{approval: {word}, risk_level: {word}}}\nrules:\n- approval: {word}\n"
    assert refused(text) == [
        f"p.yaml:1:22: `defaults.approval` must be {approval}, not `{word}`",
        f"p.yaml:1:{36 + len(word)}: `defaults.risk_level` must be {risk}, not `{word}`",
        f"p.yaml:3:13: `approval` must be {approval}, not `{word}`",
    ]
    assert (
        f'(did you mean `"{word}"`?)'
        in refused(f"rules: [{{conditions: {{param_eq: {{approval: {word}}}}}}}]")[0]
    )


def test_problems_carry_their_parts() -> None:
    """A program gets what a person reads: message, file, line, column and suggestion."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_text("rules:\n  - aproval: block\n", source="p.yaml")
    (problem,) = caught.value.problems
    assert (problem.source, problem.line, problem.column, problem.suggestion) == ("p.yaml", 2, 5, "approval")
    assert problem.message == "unknown key `aproval` in a rule"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: &x 1\nrules: *x\n", ["1:10: anchor `&x` is not supp", "2:8: alias `*x` is not supp"]),
        ("rules:\n- <<: {name: a}\n", ["2:3: merge keys (`<<`) are not supported: write the keys out"]),
        ("rules: !!python/object:os.system x\n", ["1:8: tag `tag:yaml.org,2002:python/object:os.system`"]),
        ("version: !!str 1\n", ["1:10: tag `tag:yaml.org,2002:str` is not supported"]),
        ("? [a]\n: 1\n", ["1:3: a key must be text, not a list"]),
        ("---\nrules: []\n---\nrules: []\n", ["3:1: a second YAML document begins here"]),
        ("# x\n\n%TAG ! x:\n---\nrules: []\n", ["3:1: the directive `%TAG` is not supported"]),
        ("\ufeff%TAG\t! x:\r\n---\r\nrules: []\r\n", ["1:1: the directive `%TAG` is not supported"]),
        ("{rules: []}\n%TAG ! x:\n---\n{}\n", ["2:1: the directive `%TAG` is not supported"]),
        ("rules: [\n", ["2:1: not valid YAML: "]),
        ("rules: a: b\n", ["1:9: not valid YAML: a value with `: ` in it must be quoted"]),
        ("rules:\n\t- name: a\n", ["2:1: not valid YAML: the line is indented with a tab"]),
        ("rules: []\n# \x1b[2J\n", ["2:3: not valid YAML: unprintable character `\\x1b`"]),
        ("rules: []\n\x00", ["2:1: not valid YAML: unprintable character `\\x00`"]),
        ("rules: [] # ok\u2028- name: a\n", ["1:15: `\\u2028` may break the line or not"]),
        ("rules: [] # ok\u2029- name: a\n", ["1:15: `\\u2029` may break"]),
        ("rules: [] # ok\x85- name: a\n", ["1:15: `\\x85` may break"]),
        ("rules: []\n# ok\rdefaults: {}\n", ["2:5: `\\r` may break"]),
        ("rules: []\n\ufeff# x\n", ["2:1: `\\ufeff` may break"]),
        ("rules: []\nx: \ud800\n", ["2:4: not valid YAML: unprintable character `\\ud800`"]),
        ('rules: [{name: "\\ud800"}]\n', ["1:19: not valid YAML: found invalid Unicode"]),
        ("rules:\n", ["1:7: `rules` must be a list, not nothing (did you mean `[]`?)"]),
        ("defaults:\n", ["1:10: `defaults` must be a mapping, not nothing"]),
        ("rules: [{match: {type: {a: b}}}]\n", ["1:24: `match.type` must be text or a list of texts"]),
        (
            "rules: [{match: {params: {amount: 5}}}]\n",
            ["1:18: unknown key `params` in `match` (did you mean `conditions: { param_eq: ... }`?)"],
        ),
        ("rules: [{name: 5}]\n", ["1:16: `name` must be text, not the number `5`"]),
        ("rules: [{name: ''}]\n", ["1:16: `name` must have 1 to 200 characters, not 0"]),
        ("rules: [{name: <default>}]\n", ["1:16: `name` `<default>` stands in signals"]),
        (
            "rules: [{conditions: {param_eq: {a: null}}}]\n",
            ["1:37: `param_eq` on `a` must be text, a finite"],
        ),
        ("rules: [{conditions: {param_gt: {a: .inf}}}]\n", ["1:37: `param_gt` on `a` must be a finite"]),
        ("rules: [{conditions: {param_gt: {a: true}}}]\n", ["1:37: `param_gt` on `a` must be a finite"]),
        ("rules: [{conditions: {timezone: ../etc/passwd}}]\n", ["1:33: `timezone` must be the name"]),
        ("rules: [{conditions: {timezone: localtime}}]\n", ["1:33: `timezone` must be the name"]),
        ("on: off\n", ["1:1: `on` is a boolean to some", "1:5: `off` is a boolean to some"]),
        ("rules: [{name: 2026-03-04}]\n", ["1:16: `2026-03-04` is a number or a date to some"]),
    ],
)
def test_what_a_policy_cannot_be(text: str, expected: list[str]) -> None:
    found = refused(text)
    assert len(found) >= len(expected)
    for problem, start in zip(found, expected, strict=False):
        assert problem.startswith(f"p.yaml:{start}"), found


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "rules", "---\n...\n", "5", "null"])
def test_a_policy_is_a_mapping(text: str) -> None:
    """Inventory 26: anything else is also a TypeError; a file cut to nothing is not an empty policy."""
    with pytest.raises(PolicyNotMapping) as caught:
        Policy.from_text(text)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, PolicyError)


@pytest.mark.parametrize("data", [None, [], "rules", 5, UserDict(rules=[])])
def test_a_dict_is_a_dict(data: Any) -> None:
    with pytest.raises(PolicyNotMapping, match="must be a mapping"):
        Policy.from_dict(data)


def test_a_dict_names_its_problems_by_path() -> None:
    """Inventory 27: there is no line, so the path in the data stands in the message."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(
            {"rules": [{"match": {"type": 1}, "conditions": {"param_gt": {"a.b": "x"}}}, {1: 2}, ()]}
        )
    assert str(caught.value).splitlines() == [
        "<policy>: rules[0].match.type: `match.type` must be text or a list of texts, not the number `1`",
        "<policy>: rules[0].conditions.param_gt.a.b: `param_gt` on `a.b` must be a finite number, not `x`",
        "<policy>: rules[1][1]: a key must be text, not the number `1`",
        "<policy>: rules[2]: a rule must be a mapping, not a list",
    ]


def test_a_missing_file_is_also_a_file_not_found_error(tmp_path: Path) -> None:
    """Inventory 26."""
    path = tmp_path / "policy.yaml"
    with pytest.raises(PolicyNotFound) as caught:
        Policy.from_yaml(path)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(caught.value) == f"{path}: policy file not found"


def test_a_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="policy file cannot be read: is a directory"):
        Policy.from_yaml(tmp_path)


def test_a_pipe_is_no_policy_and_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    os.mkfifo(path)
    with pytest.raises(PolicyError, match="policy file cannot be read: not a regular file"):
        Policy.from_yaml(path)


def test_a_path_with_a_nul_is_no_policy() -> None:
    with pytest.raises(PolicyError, match="policy file cannot be read"):
        Policy.from_yaml("policy\0.yaml")


def test_bytes_that_are_not_utf8_have_a_place() -> None:
    assert refused("rules: [] # é".encode() + b"\xff") == [
        "p.yaml:1:14: not UTF-8: byte 0xff has no meaning here"
    ]
    assert refused("rules: []".encode("utf-16")) == [
        "p.yaml:1:1: not UTF-8 but UTF-16: save it as UTF-8 in the editor, or with "
        "`iconv -f UTF-16 -t UTF-8 OLD > NEW`"
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    policy = Policy.from_text("\ufeffrules:\r\n  - name: a\r\n".encode(), source="p.yaml")
    assert [str(rule.place) for rule in policy.rules] == ["p.yaml:2:5"]


def test_columns_count_characters() -> None:
    assert refused("rules: [{ name: 'é𝄞', aproval: x }]\n")[0].startswith("p.yaml:1:23: ")


def test_a_bomb_of_aliases_is_refused_without_being_expanded() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    problems = refused("a0: &a0 [lol]\n" + "\n".join(levels))
    assert len(problems) == 101
    assert problems[-1].endswith("more problems")


@pytest.mark.parametrize("before", ["", "{rules: []}\n...\n"])
def test_many_directives_are_refused_unread(before: str) -> None:
    """Their parser compares each with all others: as many as a file may have took a minute."""
    directives = "".join(f"%TAG !a{number}! tag:x,\n" for number in range(150_000))
    start = time.process_time()
    (problem,) = refused(f"{before}{directives}---\nrules: []\n")
    assert time.process_time() - start < 5
    place = f"p.yaml:{before.count(chr(10)) + 1}:1"
    fix = "remove the line, and write plain values without tags"
    assert problem == f"{place}: the directive `%TAG` is not supported: {fix}"


def test_a_directive_that_names_the_version_is_fine() -> None:
    assert len(Policy.from_text("# x\n%YAML 1.2\n---\nrules: [{name: a}]\n").rules) == 1
    (problem,) = refused("%YAML 1.1\n%YAML 1.1\n---\nrules: []\n")
    assert problem.startswith("p.yaml:2:1: not valid YAML: found duplicate %YAML directive")


def test_a_percent_sign_within_the_document_is_fine() -> None:
    text = (
        "rules:\n- message: >-\n    a\n    %TAG b\n  approval: block\n- name: '50\n% off'\n- name: '%TAG x'\n"
    )
    assert len(Policy.from_text(text).rules) == 3


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(opening: str) -> None:
    text = "rules: " + opening * 100_000 if opening != "- " else opening * 10_000
    assert "nested more than 24 deep" in refused(text)[-1]


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(PolicyError, match="longer than 4 MiB: split the policy into several files"):
        Policy.from_yaml(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert "longer than 4 MiB" in refused("#" * (5 << 20))[0]


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    digits = "9" * 10_000
    text = f"rules: [{{conditions: {{param_gt: {{a: {digits}}}}}}}]\n"
    assert refused(text) == [f"p.yaml:1:37: `{'9' * 60}…` has more than 400 digits: quote it if it is text"]
    with pytest.raises(PolicyError, match="must be a finite number, not a very large number"):
        Policy.from_dict({"rules": [{"conditions": {"param_gt": {"a": 10**10_000}}}]})


def test_the_slow_parser_reads_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML without libyaml: same policy, same places; only the words about bad YAML may differ."""
    good = "version: '1'\nrules:\n  - name: a\n    conditions: { param_gt: { n: 1.5 } }\n"
    fast = [refused(FAULTY), read_text(good)]
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert [refused(FAULTY), read_text(good)] == fast
    assert refused("rules: [\n")[0].startswith("p.yaml:2:1: not valid YAML: ")


def test_text_and_data_make_the_same_document() -> None:
    text = """\
defaults: { risk_level: HIGH }
rules:
  - name: a
    match: { type: [x, "y*"], target: z, agent: "q?" }
    conditions: { time_after: "08:00", weekdays: [fri], param_eq: { a: 1, b: x, c: true, d: 1.5 } }
    risk_level: Critical
    approval: block
  - {}
"""
    from_text, from_data = read_text(text), read_data(yaml.safe_load(text))
    rule, bare = from_text.rules
    assert [pattern.text for pattern in rule.types] == ["x", "y*"]
    assert (rule.risk_level, rule.approval) == (RiskLevel.CRITICAL, Approval.BLOCK)
    assert from_text.defaults == (Approval.APPROVE, RiskLevel.HIGH)
    assert [str(pattern.place) for pattern in rule.types] == ["<policy>:4:21", "<policy>:4:24"]
    assert [(test.path, test.expected, test.place.column) for test in rule.tests] == [
        ("a", 1, 69),
        ("b", "x", 75),
        ("c", True, 81),
        ("d", 1.5, 90),
    ]
    assert (bare.name, bare.types[0].text, bare.approval) == (None, "*", Approval.APPROVE)
    assert Policy([from_text]) == Policy([from_data])


def test_names_and_patterns_keep_letters_of_every_language() -> None:
    text = "rules: [{ name: 削除を止める, match: { type: 'löschen_*', agent: '👩\u200d💻' } }]\n"
    assert Policy.from_text(text).rules[0].name == "削除を止める"


def test_reading_needs_the_parser_only_when_a_policy_is_loaded() -> None:
    import subprocess

    program = (
        "import sys, aegis_otel.policy as p\n"
        "before = {'pydantic', 'yaml', 're2'} & set(sys.modules)\n"
        "p.Policy.from_text('rules: []')\n"
        "print(before, 'yaml' in sys.modules, 'pydantic' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set() True False"


def test_problems_stop_at_a_hundred() -> None:
    problems = refused("rules:\n" + "  - aproval: block\n" * 500)
    assert len(problems) == 101
    assert problems[-1] == "p.yaml: and 400 more problems"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            "approval: allow",
            "`approval` must be `auto`, `approve` or `block`, not `allow` (did you mean `auto`?)",
        ),
        (
            "approval: Deny",
            "`approval` must be `auto`, `approve` or `block`, not `Deny` (did you mean `block`?)",
        ),
        ("rules: []", "`rules` does not belong in a rule: it is a key of the policy itself"),
        ("type: x", "`type` does not belong in a rule (did you mean `match.type`?)"),
        (
            "conditions: { param_regex: { a: x } }",
            "unknown key `param_regex` in `conditions` (did you mean `param_matches`?)",
        ),
    ],
)
def test_what_is_said_otherwise_elsewhere_has_a_hint(rule: str, problem: str) -> None:
    (found,) = refused(f"rules: [{{ {rule} }}]\n")
    assert found.split(": ", 1)[1] == problem


@pytest.mark.parametrize(
    ("conditions", "column", "problem"),
    [
        (
            "any: {param_eq: {a: 1}}",
            28,
            "`any` must be a list of mappings of conditions, of which one must hold, not a mapping "
            "(did you mean `[{ ... }, { ... }]`?)",
        ),
        ("any: []", 28, "`any` must not be empty: leave it out if nothing is meant"),
        ("any: [{}]", 29, "an item of `any` must not be empty: leave it out if nothing is meant"),
        ("any: [5]", 29, "an item of `any` must be a mapping, not the number `5`"),
        (
            "any: [{param_gtt: {a: 1}}]",
            30,
            "unknown key `param_gtt` in `any` (did you mean `param_gt`?)",
        ),
        ("any: [{param_gt: {a: x}}]", 44, "`param_gt` on `a` must be a finite number, not `x`"),
        (
            "any: [{a: 1}]",
            30,
            "unknown key `a` in `any`: a parameter stands below its condition, as in `param_gt: { a: ... }`",
        ),
        (
            "any: [{approval: auto}]",
            30,
            "`approval` does not belong in `any`: it is a key of a rule, "
            "indented as the rule's other keys are",
        ),
        ("not: {}", 28, "`not` must not be empty: leave it out if nothing is meant"),
        ("not: 5", 28, "`not` must be a mapping, not the number `5`"),
        (
            "not: [{param_eq: {a: 1}}]",
            28,
            "`not` must be a mapping of conditions, not a list (did you mean `{ any: [ ... ] }`?)",
        ),
        ("not: {an: []}", 29, "unknown key `an` in `not` (did you mean `any`?)"),
        *(
            (f"{word}: []", 23, f"unknown key `{word}` in `conditions` (did you mean `any`?)")
            for word in ("any_of", "anyOf", "or", "oneOf")
        ),
        *(
            (f"{word}: {{}}", 23, f"unknown key `{word}` in `conditions` (did you mean `not`?)")
            for word in ("unless", "except")
        ),
        ("none: []", 23, "unknown key `none` in `conditions` (did you mean `not: { any: ... }`?)"),
        (
            "all: []",
            23,
            "unknown key `all` in `conditions`: conditions that stand side by side must all hold: write them "
            "without it",
        ),
        (
            "param_ne: {a: 1}",
            23,
            "unknown key `param_ne` in `conditions`: no condition is negated by its name: write it below "
            "`not`, as in `not: { param_eq: ... }`",
        ),
        (
            "not: {" * 9 + "param_eq: {a: 1}" + "}" * 9,
            76,
            "`not` is nested too deep: groups may be nested 8 deep",
        ),
        (
            "any: [{" * 9 + "param_eq: {a: 1}" + "}]" * 9,
            85,
            "an item of `any` is nested too deep: groups may be nested 8 deep",
        ),
    ],
)
def test_a_group_that_is_wrong_says_where_and_what_to_write(
    conditions: str, column: int, problem: str
) -> None:
    text = f"rules: [{{conditions: {{{conditions}}}}}]"
    assert refused(text) == [f"p.yaml:1:{column}: {problem}"]
    (where, _, said), *others = [each.partition(": ") for each in refused_data(yaml.safe_load(text))]
    assert (where, others) == ("<policy>", [])
    assert said.startswith("rules[0].conditions")
    assert said.endswith(problem)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("any: []", "unknown key `any` in a rule (did you mean `conditions: { any: ... }`?)"),
        ("or: []", "unknown key `or` in a rule (did you mean `conditions: { any: ... }`?)"),
        ("not: {}", "unknown key `not` in a rule (did you mean `conditions: { not: ... }`?)"),
        ("unless: {}", "unknown key `unless` in a rule (did you mean `conditions: { not: ... }`?)"),
        ("match: { any: [] }", "`any` does not belong in `match` (did you mean `conditions.any`?)"),
    ],
)
def test_a_group_in_a_wrong_place_says_where_it_belongs(rule: str, problem: str) -> None:
    (found,) = refused(f"rules: [{{ {rule} }}]\n")
    assert found.split(": ", 1)[1] == problem


def test_groups_may_be_nested_eight_deep() -> None:
    for opening, closing in (("not: {", "}"), ("any: [{", "}]")):
        conditions = opening * 8 + "param_eq: {a: 1}" + closing * 8
        policy = Policy.from_text(f"rules: [{{conditions: {{{conditions}}}}}]")
        assert policy.evaluate(Action("t", params={"a": 1})).matched_rule == "rule_0"


@pytest.mark.parametrize(
    ("rule", "column", "problem"),
    [
        ("mode: monitr", 17, "`mode` must be `enforce` or `monitor`, not `monitr` (did you mean `monitor`?)"),
        (
            "mode: dry-run",
            17,
            "`mode` must be `enforce` or `monitor`, not `dry-run` (did you mean `monitor`?)",
        ),
        ("mode: strict", 17, "`mode` must be `enforce` or `monitor`, not `strict` (did you mean `enforce`?)"),
        ("mode: off", 17, "`mode` must be `enforce` or `monitor`, not `off`"),
        ("mode: [monitor]", 17, "`mode` must be `enforce` or `monitor`, not a list"),
        ("mod: monitor", 11, "unknown key `mod` in a rule (did you mean `mode`?)"),
        ("monitor: true", 11, "unknown key `monitor` in a rule (did you mean `mode`?)"),
        ("dry_run: true", 11, "unknown key `dry_run` in a rule (did you mean `mode`?)"),
        (
            "match: {mode: monitor}",
            19,
            "`mode` does not belong in `match`: it is a key of a rule, indented as the rule's other keys are",
        ),
        ("message: ''", 20, "`message` must have 1 to 500 characters, not 0"),
        (f"message: {'x' * 501}", 20, "`message` must have 1 to 500 characters, not 501"),
        ("message: 5", 20, "`message` must be text, not the number `5`"),
        ("message: [x]", 20, "`message` must be text, not a list"),
        (
            'message: "a\\nb"',
            20,
            "`message` has a control or invisible character, `\\n`, in `a\\nb`",
        ),
        (
            'message: "a\\u00adb"',
            20,
            "`message` has a control or invisible character, `\\xad`, in `a\\xadb`",
        ),
        (
            'message: "a\\u200db"',
            20,
            "`message` has a control or invisible character, `\\u200d`, in `a\\u200db`",
        ),
        (
            'message: "a\\u200cb"',
            20,
            "`message` has a control or invisible character, `\\u200c`, in `a\\u200cb`",
        ),
        (
            'message: "a\\u061cb"',
            20,
            "`message` has a control or invisible character, `\\u061c`, in `a\\u061cb`",
        ),
        (
            'message: "a\\U000E0041b"',
            20,
            "`message` has a control or invisible character, `\\U000e0041`, in `a\\U000e0041b`",
        ),
        (
            'message: "a\\U000E0100b"',
            20,
            "`message` has a control or invisible character, `\\U000e0100`, in `a\U000e0100b`",
        ),
        (
            'name: "a\\U000E0041b"',
            17,
            "`name` has a control or invisible character, `\\U000e0041`, in `a\\U000e0041b`",
        ),
        ("mesage: x", 11, "unknown key `mesage` in a rule (did you mean `message`?)"),
        ("hint: x", 11, "unknown key `hint` in a rule (did you mean `message`?)"),
        (
            "conditions: {message: x}",
            24,
            "`message` does not belong in `conditions`: it is a key of a rule, indented as the rule's other "
            "keys are",
        ),
        (
            "match: {ignore_case: 'true'}",
            32,
            "`match.ignore_case` must be `true` or `false`, not `true` (did you mean `true`?)",
        ),
        ("match: {ignore_case: 1}", 32, "`match.ignore_case` must be `true` or `false`, not the number `1`"),
        ("match: {ignore_case: [type]}", 32, "`match.ignore_case` must be `true` or `false`, not a list"),
        (
            "match: {ignorecase: true}",
            19,
            "unknown key `ignorecase` in `match` (did you mean `ignore_case`?)",
        ),
        (
            "match: {case_insensitive: true}",
            19,
            "unknown key `case_insensitive` in `match` (did you mean `ignore_case`?)",
        ),
        (
            "ignore_case: true",
            11,
            "`ignore_case` does not belong in a rule (did you mean `match.ignore_case`?)",
        ),
        (
            "conditions: {ignore_case: true}",
            24,
            "`ignore_case` does not belong in `conditions` (did you mean `match.ignore_case`?)",
        ),
    ],
)
def test_a_mode_a_message_or_a_case_that_is_wrong_says_where_and_what_to_write(
    rule: str, column: int, problem: str
) -> None:
    assert refused(f"rules: [{{ {rule} }}]") == [f"p.yaml:1:{column}: {problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "mode: monitor",
            "`mode` does not belong in a policy: it is a key of a rule, indented as the rule's "
            "other keys are",
        ),
        (
            "defaults: {mode: monitor}",
            "`mode` does not belong in `defaults`: it is a key of a rule, indented "
            "as the rule's other keys are",
        ),
        (
            "defaults: {message: x}",
            "`message` does not belong in `defaults`: it is a key of a rule, indented "
            "as the rule's other keys are",
        ),
        (
            "ignore_case: true",
            "`ignore_case` does not belong in a policy (did you mean `match.ignore_case`?)",
        ),
    ],
)
def test_keys_of_a_rule_stand_in_a_rule(text: str, problem: str) -> None:
    (found,) = refused(text)
    assert found.split(": ", 1)[1] == problem


def test_what_is_not_shown_is_not_explained() -> None:
    """A suggestion is looked for among hundreds of time zones: for tens of thousands it took minutes."""
    looked_for, listed = messages._closest.cache_info().misses, validators._zones.cache_info().misses
    lines = "".join(f"  - conditions: {{ timezone: Europ/Berlin{n} }}\n" for n in range(500))
    problems = refused(f"rules:\n{lines}")
    assert (len(problems), problems[-1]) == (101, "p.yaml: and 400 more problems")
    assert problems[0].endswith("(did you mean `Europe/Berlin`?)")
    assert messages._closest.cache_info().misses - looked_for <= 100
    assert validators._zones.cache_info().misses - listed <= 1


def test_a_policy_of_too_many_values_is_refused_before_they_are_validated() -> None:
    text = "rules: [" + "a," * yaml_reader.MAX_NODES + "]\n"
    limit = yaml_reader.MAX_NODES
    assert refused(text) == [
        f"p.yaml:1:{2 * limit + 5}: more than {limit} keys and values: split the policy into several files"
    ]


def test_regexes_that_are_too_large_together_are_refused_before_the_rest_is_compiled() -> None:
    """2,000 of these took minutes and 2 GB."""
    lines = [f"  - conditions: {{ param_matches: {{ x: '(?i)\\pL{{{n}}}' }} }}\n" for n in range(100, 200)]
    compiled = compile_regex.cache_info().misses
    (problem,) = refused("rules:\n" + "".join(lines))
    assert problem == (
        "p.yaml:37:39: `param_matches` on `x` is too large together with the regular expressions before it, "
        "for which RE2 needs more than 5000000 steps: repeat large sets of characters, such as `\\pL`, less "
        "often, as in `\\pL+` instead of `\\pL{1,100}`"
    )
    assert compile_regex.cache_info().misses - compiled == 36


def test_regexes_of_a_large_policy_are_not_too_large() -> None:
    """Each of 2,000 rules may have a pattern with large sets of characters."""
    line = "  - conditions: {{ param_matches: {{ x: '[\\p{{L}}\\p{{N}}]+@example{}' }} }}\n"
    assert len(read_text("rules:\n" + "".join(map(line.format, range(2_000)))).rules) == 2_000


def test_regexes_of_which_each_is_too_large_are_not_all_compiled() -> None:
    """RE2 takes as long to find that one is too large as for a large one."""
    lines = [f"  - conditions: {{ param_matches: {{ x: '(?i)\\pL{{{n}}}' }} }}\n" for n in range(800, 900)]
    compiled = compile_regex.cache_info().misses
    problems = refused("rules:\n" + "".join(lines))
    assert problems[0] == (
        "p.yaml:2:39: `param_matches` on `x` is not a regular expression in RE2 syntax: "
        "pattern too large - compile failed"
    )
    assert len(problems) == 51
    assert problems[-1].startswith("p.yaml:52:39: `param_matches` on `x` is too large together with")
    assert compile_regex.cache_info().misses - compiled == 51


@pytest.mark.parametrize("value", ["\ud800", "\ud83d\ude00", "x\udfff"])
@pytest.mark.parametrize("condition", ["param_eq", "param_contains"])
def test_text_that_is_not_valid_unicode_is_refused(condition: str, value: str) -> None:
    """Two lone surrogates would have the digest of the character they are halves of."""
    with pytest.raises(PolicyError, match=f"`{condition}` on `a` must be valid Unicode, not text with"):
        Policy.from_dict({"rules": [{"conditions": {condition: {"a": value}}}]})


def test_the_depth_allowed_is_more_than_a_policy_needs() -> None:
    assert yaml_reader.MAX_DEPTH > 6
