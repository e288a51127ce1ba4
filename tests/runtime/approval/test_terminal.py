"""Who is asked: the terminal, above all that it neither stalls the loop nor is fooled."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pty
import threading
import time
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import (
    AutoApprovalHandler,
    CLIApprovalHandler,
    DenyApprovalHandler,
    NoTerminal,
    default_handler,
)
from aegis_otel.runtime.approval.screen import Screen, question_layout
from tests.support.kit import POLICY


def decision(**params: Any) -> PolicyDecision:
    return Policy.from_dict(POLICY).evaluate(Action("write_x", "store", params, "Writes it.", agent="Clerk"))


class Terminal:
    """A pseudo-terminal: `type` is the keyboard, `screen` what was shown."""

    def __init__(self) -> None:
        self.keyboard, inside = pty.openpty()
        self.stdin = os.fdopen(inside, "r")
        self._reader, writer = os.pipe()
        self.stdout = os.fdopen(writer, "w")
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    async def answer(self, asking: Awaitable[bool], *typed: str) -> bool:
        """Type each line when the question, or the next one, is on the screen."""
        task = asyncio.ensure_future(asking)
        for n, line in enumerate(typed, 1):
            while self.shown.count("Approve? [y/n]:") < n:
                self.shown += self.screen()
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)  # what is typed while it is being shown may be dropped
            self.type(f"{line}\n")
        given = await task
        self.shown += self.screen()
        return given

    def screen(self) -> str:
        self.stdout.flush()
        os.set_blocking(self._reader, False)
        try:
            return os.read(self._reader, 100_000).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self.stdin.close()
        self.stdout.close()
        os.close(self.keyboard)
        os.close(self._reader)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def handler(terminal: Terminal) -> CLIApprovalHandler:
    return CLIApprovalHandler(stdin=terminal.stdin, stdout=terminal.stdout)


@pytest.mark.parametrize(("typed", "expected"), [("y", True), ("YES", True), ("n", False), ("no", False)])
async def test_inventory_82_the_question(typed: str, expected: bool, terminal: Terminal) -> None:
    """Action, target, agent, risk, rule, params and description are shown; y/yes/n/no answer."""
    asking = handler(terminal).request_approval(decision(table="users"))
    assert await terminal.answer(asking, typed) is expected
    shown = [line for line in terminal.shown.splitlines() if "Reason:" not in line]
    assert shown == [
        "",
        "=" * 60,
        "  APPROVAL REQUIRED",
        "=" * 60,
        "  Action:  write_x",
        "  Target:  store",
        "  Agent:   Clerk",
        "  Risk:    HIGH",
        "  Rule:    write_asks",
        '  Params:  {"table": "users"}',
        "  Desc:    Writes it.",
        "=" * 60,
        "  Approve? [y/n]: ",
    ]


async def test_another_answer_is_asked_for_again(terminal: Terminal) -> None:
    """Neither yes nor no is not an answer."""
    assert await terminal.answer(handler(terminal).request_approval(decision()), "maybe", "", "y") is True
    assert terminal.shown.count("Please enter 'y' or 'n'.") == 2


async def test_end_of_input_denies(tmp_path: Path) -> None:
    """EOF is a no, said so."""
    empty = (tmp_path / "empty").open("w+")
    out = (tmp_path / "out").open("w+")
    with empty, out:
        assert await CLIApprovalHandler(stdin=empty, stdout=out).request_approval(decision()) is False
        out.flush()
        assert "No input available: denying." in (tmp_path / "out").read_text()


async def test_b44_hostile_parameters_reach_no_terminal(terminal: Terminal) -> None:
    """Escape sequences and bidi controls are shown, not obeyed; secrets are redacted."""
    asked = PolicyDecision(
        Action("write_x\x1b[2J", "st\nRule: fake", {"password": "hunter2", "q": "\x1b]0;pwn\x07\u202e"}),
        decision().verdict,
    )
    await terminal.answer(handler(terminal).request_approval(asked), "n")
    shown = terminal.shown
    assert not any(control in shown for control in ("\x1b", "\x07", "\u202e", "hunter2", "st\nRule"))
    assert "[REDACTED 7 chars]" in shown


async def test_b29_the_loop_turns_while_the_human_thinks(terminal: Terminal) -> None:
    """The prompt waits in a thread: the loop's longest pause is far below the human's."""
    asking = asyncio.create_task(handler(terminal).request_approval(decision()))
    pauses: list[float] = []
    until = time.perf_counter() + 0.4
    while time.perf_counter() < until:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        pauses.append(time.perf_counter() - before)
    assert not asking.done()
    assert len(pauses) > 40
    terminal.type("y\n")
    assert await asking is True


async def test_b29_prompts_come_one_at_a_time(terminal: Terminal) -> None:
    """The second question is shown when the first is answered, and each gets its own answer."""
    ask = handler(terminal).request_approval
    first = asyncio.create_task(ask(decision(n=1)))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(ask(decision(n=2)))
    await asyncio.sleep(0.2)
    assert terminal.screen().count("APPROVAL REQUIRED") == 1
    terminal.type("y\n")
    assert await first is True
    assert await terminal.answer(second, "n") is False
    assert terminal.shown.count("APPROVAL REQUIRED") == 1


async def test_a_question_nobody_waits_for_is_taken_back(terminal: Terminal) -> None:
    """After a time-out the prompt ends by itself, and the next one is asked."""
    ask = handler(terminal).request_approval
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(decision()), 0.05)
    terminal_thread = [t for t in threading.enumerate() if t.name == "aegis-approval"]
    for thread in terminal_thread:
        await asyncio.to_thread(thread.join, 5)
    assert "No longer waiting" in terminal.screen()
    assert await terminal.answer(ask(decision()), "y") is True


async def test_the_prompt_line_is_ended_before_the_program_writes_on(terminal: Terminal) -> None:
    """What it writes after a time-out stood behind the prompt."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler(terminal).request_approval(decision()), 0.3)
    terminal.stdout.write("the program goes on\n")
    await asyncio.sleep(0.3)
    assert terminal.screen().endswith(
        "  Approve? [y/n]: \n  No longer waiting for an answer.\nthe program goes on\n"
    )


async def test_a_question_taken_back_on_a_closed_terminal(terminal: Terminal, tmp_path: Path) -> None:
    """The end of the wait stays the end of the wait."""
    out = (tmp_path / "out").open("w")
    asking = asyncio.ensure_future(
        CLIApprovalHandler(stdin=terminal.stdin, stdout=out).request_approval(decision())
    )
    while "[y/n]" not in (tmp_path / "out").read_text():
        await asyncio.sleep(0.01)
    out.close()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_was_typed_before_the_question_is_no_answer(terminal: Terminal) -> None:
    """A line typed ahead approves nothing: the question is still open when it is shown."""
    terminal.type("y\ny\n")
    await asyncio.sleep(0.05)
    assert await terminal.answer(handler(terminal).request_approval(decision()), "n") is False


async def test_a_long_parameter_hides_no_other(terminal: Terminal) -> None:
    """Both are shown whole."""
    asking = handler(terminal).request_approval(decision(a="x" * 10_000, z_to="evil@example.com"))
    await terminal.answer(asking, "n")
    assert terminal.shown.count("x") > 10_000
    assert "evil@example.com" in terminal.shown


async def test_inventory_83_auto_and_deny() -> None:
    """One says yes to all, one says no to all."""
    assert await AutoApprovalHandler().request_approval(decision()) is True
    assert await DenyApprovalHandler().request_approval(decision()) is False


def test_the_default_follows_the_terminal(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    """A terminal is asked; without one everything is denied."""
    monkeypatch.setattr("sys.stdin", terminal.stdin)
    assert isinstance(default_handler(), CLIApprovalHandler)
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert isinstance(default_handler(), NoTerminal)


def lines(text: str, *, target: str = "store", columns: int = 80, deadline: float | None = None) -> list[str]:
    asked = PolicyDecision(Action("write_x", target, {"text": text}, text), decision().verdict)
    return question_layout(asked, None, deadline).lines(Screen(columns, 0, "utf-8"))


def field(name: str, shown: list[str]) -> str:
    begin = next(n for n, line in enumerate(shown) if line.startswith(name))
    rest = itertools.takewhile(lambda line: line.startswith("  | "), shown[begin + 1 :])
    return "".join([shown[begin].removeprefix(name), *(line[4:] for line in rest)])


def test_a_word_that_has_room_on_a_line_is_not_broken() -> None:
    """Neither in a field nor in an argument, and no character is lost."""
    words = ["https://shop.example.com/orders/" + "1" * n + "/x" for n in range(2, 38, 5)]
    text = " ".join(words)
    shown = lines(text)
    for word in words:
        assert sum(word in line for line in shown) == 2, word
    assert field("  Desc:    ", shown) == text
    assert field("  * ", shown) == f'"text": "{text}"'


@pytest.mark.parametrize("columns", [24, 40, 80])
@pytest.mark.parametrize(
    "text", ["x" * 300, "a " * 200, "  b" + " " * 99 + "c  ", "日本" * 60 + " x", "a\nb c"]
)
def test_no_character_is_lost_between_the_lines(text: str, columns: int) -> None:
    shown = lines(text, columns=columns)
    assert field("  * " if "  * " in "\n".join(shown) else "  Params:  {", shown).rstrip("}") == (
        '"text": ' + json.dumps(text, ensure_ascii=False)
    )


def test_a_target_that_nobody_named_is_left_out() -> None:
    assert not [line for line in lines("x", target="default") if "Target" in line]
    assert "  Target:  default-account" in lines("x", target="default-account")


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "  Until:   12:00:00 UTC, in "),
        ("Asia/Kolkata", "  Until:   17:30:00 UTC+05:30, in "),
        ("America/New_York", "  Until:   08:00:00 UTC-04:00, in "),
    ],
)
def test_the_deadline_names_its_zone(zone: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp()
    try:
        assert [line for line in lines("x", deadline=noon) if line.startswith(shown)]
    finally:
        monkeypatch.undo()
        time.tzset()
