"""Values that the pattern of a rule which lets calls run may take and should not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aegis_otel.policy.lint.parameters import Content, content_of
from aegis_otel.policy.lint.programs import MORE_THAN_MEANT
from aegis_otel.policy.lint.regex_samples import (
    Atom,
    ends_within_a_name,
    inserted,
    is_found,
    lone_dots,
    parse,
    samples,
    slots,
)
from aegis_otel.policy.rules import ParamTest
from aegis_otel.policy.wording import quoted

_TRAVERSALS = ("/../../../etc/cron.d/x", "../../../etc/cron.d/x", "x/../../../etc/cron.d/x")
_BACKSLASHES = ("..\\..\\windows\\x", "C:\\windows\\x")
_SECOND_COMMANDS = ("; touch x", " && touch x", " | sh", "$(touch x)", "`touch x`", " > /etc/cron.d/x")
_NEW_LINES = ("\ntouch x", "\n")
_EVIL = "evil.example"
_OTHER_HOSTS = (
    (f"{_EVIL}/", "what follows the first `/` is no host"),
    (f"{_EVIL}?", "what follows `?` is no host"),
    (f"{_EVIL}#", "what follows `#` is no host"),
    (f"{_EVIL}\\", "browsers and many clients read `\\` as `/`"),
    (f"x@{_EVIL}", "what stands before `@` is a user name"),
    (f"x:y@{_EVIL}", "what stands before `@` is a user name and a password"),
)
_SQL_EFFECTS = (
    "* from a into outfile b",
    "* into b from a",
    "a from b into outfile '/x'",
    "pg_read_file('/etc/passwd')",
    "load_extension('x')",
    "a into b from c",
)


class Attack(NamedTuple):
    """A value to be tried."""

    kind: str
    value: str
    why: str
    opens: bool
    """Whether it is an error where a block would hold without the rule."""


def attacks(test: ParamTest) -> Iterator[Attack]:
    """Values that the pattern of `test` may take and should not, the most telling first."""
    pattern, content = str(test.expected), content_of(test.path)
    texts = list(samples(pattern))
    yield from _everything(pattern)
    if content is Content.PATH:
        yield from _paths(pattern, texts)
    if content is Content.URL:
        yield from _hosts(pattern)
    yield from _new_lines(pattern, content)
    if content is Content.COMMAND:
        why = "a shell runs a second command there; allow only the characters that are needed"
        yield from _inserted(pattern, _SECOND_COMMANDS, Attack("shell-chain", "", why, True))
        yield from _arguments(pattern, texts)
    if content is Content.SQL:
        why = "a statement that reads can also write, or call a function that does; name tables and columns"
        yield from _inserted(pattern, _SQL_EFFECTS, Attack("sql-write", "", why, False))
    yield from _ends(texts, content)
    for text, before in lone_dots(pattern, "X"):
        why = f"the `.` after {quoted(before)} takes every character; write `\\.`"
        yield Attack("unescaped-dot", text, why, False)


def _inserted(pattern: str, payloads: Iterable[str], attack: Attack) -> Iterator[Attack]:
    """The attack, with each text that the pattern takes with a payload in one of its open places."""
    for payload in payloads:
        for text, _ in inserted(pattern, payload):
            yield attack._replace(value=text)


def _everything(pattern: str) -> Iterator[Attack]:
    """Patterns that say nothing, or only what may not be there."""
    if is_found(pattern, "") and is_found(pattern, "anything at all"):
        yield Attack("matches-all", "anything at all", "the pattern is found in every text", False)
        return
    tree = parse(pattern)
    for branch in tree.branches if tree is not None else ():
        atoms = slots(branch)
        if not atoms or not all(atom.is_negated or atom.is_dot for atom in atoms):
            continue
        why = "the pattern says only what may not be there; name what may"
        for text in (_other_case(atoms), "anything"):
            yield Attack("negated", text, why, False)


def _other_case(atoms: tuple[Atom, ...]) -> str:
    """The letters that the classes exclude, in the other case where they take that; else as they are."""
    letters = [each for each in "abcdefghijklmnopqrstuvwxyz" if any(not atom.admits(each) for atom in atoms)]
    return "".join(each.upper() for each in letters) or "x"


def _paths(pattern: str, texts: list[str]) -> Iterator[Attack]:
    why = "`..` leads out of the directory; block `..` in a rule before, or match whole names"
    for payload in _TRAVERSALS:
        for text in (
            *(text.rstrip("/") + payload if payload[0] == "/" else text + payload for text in texts),
            *(value for value, _ in inserted(pattern, payload)),
        ):
            yield Attack("traversal", text, why, True)
    why = "a `\\` separates directories on Windows; match only the characters that names have"
    yield from _inserted(pattern, _BACKSLASHES, Attack("traversal", "", why, False))
    why = "any file can be named so; begin the pattern with the directory"
    for payload in ("/etc/passwd", "/etc/shadow", "~/x"):
        for text, _ in inserted(pattern, payload):
            if text.startswith(payload):
                yield Attack("absolute-path", text, why, False)
    why = "the pattern ends within a name; end it with `/`"
    for text in ends_within_a_name(pattern):
        yield Attack("path-prefix", f"{text}-secret/x", why, False)


def _hosts(pattern: str) -> Iterator[Attack]:
    for payload, why in _OTHER_HOSTS:
        for text, _ in inserted(pattern, payload):
            if host(text) == _EVIL:
                what = f"its host is `{_EVIL}`, because {why}; match the whole host, character by character"
                yield Attack("host", text, what, True)
    for text, _ in inserted(pattern, _EVIL):
        if host(text) == _EVIL:
            yield Attack("host", text, "the pattern takes every host; name those that are meant", False)


def host(url: str) -> str:
    """The host that a lenient client reaches with `url`, without port; empty where there is none."""
    _, found, rest = url.replace("\\", "/").partition("://")
    if not found:
        return ""
    for sign in "/?#":
        rest = rest.partition(sign)[0]
    return rest.rpartition("@")[2].partition(":")[0].lower().rstrip(".")


def _new_lines(pattern: str, content: Content) -> Iterator[Attack]:
    for payload in _NEW_LINES:
        for text, atom in inserted(pattern, payload):
            if (
                "\n" in text
                and atom.admits("\n")
                and (content is Content.COMMAND or atom.is_negated or atom.is_dot)
            ):
                what = quoted(atom.source)
                if content is Content.COMMAND:
                    why = f"{what} matches the line break before another command; exclude `\\n` as well"
                else:
                    why = f"{what} matches a line break; exclude `\\n` as well"
                yield Attack("newline", text, why, content is Content.COMMAND)


def _arguments(pattern: str, texts: list[str]) -> Iterator[Attack]:
    """Arguments with which an allowed program does more than its name says."""
    for program in dict.fromkeys(text.split(" ")[0].rpartition("/")[2] for text in texts):
        for arguments in MORE_THAN_MEANT.get(program, ()):
            why = f"{quoted(program)} does more with these arguments; list those that are meant"
            yield Attack("arguments", f"{program} {arguments}", why, False)
            for payload in (arguments, f" {arguments}"):
                for text, _ in inserted(pattern, payload):
                    if text.startswith(f"{program} "):
                        yield Attack("arguments", text, why, False)


def _ends(texts: list[str], content: Content) -> Iterator[Attack]:
    """Text before and after what the pattern looks for."""
    open_end = "the pattern does not say how the value ends: write `$` at its end, for each alternative"
    open_start = "the pattern does not say how the value begins: write `^` at its start, for each alternative"
    strict = content in (Content.COMMAND, Content.PATH)
    before = {
        Content.COMMAND: "touch x; ",
        Content.PATH: "/etc/cron.d/",
        Content.URL: "https://evil.example/?",
        Content.ADDRESS: "x@evil.example,",
    }.get(content, "anything ")
    after = {
        Content.COMMAND: "; touch x",
        Content.SQL: "; drop table x",
        Content.URL: ".evil.example/",
        Content.ADDRESS: ".evil.example",
    }.get(content, " anything")
    lines = "`^` and `$` hold at each line: drop the flag `m`"
    for text in texts:
        for other in (f"{text}\n{after.strip('; ')}", f"{before.strip('; ')}\n{text}"):
            yield Attack("multi-line", other, lines, strict)
        yield Attack("unanchored", before + text, open_start, strict)
        if content is Content.PATH or (content is Content.URL and text.count("/") > 2):
            continue  # what follows a directory, or a whole host, is meant to be open
        yield Attack("unanchored", text + after, open_end, strict)
