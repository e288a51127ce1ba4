"""`path_within` and `path_matches`: file paths, judged by their text. No disk is read, no link followed.

A path is resolved first: `.`, `..` and doubled slashes go. What other programs than a POSIX kernel read in
another way (a shell, a Windows server, a tool that expands `~` or decodes `%2e`) is unknown, and so is what
depends on the working directory, and what differs from a folder or a pattern only in case: on macOS and
Windows that is the same file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aegis_otel.policy.messages import Invalid, quoted, shown
from aegis_otel.policy.operators.answer import Answer, not_of_kind
from aegis_otel.policy.operators.lists import check_items, texts
from aegis_otel.policy.patterns import BadRegex, compile_regex, compile_regex_set
from aegis_otel.redaction.name_forms import MOST_MARKS, is_bounded, normalized

MAX_PATTERN = 256
"""Characters of a pattern. It keeps the automaton of all patterns small, and so the time for each path."""
_LONGEST = 4096
"""Characters of a path; Linux opens none that has more bytes."""
_MOST_UPS = 100
"""The `..` at the start of a path that are compared with the folders of a policy."""

# All readers agree about a path of these names, and it need not be resolved. Possessive: in linear time.
_PLAIN_NAME = r"\.?+[A-Za-z0-9_@+=,()#!-]++(?:[. ][A-Za-z0-9_@+=,()#!-]++)*+"
_PLAIN = re.compile(rf"(?!-)/?+{_PLAIN_NAME}(?:/{_PLAIN_NAME})*+")
_PART = rf"(?:\.\.?+(?=/|\Z)|{_PLAIN_NAME})"
_RESOLVABLE = re.compile(rf"(?!-)/?+{_PART}(?:/++{_PART})*+/*+")

_END = r"(?=/|\Z)"
_DOUBTS = {
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029]": "the path has a control character",
    r"\\": "the path has a backslash, which separates folders on Windows only",
    r"%": "the path has a `%`, which may begin an escaped character",
    r"\$": "the path has a `$`, which may begin a variable",
    r"[{}]": "the path has a brace, which may list several paths",
    rf"(?:\A|/)~|~[0-9]+(?:\.[^/]*)?{_END}": "the path has a `~`, which may stand for another name",
    r"\A//": "the path begins with two slashes, which may name a server",
    r"\A[^/]*:": "the path begins like a URL or a drive",
    r"\A[\s\"'`<>|]": "the path begins with a space, a quote or a sign that a shell reads",
    r"\A-": "the path begins with a `-`, as an option does",
    rf"\s{_END}|[^/.]\.+{_END}|(?:\A|/)\.{{3,}}{_END}": "a name in the path ends with a space or a dot",
    r"(?:\A|/)\.{1,2}[*?\[]": "the path has a wildcard that may stand for `..`",
}
_DOUBT = re.compile("|".join(f"({pattern})" for pattern in _DOUBTS))
_REASONS = ("", *_DOUBTS.values())
_WILD = re.compile(r"[*?\[]")
_UP = re.compile(rf"(?:\A|/)\.\.{_END}")

_EMPTY = "the path is empty"
_TOO_LONG = f"the path has more than {_LONGEST:,} characters"
_LOOK_ALIKE = "the path has an invisible character, or one that looks like a slash or a dot"
_MARKS = f"a letter in the path has more than {MOST_MARKS} accents"
_CLIMBING_WILDCARD = "the path has `..` and a wildcard"
_OTHER_CASE = "the path differs only in case, or in how its letters are encoded"
_WILDCARD = "the path has a wildcard"
_OTHER_START = "it depends on the working directory: of path and policy, one is absolute and one relative"
_CLIMBS = "it depends on the working directory, because of a `..`"
_INSIDE = "it depends on whether the folder is meant, or what is in it"
_BELOW_EXCEPTION = (
    "it is in a folder that has the name of an exception: `name/` with a slash excepts what is in it, too"
)
_AS_FOLDER = "it depends on whether the path is a folder, or on case"
_START = "the path is the folder that patterns start from"

# What structures a path for some program, or looks like it and has no compatibility form. Japanese and Korean
# code pages have a currency sign in the place of the backslash.
_STRUCTURE = frozenset("/\\.~%$:*?[]{}\"'`<>|⁄∕⧸⟋╱〳∖⧵⧹⟍╲。۔܁܂ꓸ¥₩")  # noqa: RUF001


class LexicalPath(NamedTuple):
    """A resolved path."""

    is_absolute: bool
    ups: int
    """The `..` that a relative path still begins with."""
    names: list[str]
    """The names after them, up to the first with a wildcard."""
    is_open: bool = False
    """Whether a wildcard followed: then it stands for any paths below."""
    is_folder: bool = False
    """Whether it was written with a slash at the end."""

    @property
    def folded(self) -> list[str]:
        """The names without the differences that some file systems ignore."""
        return [_folded(name) for name in self.names]


def resolve(value: Any) -> LexicalPath | str:
    """Return `value` as a path, or the reason why readers may disagree about it."""
    if not isinstance(value, str):
        return not_of_kind(value, "text")
    if not value or len(value) > _LONGEST:
        return _TOO_LONG if value else _EMPTY
    if _RESOLVABLE.fullmatch(value):
        return _resolved(value)
    if found := _DOUBT.search(value):
        return _REASONS[found.lastindex or 0]
    if not value.isascii() and any(map(_deceives, set(value))):
        return _LOOK_ALIKE
    if not is_bounded(value):
        return _MARKS
    path = _resolved(value)
    wild = next((number for number, name in enumerate(path.names) if _WILD.search(name)), None)
    if wild is not None:
        path = path._replace(names=path.names[:wild], is_open=True)
    # `a/**/../b` may be `b`, too, because `**` also stands for no folder.
    return _CLIMBING_WILDCARD if _WILD.search(value) and _UP.search(value) else path


def _resolved(value: str) -> LexicalPath:
    is_absolute, ups = value[0] == "/", 0
    names: list[str] = []
    parts = value.split("/")
    for part in parts:
        if part == "..":
            if names:
                names.pop()
            elif not is_absolute:
                ups += 1
        elif part not in ("", "."):
            names.append(part)
    return LexicalPath(is_absolute, ups, names, is_folder=parts[-1] in ("", ".", ".."))


@lru_cache(maxsize=4096)
def _deceives(char: str) -> bool:
    if char.isascii():
        return False
    category = unicodedata.category(char)
    is_hidden = category[0] == "C" or category in ("Zl", "Zp")
    return is_hidden or not _STRUCTURE.isdisjoint({char, *(normalized(char, "NFKC") or char)})


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    plain = normalized(text, "NFKD", "NFKD")
    if plain is None:
        raise ValueError(_MARKS)  # `resolve` lets no such path through
    return "".join(char for char in plain if unicodedata.category(char) != "Mn")


class Roots(NamedTuple):
    """The folders of a `path_within`."""

    paths: tuple[tuple[LexicalPath, list[str]], ...]
    """Each with its folded names."""
    prefixes: dict[bool, tuple[str, ...]]
    """By whether they are absolute: their texts, each with a slash at the end."""
    folded: dict[bool, tuple[str, ...]]
    """The same without the differences that some file systems ignore."""
    only: frozenset[bool]
    """False where all are relative and none begins with `..`, True where all are absolute."""


ROOTS = texts(_LONGEST)


def check_roots(value: object) -> list[str]:
    """Check the folders of `path_within`. Raises Invalid."""
    return check_items(value, _check_root, "a list of folders")


def _check_root(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be a folder, not {shown(value)}")
    path = resolve(value)
    if isinstance(path, str):
        raise Invalid(f"must be a folder that every program reads alike, not {shown(value)}: {path}")
    if path.is_open:
        raise Invalid(f"must be a folder, not {shown(value)}: wildcards stand in `path_matches`")
    resolved = _written(path)
    if value != resolved:
        raise Invalid(
            f"must be written without `.`, `..` and slashes that change nothing, not {shown(value)}", resolved
        )
    return value


def _written(path: LexicalPath) -> str:
    names = "/".join([".."] * path.ups + path.names)
    return f"/{names}" if path.is_absolute else names or "."


def prepare_roots(roots: Sequence[str]) -> Roots:
    """Return the checked folders of a `path_within` as `within` needs them."""
    paths = tuple(path for path in map(resolve, roots) if not isinstance(path, str))
    prefixes = {
        kind: tuple(_prefix(path) for path in paths if path.is_absolute is kind and not path.ups)
        for kind in (False, True)
    }
    folded = {kind: tuple(map(_folded, texts)) for kind, texts in prefixes.items()}
    return Roots(
        tuple((path, path.folded) for path in paths),
        prefixes,
        folded,
        frozenset(kind for kind in prefixes if len(prefixes[kind]) == len(paths)),
    )


def _prefix(path: LexicalPath) -> str:
    names = "".join(f"{name}/" for name in path.names)
    return f"/{names}" if path.is_absolute else names


def within(value: Any, roots: Roots) -> Answer:
    """Return whether the path `value` is one of the folders or below one."""
    path = None if _is_plain(value) else resolve(value)
    if isinstance(path, str):
        return path
    if path is None or not path.ups:
        kind, text = (value[0] == "/", f"{value}/") if path is None else (path.is_absolute, _prefix(path))
        if text.startswith(roots.prefixes[kind]):
            return True
        is_fixed = path is None or not path.is_open
        if is_fixed and kind in roots.only and not _folded(text).startswith(roots.folded[kind]):
            return False
    path = path or _resolved(value)
    if path.ups > _MOST_UPS:
        return _CLIMBS
    inner = path.folded
    doubt: str | None = None
    for root, outer in roots.paths:
        answer = _inside(path, inner, root, outer)
        if answer is True:
            return True
        doubt = answer or doubt
    return doubt or False


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and _PLAIN.fullmatch(value) is not None


def _inside(path: LexicalPath, inner: list[str], root: LexicalPath, outer: list[str]) -> Answer:
    """Return whether `path` is `root` or below it; `inner` and `outer` are their folded names."""
    if path.is_absolute is not root.is_absolute:
        # An absolute path is below a relative folder in some working directory only if it has its names.
        return _OTHER_START if root.is_absolute or path.is_open or _occurs(outer, inner) else False
    climb = path.ups - root.ups
    if climb == 0:
        if path.names[: len(root.names)] == root.names:
            return True
        if not _may_be_inside(inner, outer, path.is_open):
            return False
        return _WILDCARD if len(inner) < len(outer) else _OTHER_CASE
    # The names of the folders that the working directory is in are not known. At `/` there are fewer of them
    # than `..`, which then changes nothing.
    if climb < 0:
        if not outer:
            return True
        may_be = any(_may_be_inside(inner, outer[known:], path.is_open) for known in range(1 - climb))
    else:
        may_be = any(
            _may_be_inside(inner[known:], outer, path.is_open)
            for known in range(climb + 1 if path.is_open else min(climb, len(inner)) + 1)
        )
    return _CLIMBS if may_be else False


def _may_be_inside(names: list[str], root: list[str], is_open: bool) -> bool:
    return names[: len(root)] == root or (is_open and root[: len(names)] == names)


def _occurs(names: list[str], path: list[str]) -> bool:
    return any(path[start : start + len(names)] == names for start in range(len(path) - len(names) + 1))


class Mark(NamedTuple):
    """What follows where one regular expression of `Patterns` matches."""

    number: int
    """The place of its pattern in the policy's list."""
    includes: bool
    """False for a pattern with `!`."""
    doubt: str = ""
    """Why it is not known whether the pattern matches; empty where it does."""


class Patterns(NamedTuple):
    """The patterns of a `path_matches`, as they apply to absolute paths, or to relative ones."""

    find: Callable[[str], list[int]]
    """Return the numbers of the regular expressions that match, which are those of `marks`."""
    marks: tuple[Mark, ...]
    has_exceptions: bool
    """Whether a pattern begins with `!`."""


# In a pattern: an escaped character, a class of characters, a wildcard.
_SPECIAL = re.compile(r"\\.|(\[[!^]?\]?[^\]]*\])|[*?]")
_USELESS_ESCAPE = re.compile(r"\\(?:[^ #!*?\[\]]|\Z)")


PATTERNS = texts(MAX_PATTERN)


def check_patterns(value: object) -> list[str]:
    """Check the patterns of `path_matches`. Raises Invalid."""
    patterns = check_items(value, _check_pattern, "a list of gitignore patterns")
    if all(pattern.startswith("!") for pattern in patterns):
        raise Invalid("has only exceptions: a pattern with `!` takes from what those before it match")
    try:
        prepare_patterns(patterns)
    except BadRegex as error:
        raise Invalid(f"is too long: {error}") from None
    return patterns


def _check_pattern(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATTERN:
        raise Invalid(f"must be a gitignore pattern of 1 to {MAX_PATTERN} characters, not {shown(value)}")
    body = value.removeprefix("!")
    if fault := next(_pattern_faults(body), None):
        raise Invalid(f"has the pattern {quoted(value)}, which {fault}")
    if not unicodedata.is_normalized("NFC", value):
        composed = normalized(value, "NFC")
        raise Invalid(f"must have letters and their accents as one character, not {shown(value)}", composed)
    _regex(body)
    return value


def _pattern_faults(body: str) -> Iterator[str]:
    if not body or body != body.strip():
        yield "is empty, or begins or ends with a space"
    if body.startswith("#"):
        yield "is a comment in gitignore: write `\\#` for a name that begins with `#`"
    if not {"", ".", ".."}.isdisjoint(body.removeprefix("/").removesuffix("/").split("/")):
        yield "has an empty name, `.` or `..`: paths are resolved before they are matched"
    if _USELESS_ESCAPE.search(body):
        yield "has a backslash before a letter: folders are separated by `/`"
    if (found := _DOUBT.search(_SPECIAL.sub("x", body))) or any(map(_deceives, set(body))):
        reason = _REASONS[found.lastindex or 0] if found else _LOOK_ALIKE
        yield f"never matches, because such a path is unknown: {reason}"
    # The library lets such a class stand for a slash: `a[!b]c` would match the path `a/c`.
    if any(each and _takes_slash(each) for each in _SPECIAL.findall(body)):
        yield "has characters in brackets that include `/`: write those that are meant, without `!`"


def _takes_slash(characters: str) -> bool:
    try:
        return compile_regex(characters.replace("[!", "[^", 1).replace("\\", "\\\\")).search("/")
    except BadRegex:
        return False  # `_regex` reports it


def _regex(body: str) -> str:
    """Return the regular expression of a pattern without its `!`. Raises Invalid."""
    # Only policies with `path_matches` pay for it.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415

    try:
        regex, includes = GitIgnoreSpecPattern.pattern_to_regex(body)
        if not includes or regex is None:
            raise ValueError("it matches nothing")
        compile_regex(regex)
    except ValueError as error:
        raise Invalid(f"must be a gitignore pattern, not {shown(body)}: {error}") from None
    return str(regex)


def prepare_patterns(patterns: Sequence[str]) -> dict[bool, Patterns]:
    """Return the checked patterns of a `path_matches`: False for relative paths, True for absolute ones.

    Raises:
        BadRegex: they are too large together.
    """
    return {kind: _compile(patterns, for_absolute=kind) for kind in (False, True)}


def _compile(patterns: Sequence[str], *, for_absolute: bool) -> Patterns:
    texts: list[str] = []
    marks: list[Mark] = []

    def add(regex: str, number: int, doubt: str = "") -> None:
        texts.append(regex)
        marks.append(Mark(number, not patterns[number].startswith("!"), doubt))

    absolute = (each for each in enumerate(patterns) if each[1].startswith(("/", "!/")))
    last_absolute = {pattern[0] == "!": number for number, pattern in absolute}
    for number, pattern in enumerate(patterns):
        body = pattern.removeprefix("!")
        has_start = "/" in body.rstrip("/") and not body.startswith("**/")
        # The same without saying that it is a folder, or what is in one.
        bare = body.removesuffix("/**").strip("/") or "**"
        if has_start and body.startswith("/") is not for_absolute:
            # An absolute path is where a relative pattern says only if it has its names. A relative path is
            # below any absolute folder in some working directory; then the last such pattern counts.
            if for_absolute:
                add(f"(?i){_regex(f'**/{bare}')}", number, _OTHER_START)
            elif last_absolute[pattern[0] == "!"] == number:
                add(".", number, _OTHER_START)
            continue
        if body.endswith("/**"):
            # The library takes `src/` for something in `src`.
            add(f"{_regex(body)}[^/]", number)
            add(_regex(body), number, _INSIDE)
        elif body.endswith("/") or pattern == body:
            add(_regex(body), number)
        else:
            # Who can make folders could put a file below one of that name, to have it excepted.
            add(f"(?:{_regex(body)})$", number)
            add(_regex(body), number, _BELOW_EXCEPTION)
        doubt = _AS_FOLDER if body.endswith(("/", "/**")) else _OTHER_CASE
        add(f"(?i){_regex(f'/{bare}' if has_start else bare)}", number, doubt)
    return Patterns(compile_regex_set(texts), tuple(marks), any(not mark.includes for mark in marks))


def matches(value: Any, patterns: Mapping[bool, Patterns]) -> Answer:
    """Return whether the last pattern that matches the path `value` includes it."""
    if _is_plain(value):
        return _decide(patterns[value[0] == "/"], value.removeprefix("/"))
    path = resolve(value)
    if isinstance(path, str):
        return path
    if path.ups:
        return _CLIMBS
    if not path.names:
        return _WILDCARD if path.is_open else _START
    own = patterns[path.is_absolute]
    text = "/".join(path.names) + ("/" if path.is_open or path.is_folder else "")
    if path.is_open:  # what matches a folder matches all that is in it, if there are no exceptions
        is_matched = any(own.marks[each].doubt in ("", _INSIDE) for each in own.find(text))
        return True if is_matched and not own.has_exceptions else _WILDCARD
    answers = {_decide(own, form) for form in ({text} if text.isascii() else _forms(text))}
    return answers.pop() if len(answers) == 1 else _OTHER_CASE


def _forms(text: str) -> set[str]:
    return {text, normalized(text, "NFC") or text, normalized(text, "NFKC") or text}


def _decide(patterns: Patterns, text: str) -> Answer:
    numbers = patterns.find(text)
    if not numbers:
        return False
    found = sorted((patterns.marks[each] for each in numbers), key=_strength, reverse=True)
    last = found[0]
    for mark in found:
        if mark.includes is not last.includes:
            return last.doubt
        if not mark.doubt:
            return mark.includes
    return last.doubt if last.includes else False


def _strength(mark: Mark) -> tuple[int, bool]:
    return mark.number, not mark.doubt
