"""K3: nothing is approved at a terminal that was not shown whole, and no text looks like a field of ours."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import termios
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import CallbackApprovalHandler, CLIApprovalHandler, NobodyToAsk
from tests.support.kit import POLICY, Bench

BENCH = Callable[..., Bench]
LABELS = r"Action|Target|Agent|Risk|Rule|Reason|Params|Desc|Id|Until|Note|Why"
OURS = re.compile(
    rf"(=+$|  APPROVAL REQUIRED$|  NOT APPROVED$|  ({LABELS}):|  \* |  \| |  Approve\? \[y/n\]: |$"
    r"|  No longer waiting for an answer\.$|  No input available: denying\.$|  Please enter )"
)


class Executor(BaseExecutor):
    def __init__(self) -> None:
        self.did: list[Mapping[str, Any]] = []

    async def execute(self, action: Action) -> Result:
        self.did.append(action.params)
        return Result(action=action, status=ResultStatus.SUCCESS)


class Window:
    """A pseudo-terminal of a size, on which a handler reads and writes."""

    def __init__(self, columns: int, rows: int = 24) -> None:
        self.outside, inside = pty.openpty()
        self.resize(columns, rows)
        attributes = termios.tcgetattr(inside)
        attributes[3] &= ~termios.ECHO  # what is typed is no output
        termios.tcsetattr(inside, termios.TCSANOW, attributes)
        os.set_blocking(self.outside, False)
        self.stdin, self.stdout = os.fdopen(os.dup(inside), "r"), os.fdopen(inside, "w", encoding="utf-8")
        self._read = b""

    def resize(self, columns: int, rows: int = 24) -> None:
        fcntl.ioctl(self.outside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def handler(self) -> CLIApprovalHandler:
        return CLIApprovalHandler(stdin=self.stdin, stdout=self.stdout)

    def type(self, text: str) -> None:
        os.write(self.outside, text.encode())

    @property
    def text(self) -> str:
        try:
            while more := os.read(self.outside, 65_536):
                self._read += more
        except OSError:  # nothing more for now
            pass
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    async def until(self, what: str, times: int = 1) -> None:
        while self.text.count(what) < times:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)  # what is typed while the question is being shown may be dropped

    def close(self) -> None:
        self.stdin.close()
        self.stdout.close()
        os.close(self.outside)


@pytest.fixture
def window() -> Iterator[Callable[..., Window]]:
    made: list[Window] = []

    def make(columns: int = 80, rows: int = 24) -> Window:
        made.append(Window(columns, rows))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def answered(
    window: Window,
    bench: BENCH,
    params: dict[str, Any],
    typed: str = "y",
    schema: dict[str, Any] | None = None,
) -> Bench:
    """One call that a human is asked about at `window`; `typed` where the prompt comes up."""
    b = bench(approver=window.handler(), executor=Executor(), timeout=30)
    call = asyncio.ensure_future(b.runtime.run_one(Action("write_x", "store", params, schema=schema)))
    prompt = asyncio.ensure_future(window.until("[y/n]: "))
    await asyncio.wait({call, prompt}, return_when=asyncio.FIRST_COMPLETED)
    if not call.done():
        window.type(typed + "\n")
    prompt.cancel()
    await call
    return b


def arguments(lines: list[str]) -> dict[str, Any]:
    """What a human reads of the arguments, put together again."""
    found: list[str] = []
    for line in lines:
        if line.startswith("  * "):
            found.append(line[4:])
        elif line.startswith("  | ") and found:
            found[-1] += line[4:]
        elif line.startswith("  Params:  {"):
            return json.loads(line[11:])
        elif found:
            break
    return json.loads("{" + ", ".join(found) + "}")


async def test_k3_every_argument_is_shown(bench: BENCH, window: Callable[..., Window]) -> None:
    """The 41st of 60 as well, and the yes is to all of them."""
    screen = window()
    params = {f"note_{n}": "x" for n in range(40)} | {"amount": 5000} | {f"more_{n}": n for n in range(19)}
    b = await answered(screen, bench, params)
    assert arguments(screen.lines) == params
    assert b.row()["human_decision"] == "approved"


@pytest.mark.parametrize("columns", [40, 80])
async def test_k3_a_long_value_is_shown_to_its_end(
    columns: int, bench: BENCH, window: Callable[..., Window]
) -> None:
    """Its last characters are what matters."""
    screen = window(columns)
    params = {"command": "echo " + "x" * 2_000 + " ; rm -rf /"}
    await answered(screen, bench, params)
    assert arguments(screen.lines) == params
    assert all(cell_len(line) < columns for line in screen.lines)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize(
    "params",
    [
        {"text": "x" * 100_000},
        {"text": "\n" * 300},
        {f"p{n}": n for n in range(250)},
        {"list": list(range(20_000))},
        {"x" * 50_000: 1},
    ],
    ids=["long", "lines", "many", "nested", "name"],
)
async def test_k3_what_is_not_shown_whole_is_not_approved(
    columns: int, params: dict[str, Any], bench: BENCH, window: Callable[..., Window]
) -> None:
    """Whatever is typed: it is denied, and terminal and row say why and what else there is."""
    screen = window(columns)
    b = await answered(screen, bench, params)
    row = b.row()
    assert b.runtime.executor.did == []
    assert (row["human_decision"], row["reason"], row["result_status"]) == (None, "approval_error", "denied")
    assert "more than the 200 lines that are shown at a terminal" in row["result_error"]
    shown = " ".join(line.removeprefix("  | ").strip() for line in screen.lines)
    assert "NOT APPROVED" in shown
    assert "webhook" in shown
    assert row["decision_id"][:13] in screen.text
    assert len(screen.lines) < 30


OPEN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "password": {"type": "string"},
        "options": {"type": "object", "additionalProperties": {}},
        "secrets": {"type": "object", "additionalProperties": {"type": "string"}},
        "steps": {"type": "array", "items": {"type": "object"}},
        "login": {"type": "object", "properties": {"token": {"type": "string"}}},
    },
}


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"url": "x", "options": {"password": "rm -rf / --no-preserve-root"}}, "options"),
        ({"url": "x", "options": {"a": {"password": "rm -rf /", "token": "rm -rf /"}}}, "options.a"),
        ({"url": "x", "secrets": {"cmd": "rm -rf /", "to": "evil"}}, "secrets"),
        ({"url": "x", "steps": [{"n": 1}, {"api_key": "rm -rf /"}]}, "steps.*"),
        ({"password_of": "rm -rf /", "token": "rm -rf /"}, "it"),
    ],
)
async def test_k3_what_is_hidden_under_names_of_the_models_is_not_approved(
    params: dict[str, Any], where: str, bench: BENCH, window: Callable[..., Window]
) -> None:
    """A model that may choose names could call anything a password, and nothing of it would be shown."""
    screen = window(80)
    b = await answered(screen, bench, params, schema=OPEN)
    row = b.row()
    assert b.runtime.executor.did == []
    assert (row["human_decision"], row["reason"], row["result_status"]) == (None, "approval_error", "denied")
    assert f"all that {where} has is hidden, under names of the model's" in row["result_error"]


@pytest.mark.parametrize(
    "params",
    [
        {"password": "hunter2hunter2"},
        {"url": "x", "login": {"token": "hunter2hunter2"}},
        {"url": "x", "options": {"password": "hunter2hunter2", "user": "ann"}},
        {"url": "x", "options": {}},
        {"url": "x", "steps": [{"n": 1}]},
    ],
)
async def test_k3_secrets_under_names_of_the_tools_are_approved_holds(
    params: dict[str, Any], bench: BENCH, window: Callable[..., Window]
) -> None:
    b = await answered(window(80), bench, params, schema=OPEN)
    assert b.row()["human_decision"] == "approved"


@pytest.mark.parametrize("channel", ["terminal", "function"])
@pytest.mark.parametrize("what", ["deep", "large"])
async def test_k3_what_the_record_cuts_is_not_approved(
    what: str, channel: str, bench: BENCH, window: Callable[..., Window]
) -> None:
    """Nested deeper than is encoded, or more than is encoded: no channel could show it."""
    value: Any = "rm -rf /"
    for _ in range(100):
        value = [value]
    if what == "large":
        value = [[0] * 600_000, [1] * 600_000]
    if channel == "terminal":
        b = await answered(window(), bench, {"a": value})
    else:
        b = bench(approver=CallbackApprovalHandler(lambda decision: True), executor=Executor())
        await b.runtime.run_one(Action("write_x", params={"a": value}))
    assert b.runtime.executor.did == []
    assert "its arguments cannot be shown whole" in b.row()["result_error"]


HOSTILE = {
    "padding": "ok" + " " * 150 + "  Risk:    LOW",
    "newlines": "ok\n  Risk:    LOW\n  Rule:    search_auto\n  Approve? [y/n]: y",
    "returns": "ok\r  Risk:    LOW",
    "escapes": "ok\x1b[2K\x1b[1G  Risk:    LOW\x1b]0;title\x07\x9b2J",
    "wide": "日本" * 70 + "  Risk:    LOW",
    "ambiguous": "±§°" * 70 + "  Risk:    LOW",
    "emoji": "👩‍👩‍👧‍👦👍🏽❤️" * 30 + "  Risk:    LOW",
    "marks": "e" + "\u0301" * 60 + "  Risk:    LOW",
    "mark first": "\u0338" * 5 + "x",
    "bidi": "\u202e WOL    :ksiR  \u2066\u200f\u061c" + " " * 80 + "  Risk:    LOW",
    "zero width": "\u200b\u200d\ufeff\u2060\u00ad" * 40 + "  Risk:    LOW",
    "selectors": "\ufe00\ufe0f\u180b" * 60,
    "tags": "\U000e0041" * 30,
    "tabs": "\t" * 40 + "Risk:    LOW",
    "separators": "a\u2028  Risk:    LOW\u2029\x85\x0b\x0c  Rule:    x",
    "gutter": ("  * " + '"amount": 1   ') * 20,
    "surrogate": "\ud800" * 30,
    "word": "x" * 700 + "  Risk:    LOW",
    "blank": "\u2800\u3164\uffa0\u3000\u00a0" * 40 + "  Risk:    LOW",
}


@pytest.mark.parametrize("columns", [24, 40, 80, 132])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
async def test_k3_no_text_looks_like_a_field(text: str, columns: int, window: Callable[..., Window]) -> None:
    """In values, names, target, agent and description, each line begins with what only we write."""
    screen = window(columns)
    verdict = Policy.from_dict(POLICY).evaluate(Action("write_x")).verdict
    action = Action("write_x", text[:300], {"a": text, text[:90]: {"b": [text]}}, text, agent=text[:300])
    asking = asyncio.ensure_future(screen.handler().request_approval(PolicyDecision(action, verdict)))
    prompt = asyncio.ensure_future(screen.until("[y/n]: "))
    await asyncio.wait({asking, prompt}, return_when=asyncio.FIRST_COMPLETED)
    if asking.done():  # too long for this window
        assert "NOT APPROVED" in screen.text
        assert isinstance(asking.exception(), NobodyToAsk)
    else:
        screen.type("n\n")
        assert await asking is False
    prompt.cancel()
    assert [line for line in screen.lines if not OURS.match(line)] == []
    assert [line for line in screen.lines if cell_len(line) >= columns] == []
    shown = [line for line in screen.lines if line.startswith("  Risk:")]
    assert shown == ["  Risk:    HIGH"]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", screen.text)


async def test_k3_lines_of_a_value_are_lines_on_the_screen(window: Callable[..., Window]) -> None:
    """Each behind our mark, and a written `\\n` is told from a newline."""
    screen = window()
    verdict = Policy.from_dict(POLICY).evaluate(Action("write_x")).verdict
    action = Action("write_x", params={"command": "ls # nothing\nrm -rf /\nprintf 'a\\nb'"})
    asking = asyncio.ensure_future(screen.handler().request_approval(PolicyDecision(action, verdict)))
    await screen.until("[y/n]: ")
    screen.type("n\n")
    await asking
    assert [line for line in screen.lines if line.startswith(("  * ", "  | "))] == [
        r'  * "command": "ls # nothing\n',
        r"  | rm -rf /\n",
        r"""  | printf 'a\\nb'" """.rstrip(),
    ]


async def test_k3_a_window_made_narrower_is_asked_anew(window: Callable[..., Window], bench: BENCH) -> None:
    """The yes is to lines as they were laid out for the window that there is."""
    screen = window(120)
    b = bench(approver=screen.handler(), executor=Executor(), timeout=30)
    call = asyncio.ensure_future(b.runtime.run_one(Action("write_x", params={"a": "x " * 100})))
    await screen.until("[y/n]: ")
    screen.resize(50)
    screen.type("y\n")
    await screen.until("[y/n]: ", 2)
    assert not call.done()
    again = screen.text.split("[y/n]: ")[1].split("\n")
    assert all(cell_len(line) < 50 for line in again)
    screen.type("y\n")
    assert (await call).ok


@pytest.mark.parametrize("columns", [5, 23])
async def test_k3_a_window_too_narrow_is_not_asked_at(
    columns: int, bench: BENCH, window: Callable[..., Window]
) -> None:
    screen = window(columns)
    b = await answered(screen, bench, {"a": 1})
    assert f"{columns} columns are too few" in b.row()["result_error"]
    assert b.runtime.executor.did == []


async def test_k3_a_question_longer_than_the_window_says_so(
    bench: BENCH, window: Callable[..., Window]
) -> None:
    screen = window(80, 24)
    await answered(screen, bench, {f"p{n}": n for n in range(60)})
    assert re.search(r"Note:    \d+ lines, and 24 on this screen: scroll up", screen.text)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=200) | st.text(
    '\\nru0\n"{}[]:, *|=\t\u0301日', max_size=200
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    params=st.dictionaries(
        TEXTS, TEXTS | st.integers() | st.lists(TEXTS, max_size=3), min_size=1, max_size=6
    ),
    columns=st.integers(24, 140),
    target=TEXTS,
)
def test_k3_whatever_the_arguments_their_lines_are_ours(
    params: dict[str, Any], columns: int, target: str
) -> None:
    from aegis_otel.runtime.approval.screen import Screen, question_layout

    verdict = Policy.from_dict(POLICY).evaluate(Action("write_x")).verdict
    asked = question_layout(
        PolicyDecision(Action("write_x", target or "t", params, target), verdict), None, None
    )
    lines = asked.lines(Screen(columns, 24, "utf-8"))
    assert all(OURS.match(line) for line in lines)
    assert all(cell_len(line) < columns for line in lines)
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in "".join(lines))
    assert sum(line.startswith(("  * ", "  Params:  {")) for line in lines) in (1, len(params))


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=500), encoding=st.just("ascii")
)
def test_k3_a_terminal_of_ascii_shows_what_it_can(text: str, encoding: str) -> None:
    from aegis_otel.runtime.approval.screen import Screen, question_layout

    verdict = Policy.from_dict(POLICY).evaluate(Action("write_x")).verdict
    asked = question_layout(PolicyDecision(Action("write_x", params={"a": f"é{text}"}), verdict), None, None)
    lines = asked.lines(Screen(60, 24, encoding))
    assert all(line.isascii() for line in lines)
    assert r'"a": "\xe9' in "".join(lines)
