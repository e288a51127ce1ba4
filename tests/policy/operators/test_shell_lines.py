"""`shell_only`: every command of a shell line is one of a list; what is not plain text is unknown."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.lint import lint
from aegis_otel.policy.lint.parameter_content import WORDS
from aegis_otel.policy.operators import shell_lines
from tests.support.conditions import answer

PATTERNS = ["ls", "cat *", "git status *", "git log --oneline", "npm run test", "echo 'a b' *", "ok *"]
ALLOWED = shell_lines.prepare(shell_lines.check(PATTERNS))


def judged(line: Any) -> bool | str:
    return shell_lines.judge(line, ALLOWED)


ONLY_ALLOWED = [
    *("ls", " ls ", "ls\n", "\n\nls", "ls;", "ls &", "ls; ls", "ls && ls || ls", "ls | cat", "ls |& cat"),
    *("ls\nls\n\ncat x", "ls &&\n ls", "ls |\n cat", "(ls)", "(ls; cat x) | cat", "{ ls; }", "{ ls\n}"),
    *("if ls; then cat x; fi", "if ls; then ls; elif ls; then ls; else ls; fi", "while ls; do ls; done"),
    *("until ls; do cat x; done && ls", "ls # cat /etc/passwd; rm x", "# a comment\nls", "ls # '"),
    *("git status", "git status -s", "git  status\t--short", "git status -- a b", "git log --oneline"),
    *("'ls'", '"ls"', r"\ls", "l's'", 'l""s', "'git' status", 'git "status"', "git 'log' --oneline"),
    *(
        "cat 'a b'",
        'cat "a b"',
        r"cat a\ b",
        "cat 'a\nb'",
        "cat 'a$b`c`!'",
        "cat ';rm x'",
    ),
    *(
        'cat "a;b|c&d>(e)"',
        r'cat "a\"b\\c\$d\`e"',
        r"cat a\;b\|c\&d\>e\$f\`g\!h",
        "cat 'größe'",
        'cat "größe"',
    ),
    *("cat *.py", "cat src/*/[ab]?.md", "cat HEAD~1", "cat a=b --c=d:e,f@g%h+i^", "cat 12 -1"),
    *("ls 2>/dev/null", "ls >/dev/null 2>&1", "ls &>/dev/null", "ls </dev/null", "ls 2>&1 | cat", "ls >&2"),
    *("ls \\\n && cat \\\n  a \\\n  b", "echo 'a b'", "echo 'a b' c", r"echo a\ b", 'echo "a b" "c d"'),
]
PLAINLY_ANOTHER = [
    *("rm x", "ls; rm x", "ls && rm x", "ls || rm x", "ls | rm x", "ls & rm x", "ls\nrm x", "ls |& rm x"),
    *("(rm x)", "(ls; rm x)", "{ rm x; }", "{ ls; rm x; }", "if rm x; then ls; fi", "if ls; then rm x; fi"),
    *("while ls; do rm x; done", "ls -la", "ls x", "git", "git push", "git log", "git log --oneline -5"),
    *("npm run", "npm run test2", "npm run test -- x", "echo a b", "echo", "LS", "/bin/ls", "./ls", "lss"),
    *(
        "r\\m x",
        "'rm' x",
        '"r"m x',
        "rm $x",
        "rm `ls`",
        "rm > x",
        "sudo ls",
        "env ls",
        "bash -c ls",
        "xargs ls",
    ),
    *("ls > /dev/null; rm x", "ls # x\nrm x", "ls 2>&1 && rm x", "nice ls", "git -c core.pager=x status"),
    *("rm x; f() { ls; }", "\trm x"),
]
NOT_KNOWN = [
    # Expansions
    *("ls $x", "cat $HOME/x", 'cat "$x"', "cat ${x:-y}", "cat $(rm x)", 'cat "$(rm x)"', "cat `rm x`"),
    *("cat $((1+1))", "cat $[1+1]", "cat <(rm x)", "cat >(rm x)", "cat $'a'", 'cat $"a"', "$x", "$(rm x)"),
    *("`rm x`", "${x}s", "cat {a,b}", "cat {1..3}", "cat ~", "cat ~root/x", "cat a:~/x", "~/bin/x", "l{s,x}"),
    *(
        "cat !!",
        "cat !$",
        'cat "!x"',
        "!ls",
        "!!",
        "cat a\\\nb",
        "l\\\ns",
        'cat "a\\\nb"',
        "ls *",
        "l?",
        "[l]s",
    ),
    *("cat a{b", "cat }", "ls {}", "cat a#b", "cat #b`rm x`\n$x"),
    # Redirections to elsewhere
    *(
        "cat x > y",
        "ls >> y",
        "ls >| y",
        "ls 2> y",
        "ls &> y",
        "ls >& y",
        "ls <> y",
        "cat < y",
        "cat << E\nE",
    ),
    *(
        "cat <<'E'\nrm x\nE\nls",
        "cat <<-E\n\trm x\n\tE",
        "cat <<< x",
        "> y",
        "ls > /dev/nullx",
        "ls > /dev/tcp/h/1",
    ),
    *("ls 3<> y", "ls {fd}> y", "ls a2>/dev/null", "ls >/dev/null x", ">/dev/null ls", "ls > /dev/null'x'"),
    *("ls >/dev/null }", "ls 2>&1 fi", "ls 2>&11", "ls 2>&-"),
    # Assignments, definitions, what changes later words
    *(
        "x=1",
        "x=1 ls",
        "PATH=/tmp ls",
        "PATH+=:/tmp ls",
        "x=1; ls",
        "x=(a b); ls",
        "a[1]=2 ls",
        "export PATH=x; ls",
    ),
    *(
        "export PATH; ls",
        "declare x=1; ls",
        "'export' PATH=x; ls",
        "\\declare x; ls",
        "local x; ls",
        "unset x; ls",
    ),
    *(
        "f() { rm x; }; ls",
        "function f { rm x; }; ls",
        "ls() { rm x; }; ls",
        "ls () { rm x; }\nls",
        "ls() (rm x); ls",
    ),
    *(
        "alias ls=rm; ls",
        "alias ls=rm\nls",
        "unalias ls",
        "eval ls",
        "eval 'rm x'",
        "'eval' ls",
        "exec ls",
        ". x; ls",
    ),
    *(
        "source x; ls",
        "command ls",
        "builtin ls",
        "trap 'rm x' EXIT; ls",
        "enable -n ls; ls",
        "hash -p /bin/rm ls; ls",
    ),
    *(
        "set -o x; ls",
        "shopt -s expand_aliases; ls",
        "read PATH; ls",
        "mapfile x; ls",
        "let x=1; ls",
        "fc -s; ls",
    ),
    # Constructs
    *(
        "for PATH in /tmp; do ls; done",
        "for x in a; do ls; done",
        "for ((;;)); do ls; done",
        "select x in a; do ls; done",
    ),
    *(
        "case x in x) ls;; esac",
        "[[ -f x ]] && ls",
        "[ -f x ] && ls",
        "((x=1)); ls",
        "((ls))",
        "! ls",
        "time ls",
    ),
    *(
        "coproc ls",
        "coproc rm x",
        "time rm x",
        "ls; time",
        "{ ls",
        "ls }; }",
        "ls; )",
        "(ls",
        "if ls",
        "fi",
        "done; ls",
    ),
    *(
        "ls ;; ls",
        "ls; ; ls",
        "ls &&",
        "&& ls",
        "| ls",
        "ls | | ls",
        "ls & & ls",
        "ls 'x",
        'ls "x',
        "ls `x",
        "ls \\",
    ),
    # Characters
    *(
        "ls\x00",
        "ls\x00; rm x",
        "ls\r",
        "ls\r\nls",
        "cat a\rb",
        "cat\x0bx",
        "cat\x0cx",
        "cat \x1b[2J",
        "cat \x7f",
    ),
    *(
        "ls\u00a0x",
        "cat\u00a0x",
        "cat \u00a0",
        "cat\u2003x",
        "cat\u3000x",
        "cat \u200b",
        "cat a\u0085rm x",
        "cat \ufeffx",
    ),
    *("cat größe", "\ufeffls", "\uff4c\uff53", "ls\uff1brm x", "cat \ud800", "cat 'a\x00b'", "cat 'a\rb'"),
    *("", " ", "\n", "# ls", ";", "cat " + "a" * 4000, "ls;" * 401 + "ls", "(" * 300 + "ls" + ")" * 300),
]


@pytest.mark.parametrize("line", ONLY_ALLOWED)
def test_only_allowed_commands(line: str) -> None:
    assert judged(line) is True


@pytest.mark.parametrize("line", PLAINLY_ANOTHER)
def test_plainly_another_command(line: str) -> None:
    assert judged(line) is False


@pytest.mark.parametrize("line", NOT_KNOWN, ids=lambda line: repr(line[:40]))
def test_what_is_not_plain_is_unknown(line: str) -> None:
    """Never that a line runs only what is allowed; nor, which `not:` would turn round, that it does not."""
    assert isinstance(judged(line), str)


@pytest.mark.parametrize("approval", ["auto", "block"])
def test_no_spelling_is_decided_more_loosely(approval: str) -> None:
    """Than `rm x` is: neither by a rule that lets run what is allowed, nor by one that blocks it."""
    other = "block" if approval == "auto" else "auto"
    rule = {"name": "r", "conditions": {"shell_only": {"command": PATTERNS}}, "approval": approval}
    policy = Policy.from_dict({"rules": [rule], "defaults": {"approval": other}})

    def decided(line: str) -> str:
        return policy.evaluate(Action("t", params={"command": line})).approval

    assert {decided(line) for line in ONLY_ALLOWED} == {approval}
    assert {decided(line) for line in PLAINLY_ANOTHER} == {other}
    assert {decided(line) for line in NOT_KNOWN} == {"block"}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (5, "the value is a number, not text"),
        (["ls"], "the value is a list, not text"),
        ({"ls": 1}, "the value is a mapping, not text"),
        (None, "the value is null"),
        ("ls -l $x", "a command of the line has words that are not plain text"),
        ("ls > x", "the line has a shell construct that is not followed"),
        ("ls 'x", "the line does not parse as shell"),
        ("git s*", "a word of the line is a pattern for file names"),
        ("\x07", "the line has a control character"),
        ("\ud800", "the value is not valid Unicode"),
        ("", "the line has no command"),
        ("l" * 4001, "the line is too long"),
    ],
)
def test_why_it_is_unknown(value: Any, result: str) -> None:
    if value == "ls -l $x":  # of a pattern that `ls -l` follows
        assert answer({"shell_only": {"p": ["ls *"]}}, {"p": value}) == result
    else:
        assert answer({"shell_only": {"p": PATTERNS}}, {"p": value}) == result
        assert answer({"shell_only": {"o.p": PATTERNS}}, {"o": {"p": value}}) == result


@pytest.mark.parametrize(
    ("patterns", "line", "result"),
    [
        (["printf *"], "printf '%s\\n' a", True),
        (["printf *"], "printf -v PATH x", str),
        (["printf *"], "printf '-v' 'a[$(rm x)]' x", str),
        (["printf *"], "printf *", str),
        (["test *"], "test -f x", True),
        (["test *"], "test -v 'a[$(rm x)]'", str),
        (["source .venv/bin/activate"], "source .venv/bin/activate", True),
        (["source .venv/bin/activate"], "source x", str),
        (["set -e"], "set -e", True),
        (["ls *"], "ls", True),
        (["ls"], "ls *", str),
        (["ls a"], "ls ?", str),
        (["ls a"], "ls b ?", False),
        (["ls a", "ls b *"], "ls b $x", str),
        (["ls a", "ls b *"], "ls c $x", False),
        (["find . -name '*.py'"], "find . -name '*.py'", True),
        (["find . -name '*.py'"], "find . -name *.py", str),
        (["git commit -m 'a b'"], 'git commit -m "a b"', True),
        ([r"ls a\ b"], "ls 'a b'", True),
        (["ls '*'"], "ls x", False),
        (["ls '*'"], "ls '*'", True),
    ],
)
def test_patterns(patterns: list[str], line: str, result: Any) -> None:
    found = shell_lines.judge(line, shell_lines.prepare(shell_lines.check(patterns)))
    assert isinstance(found, str) if result is str else found is result


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("ls", "`shell_only` on `p` must be a list of commands, not `ls`"),
        (5, "must be a list of commands, not the number `5`"),
        ({"ls": 1}, "must be a list of commands, not a mapping"),
        ([], "must not be empty: nothing would be allowed by it"),
        (["ls"] * 1001, "must list at most 1,000 items, not 1,001"),
        ([5], "must be a command of 1 to 1,000 characters, not the number `5`"),
        ([None], "must be a command of 1 to 1,000 characters, not nothing"),
        ([""], "must be a command of 1 to 1,000 characters, not empty text"),
        (["l" * 1001], "must be a command of 1 to 1,000 characters, not `lll"),
        *(
            ([each], "must be a single command of plain words")
            for each in (
                *("*", "  ", "* ls", "ls * x", "ls *.py", "l?", "ls a | cat", "ls;", "ls && ls", "ls > x"),
                *("ls $x", "ls $(x)", "ls `x`", "ls {a,b}", "ls ~/x", "ls 'x", 'ls "x', "ls\nls", "ls\x00"),
                *("ls\u00a0x", "größe *", "ls !x", "ls # x", "(ls)", "\ud800", "git* status", "ls [a]"),
            )
        ),
        *(
            ([each], "must begin with the name of a program, not as `")
            for each in ("if ls", "time *", "coproc ls", "function x", "a=1 ls", "while *", "ls=x")
        ),
        (
            ["ls", "eval *"],
            "must write out all words of `eval`, which can run any command, not `eval *`",
        ),
        (["source *"], "must write out all words of `source`, which can run any command, not `source *`"),
        (["'command' *"], "must write out all words of `command`, which can run any command"),
    ],
)
def test_what_is_refused(patterns: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict({"rules": [{"conditions": {"shell_only": {"p": patterns}}}]})
    assert message in str(caught.value)


def test_the_model_reads_what_is_understood() -> None:
    rule = {"conditions": {"shell_only": {"command": ["ls *"]}}, "approval": "block"}
    decision = Policy.from_dict({"rules": [rule]}).evaluate(Action("t", params={"command": "ls $x"}))
    assert decision.verdict.advice == (
        "The policy could not read parameter `command`: expected plain shell commands, without expansions, "
        "assignments or redirections to files."
    )


@pytest.mark.parametrize(
    ("patterns", "warned"),
    [
        (["git *"], ["git -c core.pager=x log"]),
        (["git status *", "git log *", "ls *", "cat *", "npm run test *", "python x.py *"], []),
        (["find src *", "find *"], ["find src -exec x +"]),
        (["/usr/bin/env *", "sudo -u x *", "git"], ["/usr/bin/env x", "sudo -u x x"]),
        (["tar -xf *", "bash"], ["tar -xf --to-command=x"]),
        (["bash *"], ["bash -c x"]),
        (["awk *"], ["awk 'BEGIN{system(\"x\")}'"]),
        (["find . '*'"], []),
    ],
)
def test_the_linter_warns_where_a_star_runs_other_programs(patterns: list[str], warned: list[str]) -> None:
    rule = {"match": {"type": "t"}, "conditions": {"shell_only": {"command": patterns}}, "approval": "auto"}
    found = [each for each in lint(Policy.from_dict({"rules": [rule]})) if each.kind == "arguments"]
    assert [line for line in warned if f"lets `{line}` run" in " ".join(map(str, found))] == warned
    assert [str(each.severity) for each in found] == ["warning"] * len(warned)


@pytest.mark.parametrize("negated", [True, False])
def test_the_linter_warns_where_commands_are_blocked(negated: bool) -> None:
    """A line of which one command is listed is not a line of listed commands only."""
    condition: dict[str, Any] = {"shell_only": {"command": ["rm *"]}}
    condition, approval = ({"not": condition}, "auto") if negated else (condition, "block")
    default = "block" if negated else "auto"
    policy = {"rules": [{"conditions": condition, "approval": approval}], "defaults": {"approval": default}}
    (found,) = (each for each in lint(Policy.from_dict(policy)) if each.kind != "no-match")
    assert found.kind == "deny-list"
    assert "does not block `true; rm *`, which runs" in found.message


def test_every_listed_program_is_warned_of() -> None:
    """What is tried for it is plain text that the condition understands."""
    programs = [name for where in WORDS["runs others"].values() for name in where]
    for name in programs:
        rule = {"conditions": {"shell_only": {"command": [f"{name} *"]}}, "approval": "auto"}
        assert "arguments" in [each.kind for each in lint(Policy.from_dict({"rules": [rule]}))], name
    assert len(set(programs)) == len(programs)


@given(st.one_of(st.text(), st.text("ls cat'\"\\$`(){}<>|&;#!*?[]~=\n\t-0/", max_size=30)))
def test_nothing_raises(line: str) -> None:
    assert judged(line) in (True, False) or isinstance(judged(line), str)


ANY_CHARACTER = f"""
from aegis_otel.policy.operators import shell_lines

allowed = shell_lines.prepare({PATTERNS!r})
for code in (*range(0x80, 0xD800, 0x400), *range(0xE000, 0x110000, 0x400), 0x10FFFF):
    for line in ("{{%c", "ls {{1%c", "ls {{1..%c", "ls {{1..2%c", "%c=1 ls", "cat <<%c"):
        answer = shell_lines.judge(line % code, allowed)
        assert answer is False or isinstance(answer, str), (line, code)
print("all judged")
"""


def test_no_character_ends_the_process() -> None:
    """The scanner of tree-sitter-bash 0.25.1 reads beside a table for characters far outside ASCII.

    Whether memory is mapped there differs from process to process, so three of them read all over it.
    """
    for _ in range(3):
        child = subprocess.run([sys.executable, "-c", ANY_CHARACTER], capture_output=True, text=True)
        assert (child.returncode, child.stdout) == (0, "all judged\n"), child.stderr


def test_other_characters_are_parts_of_words() -> None:
    """As in bash, where only blanks of ASCII separate words."""
    assert judged("cat 'a\u2003b\U000800000'") is True
    assert judged("\u2003ls") == "a command of the line has words that are not plain text"


def test_threads_share_a_policy() -> None:
    """A parser of tree-sitter is not for several threads."""
    wrong: list[str] = []
    expected = [(line, judged(line)) for line in (*ONLY_ALLOWED, *PLAINLY_ANOTHER, *NOT_KNOWN)]

    def work(seed: int) -> None:
        lines = random.Random(seed).sample(expected, len(expected))
        wrong.extend(line for line, answer in lines * 3 if judged(line) != answer)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_only_a_policy_that_uses_it_loads_the_grammar() -> None:
    program = """
import sys
from aegis_otel import Policy
Policy.from_dict({"rules": [{"conditions": {"param_eq": {"p": "ls"}}}]})
before = {name for name in sys.modules if name.startswith("tree_sitter")}
Policy.from_dict({"rules": [{"conditions": {"shell_only": {"p": ["ls"]}}}]})
assert not before and "tree_sitter_bash" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


BASH = shutil.which("bash")
_LOGGED = r"""() { local IFS=$'\1'; printf '%s\1%s\2' ok "$*" >&LOG; n=$((n+1)); [ $((n%3)) = 1 ]; }"""
_OTHER = r"""() { printf 'OTHER%s\2' "$1" >&LOG; return 1; }"""
_SEEDS = [
    *("ok", "ok a", "ok; ok", "ok && ok a || ok", "ok | ok a", "(ok; ok)", "{ ok; }", "ok 2>&1", "ok & ok"),
    *("if ok; then ok; fi", "if ok; then ok; elif ok; then ok; else ok; fi", "while ok; do ok; done"),
    *("ok >/dev/null 2>&1 | ok", "ok 'a b' \"c d\" e\\ f", "ok \\\n a", "# ok\nok", "ok\nok a", "ok a * ?"),
]
_PIECES = [
    *(
        "ok",
        "ok",
        "ok a",
        "bad",
        "a",
        " ",
        " ",
        "\t",
        "\n",
        ";",
        "&",
        "&&",
        "|",
        "||",
        "(",
        ")",
        "{ ",
        "; }",
        "'",
        '"',
    ),
    *(
        "\\",
        "$",
        "`",
        "#",
        " #",
        "!",
        "*",
        "?",
        "[",
        "]",
        "~",
        "=",
        "<",
        ">",
        "2",
        " 2",
        ">&1",
        ">/dev/null",
        "2>&1",
    ),
    *(
        "if ",
        "; then ",
        "; else ",
        "; fi",
        "while ",
        "; do ",
        "; done",
        "time ",
        "coproc ",
        "for a in a",
        "function ",
    ),
    *(
        "[[ ",
        " ]]",
        "$(",
        "<<E",
        "\nE\n",
        "\\\n",
        " \\\n",
        "~/x",
        "$'",
        "{a,b}",
        "é",
        "\u00a0",
        "-",
        "export ",
        "eval ",
    ),
    *(
        "'a b'",
        "|&",
        "&>",
        ">|",
        "<(",
        "()",
        "((",
        "))",
        "a=",
        "!!",
        "\r",
        ";;",
        "then",
        "do",
        "fi",
        "done",
        "}",
        "\\ ",
    ),
]


def mutated(chance: random.Random) -> str:
    line = chance.choice(_SEEDS)
    for _ in range(chance.randint(1, 4)):
        at, more = (
            chance.randint(0, len(line)),
            chance.choice(["; ", " && ", " | ", "\n"]) + chance.choice(_SEEDS),
        )
        line = chance.choice(
            [line[:at] + chance.choice(_PIECES) + line[at:]] * 3 + [line[:at] + line[at + 2 :], line + more]
        )
    return line


def commands_of(line: str, folder: Path) -> list[list[str]]:
    """Return the words of each command that bash runs: `ok` is a function, and no program is found."""
    reader, writer = os.pipe()
    functions = {"ok": _LOGGED, "command_not_found_handle": _OTHER}
    with open(reader, "rb") as log:
        subprocess.run(
            ["bash", "-c", line],
            executable=BASH,
            cwd=folder,
            env={"PATH": "/nonexistent", "HOME": str(folder)}
            | {f"BASH_FUNC_{name}%%": text.replace("LOG", str(writer)) for name, text in functions.items()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(writer,),
            timeout=10,
        )
        os.close(writer)
        return [part.split("\1") for part in log.read().decode(errors="replace").split("\2") if part]


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_runs_nothing_else(tmp_path: Path) -> None:
    """Of many lines that are nearly sound, those that only have what is allowed are given to a real bash."""
    chance, open_, exact = (
        random.Random(5),
        shell_lines.prepare(["ok *"]),
        shell_lines.prepare(["ok", "ok a"]),
    )
    found = 0
    while found < 150:
        line = mutated(chance)
        if shell_lines.judge(line, open_) is not True:
            assert shell_lines.judge(line, exact) is not True
            continue
        found += 1
        commands = commands_of(line, tmp_path)
        assert {words[0] for words in commands} <= {"ok"}, line
        if shell_lines.judge(line, exact) is True:
            assert all(words[1:] in ([""], ["a"]) for words in commands), line
    assert list(tmp_path.iterdir()) == []
