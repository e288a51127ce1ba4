"""`path_within` and `path_matches`: what is inside, what is outside, and what readers may disagree about."""

from __future__ import annotations

import posixpath
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import PathSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.operators import file_paths
from tests.support.conditions import answer

DIRECTORY = "it depends on the working directory: of path and policy, one is absolute and one relative"
CLIMBS = "it depends on the working directory, because of a `..`"
CASE = "the path differs only in case, or in how its letters are encoded"
WILDCARD = "the path has a wildcard"
FOLDER = "it depends on whether the path is a folder, or on case"
BELOW = "it is in a folder that has the name of an exception: `name/` with a slash excepts what is in it, too"


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("/work/app", True),
        ("/work/app/", True),
        ("/work/app/a.py", True),
        ("/work/app/.git/config", True),
        ("/work/app/a b/c (1).txt", True),
        ("/work/app/./a//b", True),
        ("/work/app/a/../b", True),
        ("/work/../work/app/b", True),
        ("/../work/app", True),
        ("/work/app/..a/b..c", True),
        ("/work/app/backup~", True),
        ("/work/app/naïve/日本.txt", True),
        ("/work/app/12:30.log", True),
        ("/work/app/routes/[slug]/page.tsx", True),
        ("/work/app/**/*.ts", True),
        ("/work", False),
        ("/", False),
        ("/work/apple", False),
        ("/work/app2/x", False),
        ("/work/app/../x", False),
        ("/work/app/../../etc/passwd", False),
        ("/etc/work/app", False),
        ("/etc/*/app", False),
        ("/WORK/app/x", CASE),
        ("/work/App", CASE),
        ("/wor*/app/x", WILDCARD),
        ("/work/*", WILDCARD),
        ("work/app", DIRECTORY),
        ("-work/app", "the path begins with a `-`, as an option does"),
        ("", "the path is empty"),
        (5, "the value is a number, not text"),
        (["/work/app/a"], "the value is a list, not text"),
        ({"path": "/work/app"}, "the value is a mapping, not text"),
    ],
)
def test_within_absolute_folders(value: Any, result: Any) -> None:
    assert answer({"path_within": {"p": ["/srv/data", "/work/app"]}}, {"p": value}) == result
    assert answer({"path_within": {"o.p": ["/srv/data", "/work/app"]}}, {"o": {"p": value}}) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("src", True),
        ("src/a.py", True),
        ("./src/a", True),
        ("src/../src/a", True),
        ("src/[slug]/a", True),
        ("docs/a", False),
        ("srcs/a", False),
        ("src/../a", False),
        (".", False),
        ("..", False),
        ("../x", False),
        ("../../src", CLIMBS),  # in the working directory `/`, `..` changes nothing
        ("../../x", False),
        ("SRC/a", CASE),
        ("s*/a", WILDCARD),
        ("../app/src/a", CLIMBS),
        ("/etc/passwd", False),
        ("/work/src/a", DIRECTORY),
        ("/*/a", DIRECTORY),
    ],
)
def test_within_relative_folders(value: str, result: Any) -> None:
    assert answer({"path_within": {"p": ["docs/x", "src"]}}, {"p": value}) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("../shared", True),
        ("../shared/x/y", True),
        ("../x/../shared/y", True),
        ("../other/x", False),
        ("../../app/shared", CLIMBS),
        ("../../other", False),
        ("a", CLIMBS),  # the working directory may be `shared`
        ("/any/shared/a", DIRECTORY),
        ("/any/a", False),
    ],
)
def test_within_a_folder_beside_the_working_directory(value: str, result: Any) -> None:
    assert answer({"path_within": {"p": ["../shared"]}}, {"p": value}) == result


def test_the_working_directory_and_the_root_are_folders() -> None:
    here = {"path_within": {"p": ["."]}}
    assert [answer(here, {"p": each}) for each in (".", "a", "a/../b", "..", "../x", "/a")] == [
        *(True, True, True, CLIMBS),
        *(CLIMBS, DIRECTORY),
    ]
    anywhere = {"path_within": {"p": ["/"]}}
    assert [answer(anywhere, {"p": each}) for each in ("/", "/etc", "/..", "a")] == [
        True,
        True,
        True,
        DIRECTORY,
    ]
    above = {"path_within": {"p": [".."]}}
    assert [answer(above, {"p": each}) for each in ("a", "..", "../b", "../..")] == [True, True, True, CLIMBS]


def test_letters_of_one_name_in_two_encodings() -> None:
    """macOS finds a file by either form."""
    composed, decomposed = "/caf\u00e9", "/cafe\u0301"
    assert answer({"path_within": {"p": [composed]}}, {"p": f"{composed}/x"}) is True
    assert answer({"path_within": {"p": [composed]}}, {"p": f"{decomposed}/x"}) == CASE
    assert answer({"path_matches": {"p": [composed]}}, {"p": decomposed}) == CASE
    assert answer({"path_matches": {"p": [composed]}}, {"p": composed}) is True
    assert answer({"path_matches": {"p": [composed]}}, {"p": "/cafe\u0302"}) is False
    with pytest.raises(PolicyError, match=r"must have letters and their accents as one character"):
        answer({"path_matches": {"p": [decomposed]}}, {"p": composed})


@pytest.mark.parametrize(
    ("patterns", "value", "result"),
    [
        (["*.pem"], "a.pem", True),
        (["*.pem"], "deep/in/a.pem", True),
        (["*.pem"], "/etc/ssl/a.pem", True),
        (["*.pem"], "x.pem/inside", True),
        (["*.pem"], "a.pem.txt", False),
        (["*.pem"], "a.PEM", CASE),
        ([".env"], ".env", True),
        ([".env"], "app/.env", True),
        ([".env"], ".env.local", False),
        (["src/**"], "src/a/b.py", True),
        (["src/**"], "src", FOLDER),
        (["src/**"], "src/", "it depends on whether the folder is meant, or what is in it"),
        (["src/**"], "src/.", "it depends on whether the folder is meant, or what is in it"),
        (["src/**"], "srcs", False),
        (["src/**"], "lib/src/a.py", False),
        (["src/**"], "src/../lib/a.py", False),
        (["src/**"], "./src//a.py", True),
        (["src/**"], "/src/a.py", DIRECTORY),
        (["src/**"], "/work/src/a.py", DIRECTORY),
        (["src/**"], "/work/lib/a.py", False),
        (["**/src/**"], "/work/src/a.py", True),
        (["/etc/**"], "/etc/passwd", True),
        (["/etc/**"], "/var/etc/passwd", False),
        (["/etc/**"], "etc/passwd", DIRECTORY),
        (["/etc/**"], "passwd", DIRECTORY),
        (["src/*.py"], "src/a.py", True),
        (["src/*.py"], "src/a/b.py", False),
        (["src/*"], "src/a/b.py", True),
        (["src/?.py"], "src/a.py", True),
        (["src/[ab].py"], "src/b.py", True),
        (["src/[ab].py"], "src/c.py", False),
        (["build/"], "build/x", True),
        (["build/"], "build/", True),
        (["build/"], "build/.", True),
        (["build/"], "build", FOLDER),
        (["build/"], "Build/x", FOLDER),
        (["build/"], "builds", False),
        (["*.py", "!test_*"], "a.py", True),
        (["*.py", "!test_*"], "test_a.py", False),
        (["*.py", "!test_*"], "TEST_a.py", CASE),
        (["*.py", "!vendor/"], "vendor/a.py", False),
        (["*.pem", "!test.pem"], "/x/test.pem", False),
        (["*.pem", "!test.pem"], "/x/test.pem/", False),
        (["*.pem", "!test.pem"], "/x/test.pem/test.pem", False),
        (["*.pem", "!test.pem"], "/x/test.pem/prod.pem", BELOW),
        (["*.pem", "!test.pem"], "/x/test.pem/notes.md", BELOW),
        (["*.key", "!test.pem"], "/x/test.pem/notes.md", False),
        (["*.key", "!test.pem", "*.pem"], "/x/test.pem/notes.md", True),
        (["*.pem", "!test.pem", "!test.pem/"], "/x/test.pem/prod.pem", False),
        (["src/**", "!src/secrets"], "src/secrets/x", BELOW),
        (["src/**", "!src/*"], "src/a/b", BELOW),
        (["src/**", "!**"], "src/a/b", False),
        (["secrets/", "!secrets/readme.md"], "secrets/readme.md", False),
        (["secrets/", "!secrets/readme.md"], "secrets/x", True),
        (["!a.py", "*.py"], "a.py", True),
        (["*.py", "!/etc/**"], "a.py", DIRECTORY),
        (["!/etc/**", "*.py"], "a.py", True),
        (["*.py", "/etc/**"], "a.py", True),
        (["/etc/**", "!*.py", "/srv/**"], "a.py", DIRECTORY),
        (["/etc/**", "!*.py", "!/srv/**"], "a.py", False),
        (["/etc/**", "!/srv/**", "*.py"], "a.md", DIRECTORY),
        (["src/**"], "src/[slug]/page.tsx", True),
        (["src/**"], "src/*.py", True),
        (["src/**", "!*.key"], "src/*", WILDCARD),
        (["*.pem"], "src/*", WILDCARD),
        (["*.pem"], "*", WILDCARD),
        (["*.pem"], "a.p[e]m", WILDCARD),
        (["*.pem"], "../a.pem", CLIMBS),
        (["*"], ".", "the path is the folder that patterns start from"),
        (["*"], "/", "the path is the folder that patterns start from"),
        ([r"\#a"], "#a", True),
        ([r"\!a"], "!a", True),
        (["naïve/**"], "naïve/x", True),
        (["*.pem"], "", "the path is empty"),
        (["*.pem"], ["a.pem"], "the value is a list, not text"),
    ],
)
def test_matches(patterns: list[str], value: Any, result: Any) -> None:
    assert answer({"path_matches": {"p": patterns}}, {"p": value}) == result
    assert answer({"path_matches": {"o.p": patterns}}, {"o": {"p": value}}) == result


# Spellings that some program reads as a file outside of /work/app, with what the program does.
LEAVING = [
    "/etc/passwd",
    "/",
    "/work",
    "/work/app/../x",
    "/work/app/..",
    "/work/app/../",
    "/work/app/./../x",
    "/work/app//../x",
    "/work/app/a/../../x",
    "/work/app/a/b/../../../x",
    "/work/app/../../etc/passwd",
    "/work/app/../../../../../../etc/passwd",
    "/work/./app/../x",
    "/work/app/../app2/x",
    "/work/app2/x",
    "/work/app.bak/x",
    "/work/app-secret",
    "/work/app\\..\\..\\etc\\passwd",
    "/work/app/..\\x",
    "/work/app/a\\..\\..\\..\\x",
    "\\work\\app\\..\\x",
    "C:\\Windows\\system32",
    "C:/Windows/system32",
    "c:etc",
    "\\\\server\\share\\x",
    "//server/share/x",
    "//work/app/x",
    "///work/app/../x",
    "/work/app/%2e%2e/x",
    "/work/app/%2E%2E%2Fx",
    "/work/app/..%2fx",
    "/work/app/%252e%252e/x",
    "/work/app/%c0%ae%c0%ae/x",
    "/work/app/%u002e%u002e/x",
    "/work/app/..%00/x",
    "%2fetc%2fpasswd",
    "%USERPROFILE%/x",
    "/work/app/../x\x00",
    "/work/app/a\x00/../../x",
    "/work/app/\x00../x",
    "/work/app/..\n/x",
    "/work/app/\t../x",
    "/work/app\n/etc/passwd",
    "/work/app/x\r\n/etc/passwd",
    "/work/app/\x1b[D../x",
    "/work/app/．．/x",
    "/work/app/．./x",
    "/work/app／..／x",
    "/work/app/..／x",
    "/work/app/‥/x",
    "/work/app/․․/x",
    "/work/app/。。/x",
    "/work/app/｡｡/x",
    "/work/app/﹒﹒/x",
    "/work/app/..∕x",
    "/work/app/..⁄x",
    "/work/app/..⧸x",
    "/work/app/..＼x",
    "/work/app/..∖x",
    "/work/app/..¥x",
    "/work/app/℀/../../x",
    "/work/app/.\u200b./x",
    "/work/app/.\u200d./x",
    "/work/app/.\ufeff./x",
    "/work/app/\u202e../x",
    "/work/app/.\u00ad./x",
    "/work/app/.\ud800./x",
    "/work/app/.. /x",
    "/work/app/..  /x",
    "/work/app/ ../x",
    "/work/app/../ x",
    "/work/app/.../x",
    "/work/app/..../x",
    "/work/app/..\u00a0/x",
    "/work/app/..\u3000/x",
    "~/.ssh/id_rsa",
    "~root/.ssh/id_rsa",
    "~",
    "/work/app/~/x",
    "/work/app/~root/../x",
    "/work/APP~1/../x",
    "$HOME/.ssh/id_rsa",
    "${HOME}/.ssh/id_rsa",
    "$(pwd)/../x",
    "`pwd`/../x",
    "/work/app/$X/x",
    "/work/app/.$X./x",
    "/work/app/{..,x}/y",
    "/work/app/{../../etc,x}/passwd",
    "/work/app/.*/x",
    "/work/app/.?/x",
    "/work/app/.[.]/x",
    "/work/app/..*/x",
    "/work/app/**/../../x",
    "/work/app/*/../../x",
    "/work/app/**/../x",
    "/work/*/x",
    "/work/ap?/../x",
    "/work/[!a]pp/x",
    "/wo*",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "file://work/app/x",
    "FILE:///work/app/../x",
    "http://work/app/x",
    "s3://work/app/x",
    "\\\\?\\C:\\x",
    "//./C:/x",
    "'/etc/passwd'",
    '"/etc/passwd"',
    " /etc/passwd",
    "\t/etc/passwd",
    "</etc/passwd",
    "|cat /etc/passwd",
    "etc/passwd",
    "../../etc/passwd",
    "-rf",
    "--output=/etc/passwd",
    "work/app/x",
    "",
    ".",
    "..",
    "/work/app/" + "a/" * 3000 + "../" * 3001 + "x",
    "/work/app/" + "../" * 3000 + "etc/passwd",
    "/work/app/" + "x" * 65_536,
]

# Spellings that some program reads as a file in /etc/keys.
REACHING = [
    "/etc/keys",
    "/etc/keys/",
    "/etc/keys/a",
    "/etc/./keys/a",
    "/etc//keys/a",
    "//etc/keys/a",
    "///etc/keys/a",
    "/etc/x/../keys/a",
    "/../etc/keys/a",
    "/etc/ssl/../keys/a/../b",
    "/ETC/keys/a",
    "/etc/KEYS/a",
    "/Etc/Keys",
    "/etc/\u212aeys/a",
    "/etc/key\u017f/a",
    "/etc/ｋeys/a",
    "/etc\\keys\\a",
    "\\etc\\keys\\a",
    "C:\\etc\\keys\\a",
    "C:/etc/keys/a",
    "/etc%2fkeys/a",
    "/%65tc/keys/a",
    "%2fetc%2fkeys",
    "/etc／keys/a",
    "／etc／keys",
    "/etc∕keys",
    "/etc/k\u200beys/a",
    "/etc/keys\u200d/a",
    "/etc/k\u00adeys/a",
    "/etc/\ufeffkeys/a",
    "/etc/keys /a",
    "/etc/keys./a",
    "/etc./keys/a",
    "/etc/keys.../a",
    "/etc/keys::$DATA",
    "/etc/KEYS~1/a",
    "/etc/keys\x00.txt",
    "/etc/keys\n",
    "/etc/\x08keys",
    " /etc/keys/a",
    "/etc/keys/a ",
    "'/etc/keys/a'",
    '"/etc/keys/a"',
    "`/etc/keys/a`",
    "file:///etc/keys/a",
    "file:/etc/keys/a",
    "file://localhost/etc/keys/a",
    "/etc/k*/a",
    "/e?c/keys/a",
    "/[e]tc/keys/a",
    "/*/keys",
    "/etc/*",
    "/etc/**/a",
    "/e*",
    "*",
    "/etc/{keys,x}/a",
    "/{etc,x}/keys",
    "~/../etc/keys",
    "~root/../etc/keys/a",
    "$ETC/keys/a",
    "/etc/$X",
    "/etc/${X}keys",
    "$(echo /etc/keys)",
    "keys/a",
    "etc/keys/a",
    "../etc/keys/a",
    "../../../../etc/keys/a",
    "a",
    ".",
    "",
    "/x" * 3000 + "/.." * 3000 + "/etc/keys",
]


def test_the_lists_are_long_enough() -> None:
    assert len(set(LEAVING)) >= 100
    assert len(set(REACHING)) >= 60


STRICTNESS = ("auto", "approve", "block")


@pytest.mark.parametrize("default", STRICTNESS)
def test_no_spelling_is_looser_than_leaving_plainly(default: str) -> None:
    """An allow rule lets through no spelling that may leave, whatever the rest of the policy says."""
    conditions: list[dict[str, Any]] = [
        {"path_within": {"p": ["/work/app"]}},
        {"path_matches": {"p": ["/work/app/**"]}},
        {"path_matches": {"p": ["/work/app", "!**/passwd"]}},
    ]
    for each in conditions:
        rules = [{"name": "inside", "conditions": each, "approval": "auto"}]
        policy = Policy.from_dict({"rules": rules, "defaults": {"approval": default}})
        assert policy.evaluate(Action("t", params={"p": "/work/app/a"})).matched_rule == "inside"
        plainly = policy.evaluate(Action("t", params={"p": "/etc/passwd"})).approval
        for spelling in LEAVING:
            decision = policy.evaluate(Action("t", params={"p": spelling}))
            assert STRICTNESS.index(decision.approval) >= STRICTNESS.index(plainly), spelling
            assert decision.matched_rule != "inside" or decision.errors, spelling


def test_no_spelling_of_a_blocked_file_gets_through() -> None:
    """A block rule also stops what only some programs read as a file in the folder."""
    for condition in (
        {"path_within": {"p": ["/etc/keys"]}},
        {"path_matches": {"p": ["/etc/keys"]}},
        {"path_matches": {"p": ["/etc/keys/"]}},
        {"path_matches": {"p": ["/etc/*", "!/etc/hosts"]}},
    ):
        rules = [{"name": "keys", "conditions": condition, "approval": "block"}]
        policy = Policy.from_dict({"rules": rules, "defaults": {"approval": "auto"}})
        assert policy.evaluate(Action("t", params={"p": "/srv/x"})).approval == "auto"
        for spelling in REACHING:
            assert policy.evaluate(Action("t", params={"p": spelling})).approval == "block", spelling


def test_a_deny_list_of_names_stops_every_spelling() -> None:
    rules = [{"conditions": {"path_matches": {"p": [".env", "*.pem", ".git/"]}}, "approval": "block"}]
    policy = Policy.from_dict({"rules": rules, "defaults": {"approval": "auto"}})
    for safe in ("a.py", "/work/src/a.py", ".envrc", "src/.github/x", "pem", "Gits/x", ".gitignore"):
        assert policy.evaluate(Action("t", params={"p": safe})).approval == "auto", safe
    for spelling in (
        *(".env", "./.env", "x/../.env", "/work/.env", ".ENV", ".Env", "..//.env", ".env/", ".env ", ".env."),
        *(
            ".e\u200bnv",
            "\u2024env",
            ".env\x00",
            "a.pem",
            "A.PEM",
            "a.pem::$DATA",
            "a.p*",
            "a.pe?",
            "{a.pem,b}",
        ),
        *(
            ".git",
            ".git/config",
            ".GIT/config",
            ".g\u200cit/config",
            "GIT~1/config",
            ".git\\config",
            ".git /config",
        ),
        *("%2eenv", "~/.env", "$X/.env", "file:.env", "../.env", "x/*", ".en[v]", "'.env'"),
    ):
        assert policy.evaluate(Action("t", params={"p": spelling})).approval == "block", spelling


NAMES = st.sampled_from(
    ["a", "src", "app", "SRC", "..", ".", "", "...", "b.py", "é", "work", "*", "[a]", "~x", "x y"]
)
PATHS = st.builds(
    lambda start, names: start + "/".join(names),
    st.sampled_from(["", "/", "//"]),
    st.lists(NAMES, max_size=8),
)
ROOTS = st.lists(
    st.sampled_from(
        ["/", "/work", "/work/src", "/a", "src", ".", "..", "../src", "a/src", "../../a", "work"]
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
DIRECTORIES = ("/", "/work", "/work/src", "/a/src/app", "/a/b.py/work/x", "/x/y")


def real(path: str, directory: str) -> str:
    """What a POSIX system without links opens."""
    return posixpath.normpath(posixpath.join(directory, path)).replace("//", "/")


def is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


@given(PATHS, ROOTS)
def test_what_is_known_holds_in_every_working_directory(path: str, roots: list[str]) -> None:
    found = file_paths.within(path, file_paths.prepare_roots(file_paths.check_roots(roots)))
    if isinstance(found, str):
        return
    for directory in DIRECTORIES:
        opened = real(path, directory)
        is_inside = any(is_below(opened, real(root, directory)) for root in roots)
        is_inside_otherwise = any(is_below(opened.lower(), real(root, directory).lower()) for root in roots)
        assert found in (is_inside, is_inside_otherwise), directory
        assert is_inside == is_inside_otherwise or found is is_inside


GITIGNORE = st.sampled_from(
    [
        "src/**",
        "/work/**",
        "*.py",
        "a",
        "src/",
        "**/app/*",
        "/a",
        "*",
        "[ab]*",
        "src/*/b.py",
        "é",
        "**/",
        "/*",
    ]
)
LISTS = st.lists(st.builds(str.__add__, st.sampled_from(["", "", "!"]), GITIGNORE), min_size=1, max_size=4)


@given(PATHS, LISTS)
def test_what_is_known_is_what_the_library_says(path: str, patterns: list[str]) -> None:
    """The last matching pattern decides, absolute ones from the root, others from any working directory."""
    if all(each.startswith("!") for each in patterns):
        return
    found = file_paths.matches(path, file_paths.prepare_patterns(file_paths.check_patterns(patterns)))
    if isinstance(found, str):
        return
    specs = [
        PathSpec.from_lines(GitIgnoreSpecPattern, [each.removeprefix("!")], backend="simple")
        for each in patterns
    ]
    for directory in DIRECTORIES:
        opened = real(path, directory)
        expected = False
        for each, spec in zip(patterns, specs, strict=True):
            body = each.removeprefix("!")
            # An absolute path is matched from the root, but not by a relative pattern with a slash.
            is_anchored = "/" in body.rstrip("/") and not body.startswith("**/")
            from_root = body.startswith("/") or (path.startswith("/") and not is_anchored)
            start = "/" if from_root else directory
            inner = opened[len(start.rstrip("/")) + 1 :]
            is_folder = path.rpartition("/")[2] in ("", ".", "..") and body.endswith("/")
            if is_below(opened, start) and spec.match_file(inner + "/" * is_folder):
                expected = not each.startswith("!")
        if "*" not in path and "[" not in path:
            assert found is expected, directory


@given(
    st.one_of(
        st.text(), st.none(), st.integers(), st.floats(), st.binary(), st.lists(st.text()), st.booleans()
    )
)
def test_nothing_raises(value: Any) -> None:
    roots = file_paths.prepare_roots(["/work", "src", "../x"])
    patterns = file_paths.prepare_patterns(["src/**", "!*.py", "/etc/"])
    assert isinstance(file_paths.within(value, roots), (bool, str))
    assert isinstance(file_paths.matches(value, patterns), (bool, str))


@given(st.text(alphabet="/.~a*[]{}\\% \x00A：／．。é\u0301\u200b-", max_size=30))
def test_nothing_raises_for_odd_text(value: str) -> None:
    test_nothing_raises.hypothesis.inner_test(value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("marks", "is_read"),
    [("\u0315\u0300" * 15, True), ("\u0315\u0300" * 16, False), ("\u0344" * 4_000, False)],
)
def test_a_path_with_more_accents_than_are_compared_is_unknown(marks: str, is_read: bool) -> None:
    """Their order is compared in a time that grows with the square of their number."""
    inside, outside = f"/work/app/a{marks}", f"/work/a{marks}"
    why = "a letter in the path has more than 30 accents"
    for condition in ({"path_within": {"p": ["/work/app"]}}, {"path_matches": {"p": ["/work/app/**"]}}):
        assert answer(condition, {"p": inside}) == (True if is_read else why)
        assert answer(condition, {"p": outside}) == (False if is_read else why)


@pytest.mark.parametrize(
    "value",
    [
        "a" * 65_536,
        "/" * 65_536,
        "../" * 21_845,
        "../" * 600 + "a/" * 1_000,
        "../" * 99 + "a/" * 1_800,
        "a/" * 32_768,
        "." * 65_536,
        " " * 65_536,
        "~" * 65_536,
        "*/" * 32_768,
        "a." * 2_047,
        "a/" * 2_047,
        "[" * 4_095,
        "é" * 4_095,
        "\u0301" * 4_095,
        "\u0315\u0300" * 2_047,
        "/work/" + "\ufdfa" * 4_000,
        "~1" * 2_047,
        "a*" * 2_047,
        ("a" * 7 + "/") * 511,
    ],
)
def test_hostile_values_are_judged_fast(value: str) -> None:
    roots = file_paths.prepare_roots([f"/work/{number}" for number in range(100)] + ["src"])
    patterns = file_paths.prepare_patterns([f"**/a*a*/{number}/**/b*c" for number in range(50)])
    start = time.process_time()
    file_paths.within(value, roots)
    file_paths.matches(value, patterns)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("path_within: { p: [] }", "`path_within` on `p` must not be empty"),
        (
            "path_within: { p: /work }",
            "`path_within` on `p` must be a list of folders, not `/work` (did you mean `[/work]`?)",
        ),
        ("path_within: { p: 5 }", "`path_within` on `p` must be a list of folders, not the number `5`"),
        (
            "path_within: { p: { a: b } }",
            "`path_within` on `p` must be a list of folders, not a mapping",
        ),
        ("path_within: { p: [/a, 5] }", "`path_within` on `p` must be a folder, not the number `5`"),
        ("path_within: { p: [/a, [/b]] }", "`path_within` on `p` must be a folder, not a list"),
        ("path_within: { p: [/a, /b/] }", "`path_within` on `p` must be written without"),
        ("path_within: { p: [/a/../b] }", "(did you mean `/b`?)"),
        ("path_within: { p: [./a] }", "(did you mean `a`?)"),
        ("path_within: { p: ['/a/*'] }", "wildcards stand in `path_matches`"),
        ("path_within: { p: ['/a/{b,c}'] }", "the path has a brace"),
        ("path_within: { p: ['~/a'] }", "the path has a `~`"),
        ("path_within: { p: ['C:/a'] }", "the path begins like a URL or a drive"),
        ("path_within: { p: ['a\\b'] }", "the path has a backslash"),
        ("path_within: { p: [''] }", "the path is empty"),
        ("path_matches: { p: [] }", "`path_matches` on `p` must not be empty"),
        ("path_matches: { p: '*.py' }", "must be a list of gitignore patterns, not `*.py`"),
        (
            "path_matches: { p: [a, 5] }",
            "`path_matches` on `p` must be a gitignore pattern of 1 to 256",
        ),
        ("path_matches: { p: ['!a', '!b'] }", "`path_matches` on `p` has only exceptions"),
        ("path_matches: { p: ['#a'] }", "is a comment in gitignore"),
        ("path_matches: { p: ['a '] }", "begins or ends with a space"),
        ("path_matches: { p: ['!'] }", "is empty"),
        ("path_matches: { p: ['a//b'] }", "has an empty name"),
        ("path_matches: { p: ['../a'] }", "has an empty name, `.` or `..`"),
        ("path_matches: { p: ['./a'] }", "has an empty name, `.` or `..`"),
        ("path_matches: { p: ['a\\b'] }", "has a backslash before a letter"),
        ("path_matches: { p: ['a\\'] }", "has a backslash before a letter"),
        ("path_matches: { p: ['~/a'] }", "never matches, because such a path is unknown"),
        (
            "path_matches: { p: ['*.{js,ts}'] }",
            "never matches, because such a path is unknown: the path has a brace",
        ),
        ("path_matches: { p: ['a[!b]c'] }", "has characters in brackets that include `/`"),
        ("path_matches: { p: ['a[+-9]c'] }", "has characters in brackets that include `/`"),
        ("path_matches: { p: ['a[z-a]'] }", "must be a gitignore pattern, not `a[z-a]`"),
        ("path_matches: { p: ['a[b'] }", "must be a gitignore pattern, not `a[b`: it matches nothing"),
        ("path_matches: { p: ['/'] }", "has an empty name"),
    ],
)
def test_a_bad_value_is_one_problem_with_its_place(condition: str, problem: str) -> None:
    with pytest.raises(PolicyError) as refused:
        Policy.from_text(f"rules: [{{ conditions: {{ {condition} }} }}]")
    (only,) = refused.value.problems
    assert problem in str(only)
    # The place is that of the last item, or of the value where that is no list of items.
    is_whole = re.search("must be a list|must not be empty|has only", problem)
    item = re.search(r"p: (.*) }" if is_whole else r"(?:\[|, )([^,]*|'[^']*'|\[/b])\] }", condition)
    assert item is not None
    assert only.column == len("rules: [{ conditions: { ") + 1 + item.start(1)


def test_every_bad_item_is_reported() -> None:
    with pytest.raises(PolicyError) as refused:
        Policy.from_text("rules: [{ conditions: { path_within: { p: [/a/, /b, 5, '~'] } } }]")
    assert [problem.column for problem in refused.value.problems] == [44, 53, 56]


def test_too_many_patterns_are_refused() -> None:
    patterns = [f"**/{'a*/' * 80}{number}" for number in range(500)]
    with pytest.raises(PolicyError, match="is too long: the patterns are too large together"):
        Policy.from_dict({"rules": [{"conditions": {"path_matches": {"p": patterns}}}]})


def test_the_value_is_in_no_reason() -> None:
    for condition in ({"path_within": {"p": ["/work"]}}, {"path_matches": {"p": ["*.py"]}}):
        for value in ("s3cret\\x", "~s3cret", "s3cret%", "/WORK/s3cret", "../s3cret", "s3cret*"):
            assert "s3cret" not in str(answer(condition, {"p": value}))
