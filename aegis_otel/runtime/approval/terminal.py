"""Ask at the terminal."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from contextlib import suppress
from typing import TextIO

from aegis_otel.governance.approvals.question import NobodyToAsk, Question, current_question
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler
from aegis_otel.runtime.approval.handler_threads import in_turn
from aegis_otel.runtime.approval.local_user import local_user_name
from aegis_otel.runtime.approval.screen import (
    QuestionLayout,
    Screen,
    forget_what_was_typed,
    question_layout,
    refused,
    screen_of,
)
from aegis_otel.runtime.threads import Threads

_terminal = Threads("aegis-approval", 1)  # there is one keyboard
_NO_TURN = "it was never shown, because the terminal asks one at a time"
_POLL_S = 0.1


class CLIApprovalHandler(ApprovalHandler):
    """Asks at the terminal, one question at a time, in one thread for all, so that the event loop stays free.

    A question that cannot be shown whole is denied; the terminal and the row say why.
    """

    channel = "cli"
    asks_one_person = True

    def __init__(self, *, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        """Ask on `stdin` and `stdout`; the process's own by default."""
        self._stdin, self._stdout = stdin, stdout
        self.approver = local_user_name()

    async def request_approval(self, decision: PolicyDecision) -> bool:
        prompt = _Prompt()
        question, deadline = None, None
        with suppress(LookupError):  # a program may call the handler itself
            question = current_question()
            deadline = time.time() + question.timeout
        try:
            return await in_turn(
                _terminal, lambda: self._prompt(decision, question, deadline, prompt), _NO_TURN
            )
        finally:
            prompt.end()

    def _prompt(
        self,
        decision: PolicyDecision,
        question: Question | None,
        deadline: float | None,
        prompt: _Prompt,
    ) -> bool:
        stdin, out = self._stdin or sys.stdin, self._stdout or sys.stdout
        screen, asked = screen_of(stdin, out), question_layout(decision, question, deadline)
        try:
            _show(out, asked.lines(screen))
            forget_what_was_typed(stdin)
            return self._answer(asked, screen, stdin, out, prompt)
        except NobodyToAsk as error:
            _show(out, refused(asked, str(error), screen))
            raise

    def _answer(
        self, asked: QuestionLayout, screen: Screen, stdin: TextIO, out: TextIO, prompt: _Prompt
    ) -> bool:
        while True:
            prompt.show(out)
            line = _read_line(stdin, prompt.is_over)
            if line is None:
                prompt.end()
                return False
            prompt.answered()
            if line == "":
                out.write("\n  No input available: denying.\n")
                return False
            answer = line.strip().lower()
            if answer in ("n", "no"):
                return False
            now = screen_of(stdin, out)
            if now.columns < screen.columns:  # a narrower window has broken our lines anew
                screen = now
                _show(out, asked.lines(screen))
            elif answer in ("y", "yes"):
                return True
            else:
                out.write("  Please enter 'y' or 'n'.\n")


class _Prompt:
    """The line behind which the answer is typed.

    Where nobody waits for it any more, whoever notices first ends the line: what the program writes next
    would stand behind the prompt.
    """

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._lock = threading.Lock()
        self._shown_on: TextIO | None = None

    def show(self, out: TextIO) -> None:
        with self._lock:
            out.write("  Approve? [y/n]: ")
            out.flush()
            self._shown_on = out

    def answered(self) -> None:
        with self._lock:
            self._shown_on = None

    def end(self) -> None:
        """Wait no longer. A thread that is just showing the prompt ends it itself."""
        self.is_over.set()
        if not self._lock.acquire(blocking=False):  # the event loop waits for no terminal
            return
        try:
            out, self._shown_on = self._shown_on, None
            if out is not None:
                with suppress(OSError, ValueError):  # closed meanwhile
                    out.write("\n  No longer waiting for an answer.\n")
                    out.flush()
        finally:
            self._lock.release()


def _show(out: TextIO, lines: list[str]) -> None:
    out.write("\n" + "\n".join(lines) + "\n")
    out.flush()


def _read_line(stdin: TextIO, is_over: threading.Event) -> str | None:
    """Return one line; an empty string at the end of input; None once nobody waits for it any more."""
    try:
        descriptor = stdin.fileno()
    except (OSError, ValueError, AttributeError):
        return stdin.readline()  # no file behind it, so nothing to wait for
    buffered = b""
    while not is_over.is_set():
        if select.select([descriptor], [], [], _POLL_S)[0]:
            # One byte at a time: what follows the newline belongs to whoever reads next.
            byte = os.read(descriptor, 1)
            if byte in (b"", b"\n"):
                return buffered.decode(errors="replace") + byte.decode()
            buffered += byte
    return None
