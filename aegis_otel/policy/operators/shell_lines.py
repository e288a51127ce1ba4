r"""Judge `shell_only`: whether every simple command of a shell line is one of those that a policy lists.

The line is read twice. tree-sitter's grammar of bash finds the commands and what is around them. Each command
is then split into words, and all text between commands is compared with the separators, keywords and
redirections that are understood, by regular expressions that take plain text only. What one of the two
does not take is unknown, so a mistake of the grammar cannot hide a command. The rules of quoting are those
of https://www.gnu.org/software/bash/manual/bash.html#Quoting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.policy.messages import Invalid, quoted, shown
from aegis_otel.policy.operators.answer import Answer, not_of_kind
from aegis_otel.policy.operators.lists import check_items, texts

if TYPE_CHECKING:
    from tree_sitter import Language, Node

MAX_LINE = 4_000
"""Bytes of a line that is judged: with `MAX_SIGNS` it takes the grammar milliseconds, and not a second."""
MAX_SIGNS = 400
"""Characters with a meaning to the shell."""
MAX_PATTERNS = 1_000
MAX_PATTERN = 1_000
"""Characters of one pattern."""
SCHEMA = texts(MAX_PATTERN, MAX_PATTERNS)

_PARTS = r"""
    (?P<plain> (?: [A-Za-z0-9_./:=@%+,^-] | (?<=[A-Za-z0-9_./@%+^-])~ )++ )  # elsewhere `~` may be a home
  | \\(?P<escaped> [\x20-\x7e] )
  | '(?P<single> [^']*+ )'
  | "(?P<double> (?: [^"\\$`!] | \\[^\n!] )*+ )"                            # `!` recalls history
  | (?P<glob> [*?\[\]] )
"""
_BLANKS = r"(?: [ \t]++ (?: \\\n [ \t]*+ )*+ )"
"""Blanks, and line breaks that a backslash takes away where that joins no words."""
_START, _END = r"(?<![^ \t\n;&|()])", r"(?![^ \t\n;&|()])"
_COMMENT = rf"(?: {_START} \#[^\n]*+ )"
_REDIRECTION = rf"""(?:
    (?: (?<=[ \t])[0-9] )? (?: (?: >>? | < ) [ \t]*+ /dev/null | >&[12] ) {_END}
  | &>>? [ \t]*+ /dev/null {_END}
)"""
_KEYWORDS = rf"""
    (?: (?: [{{}}] | if | then | elif | else | fi | while | until | do | done ) {_END} {_BLANKS}? )*
"""
"""Where a command could begin. Elsewhere they are words of a command."""
_AFTER = rf"(?: {_BLANKS} | {_REDIRECTION} )* {_COMMENT}?"
_SEPARATED = rf"""
    (?: (?P<separator> [\n)] | ;(?![;&]) | \|[|&]? | &&? | \( (?![ \t\n]*+[()]) )
        {_BLANKS}? {_KEYWORDS} {_AFTER} )*
"""
_BEFORE_FIRST = re.compile(f"{_BLANKS}? {_KEYWORDS} {_AFTER} {_SEPARATED}".encode(), re.VERBOSE)
_BETWEEN = re.compile(f"{_AFTER} {_SEPARATED}".encode(), re.VERBOSE)
"""All that may stand before the first command, and after each."""
_WORD = re.compile(
    rf"(?P<word> (?: {re.sub('[?]P<[a-z]+>', '?:', _PARTS)} )++ ) (?: {_BLANKS} | \Z )".encode(), re.VERBOSE
)
_PART = re.compile(_PARTS.encode(), re.VERBOSE)
_PLAIN_WORDS = re.compile(rb"[A-Za-z0-9_./:=@%+,^ \t-]++")
_ESCAPE = re.compile(rb'\\([$`"\\])')
_SIGNS = b"|&;()<>[]{}$`\n"
_DIGIT_REDIRECTED = re.compile(rb"[0-9][<>]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_AS_ASCII = bytes(range(0x80)) + b"z" * 0x80
"""Table that makes a letter of each byte outside ASCII.

The scanner of tree-sitter-bash 0.25.1 passes any character to C's `isdigit`, which reads a table that has
384 entries: U+80000 behind a brace ended processes. Bash takes such bytes as parts of words, as it does a
letter. No keyword has a `z`.
"""

_FOLLOWED = frozenset(
    (
        *("program", "list", "pipeline", "redirected_statement", "subshell", "compound_statement"),
        *("if_statement", "elif_clause", "else_clause", "while_statement", "do_group"),
    )
)
"""What the grammar calls the constructs whose commands are judged."""
_BETWEEN_COMMANDS = frozenset(("comment", "file_redirect"))
_RESERVED = frozenset(
    b"! [ [[ ]] { } case coproc do done elif else esac fi for function if in select then time until "
    b"while".split()
)
_REDEFINING = frozenset(
    b". alias bind builtin command compgen complete declare enable eval exec export fc getopts hash jobs let "
    b"local mapfile read readarray readonly set shopt source trap typeset unalias unset wait".split()
)
"""Builtins that run their arguments, or that can change what other words of a line run."""

_TOO_LONG = "the line is too long"
_NO_COMMAND = "the line has no command"
_NOT_PARSED = "the line does not parse as shell"
_NOT_FOLLOWED = "the line has a shell construct that is not followed"
_NOT_PLAIN = "a command of the line has words that are not plain text"
_FILE_NAMES = "a word of the line is a pattern for file names"


class ShellCommand(NamedTuple):
    """One command that a policy allows."""

    words: tuple[bytes, ...]
    """The program and the words that must follow it, as bash passes them."""
    is_open: bool
    """Whether any further words may follow."""


AllowedCommands = Mapping[bytes, Sequence[ShellCommand]]
"""The commands that a policy allows, by their first word."""


def check(value: object) -> list[str]:
    """Return the list of patterns. Raises Invalid."""
    return check_items(value, _check_pattern, "a list of commands", MAX_PATTERNS)


def _check_pattern(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATTERN:
        raise Invalid(f"must be a command of 1 to {MAX_PATTERN:,} characters, not {shown(value)}")
    allowed_command(value)
    return value


def allowed_command(pattern: str) -> ShellCommand:
    """Return what `pattern` allows. Raises Invalid."""
    line = pattern.encode(errors="surrogatepass").strip(b" ")
    words, rest = _words(line, 0, len(line))
    is_open = len(words) > 1 and words[-1] is None and re.search(rb"[ \t]\*\Z", line) is not None
    fixed = tuple(word for word in (words[:-1] if is_open else words) if word is not None)
    if rest is not None or not words or len(fixed) != len(words) - is_open or _CONTROL.search(line):
        raise Invalid(
            f"must be a single command of plain words, which `*` as the last word leaves open, "
            f"not {shown(pattern)}: put other characters into single quotes"
        )
    if fixed[0] in _RESERVED or b"=" in fixed[0]:
        raise Invalid(f"must begin with the name of a program, not as {shown(pattern)} does")
    if is_open and fixed[0] in _REDEFINING:
        name = quoted(fixed[0].decode())
        raise Invalid(f"must write out all words of {name}, which can run any command, not {shown(pattern)}")
    return ShellCommand(fixed, is_open)


def prepare(patterns: Sequence[str]) -> AllowedCommands:
    """Return what `judge` needs of the checked `patterns`."""
    _language()  # now: no decision may wait for it
    allowed: dict[bytes, list[ShellCommand]] = {}
    for command in map(allowed_command, patterns):
        allowed.setdefault(command.words[0], []).append(command)
    return allowed


def judge(value: Any, allowed: AllowedCommands) -> Answer:
    """Return whether every command of the line `value` is allowed; else False, or why that is unknown."""
    if not isinstance(value, str):
        return not_of_kind(value, "text")
    if len(value) > MAX_LINE:
        return _TOO_LONG
    try:
        line = value.encode()
    except UnicodeEncodeError:
        return "the value is not valid Unicode"
    if len(line) > MAX_LINE or len(line) - len(line.translate(None, _SIGNS)) > MAX_SIGNS:
        return _TOO_LONG
    if _CONTROL.search(line):
        return "the line has a control character"
    return _judge_line(line, allowed)


def _judge_line(line: bytes, allowed: AllowedCommands) -> Answer:
    """Judge the commands in order: what stands behind one that is not plain may be a part of it."""
    from tree_sitter import Parser  # noqa: PLC0415 - only policies that use it need it

    parser = Parser(_language())  # a parser is not for several threads
    root = parser.parse(line.translate(_AS_ASCII)).root_node
    if root.has_error:
        return _NOT_PARSED
    end, is_first, text_between = 0, True, _BEFORE_FIRST
    for command in _commands(root):
        if command is None:
            return _NOT_FOLLOWED
        start = command.start_byte
        between = text_between.match(line, end)
        if between is None or between.end() != start or not (is_first or between["separator"]):
            return _NOT_FOLLOWED
        end, is_first, text_between = command.end_byte, False, _BETWEEN
        if _DIGIT_REDIRECTED.match(line, end - 1):
            return _NOT_FOLLOWED  # the digits may be a word, or the file descriptor that is redirected
        answer = _judge_command(*_words(line, start, end), allowed)
        if answer is not True:
            return answer
    rest = text_between.match(line, end)
    if rest is None or rest.end() != len(line):
        return _NOT_FOLLOWED
    return _NO_COMMAND if is_first else True


@cache
def _language() -> Language:
    import tree_sitter_bash  # noqa: PLC0415
    from tree_sitter import Language  # noqa: PLC0415

    return Language(tree_sitter_bash.language())


def _commands(root: Node) -> Iterator[Node | None]:
    """Yield the simple commands in order, and None in place of a construct that is not followed."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        kind = node.type
        if kind == "command":
            yield node
        elif kind in _FOLLOWED:
            waiting += reversed(node.named_children)
        elif kind not in _BETWEEN_COMMANDS:
            yield None


def _words(line: bytes, start: int, end: int) -> tuple[list[bytes | None], str | None]:
    """Return the words up to the first that is not plain, and why not all of them are plain.

    None stands for a word that bash replaces by the names of files.
    """
    if plain := _PLAIN_WORDS.fullmatch(line, start, end):
        return list(plain[0].split()), None
    words: list[bytes | None] = []
    while start < end:
        found = _WORD.match(line, start, end)
        if found is None:
            return words, _NOT_PLAIN
        words.append(_unquoted(found["word"]))
        start = found.end()
    return words, None


def _unquoted(word: bytes) -> bytes | None:
    """Return the text of `word` without its quotes; None for a pattern of file names."""
    text = b""
    for part in _PART.finditer(word):
        kind = part.lastgroup
        if kind == "glob":
            return None
        text += _ESCAPE.sub(rb"\1", part["double"]) if kind == "double" else part[kind or 0]
    return text


def _judge_command(words: Sequence[bytes | None], rest: str | None, allowed: AllowedCommands) -> Answer:
    name = words[0] if words else None
    if name is None or name in _RESERVED or b"=" in name:
        return _NOT_PLAIN
    answer: Answer = False
    for pattern in allowed.get(name, ()):
        found = _follows(words, rest, pattern)
        if found is True:
            return _evaluates(name, words) or True
        answer = answer or found
    return answer or (_NOT_PLAIN if name in _REDEFINING else False)


def _follows(words: Sequence[bytes | None], rest: str | None, pattern: ShellCommand) -> Answer:
    count = len(pattern.words)
    for word, expected in zip(words, pattern.words, strict=False):
        if word is None:
            return _FILE_NAMES
        if word != expected:
            return False
    if len(words) < count:
        return rest or False
    if pattern.is_open or len(words) == count:
        return rest or True
    return _FILE_NAMES if words[count] is None else False


def _evaluates(name: bytes, words: Sequence[bytes | None]) -> str | None:
    """Return why a builtin may run a part of its words: bash evaluates `[...]` of a variable's name."""
    if name == b"printf" and any(word is None or word.startswith(b"-v") for word in words):
        return _NOT_PLAIN
    if name == b"test" and any(word is None or b"[" in word for word in words):
        return _NOT_PLAIN
    return None
