"""Ask at the terminal."""

from __future__ import annotations

import getpass
import os
import select
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import TextIO

from aegis_otel.governance.question import NobodyToAsk, Question, current_question
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler
from aegis_otel.runtime.approval.handler_threads import in_turn
from aegis_otel.runtime.approval.screen import Screen, Sheet, refused, sheet
from aegis_otel.runtime.threads import Threads

_terminal = Threads("aegis-approval", 1)  # there is one keyboard
_NO_TURN = "it was never shown, because the terminal asks one at a time"
_POLL_S = 0.1
_USUAL_COLUMNS = 80


class CLIApprovalHandler(ApprovalHandler):
    """Asks at the terminal, one question at a time, in one thread for all, so that the event loop stays free.

    A question that cannot be shown whole is denied; the terminal and the row say why.
    """

    channel = "cli"

    def __init__(self, *, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        """Ask on `stdin` and `stdout`; the process's own by default."""
        self._stdin, self._stdout = stdin, stdout
        self.approver = None
        with suppress(KeyError, OSError, ImportError):
            self.approver = getpass.getuser()

    async def request_approval(self, decision: PolicyDecision) -> bool:
        gone = threading.Event()
        question, deadline = None, None
        with suppress(LookupError):  # a program may call the handler itself
            question = current_question()
            deadline = time.time() + question.timeout
        try:
            return await in_turn(
                _terminal, lambda: self._prompt(decision, question, deadline, gone), _NO_TURN
            )
        finally:
            gone.set()

    def _prompt(
        self,
        decision: PolicyDecision,
        question: Question | None,
        deadline: float | None,
        gone: threading.Event,
    ) -> bool:
        stdin, out = self._stdin or sys.stdin, self._stdout or sys.stdout
        screen, asked = _screen(stdin, out), sheet(decision, question, deadline)
        try:
            _show(out, asked.lines(screen))
            _forget_what_was_typed(stdin)
            return self._answer(asked, screen, stdin, out, gone)
        except NobodyToAsk as error:
            _show(out, refused(asked, str(error), screen))
            raise

    def _answer(
        self, asked: Sheet, screen: Screen, stdin: TextIO, out: TextIO, gone: threading.Event
    ) -> bool:
        while True:
            out.write("  Approve? [y/n]: ")
            out.flush()
            line = _read_line(stdin, gone)
            if line is None:
                out.write("\n  No longer waiting for an answer.\n")
                return False
            if line == "":
                out.write("\n  No input available: denying.\n")
                return False
            answer = line.strip().lower()
            if answer in ("n", "no"):
                return False
            now = _screen(stdin, out)
            if now.columns < screen.columns:  # a narrower window has broken our lines anew
                screen = now
                _show(out, asked.lines(screen))
            elif answer in ("y", "yes"):
                return True
            else:
                out.write("  Please enter 'y' or 'n'.\n")


def _screen(stdin: TextIO, out: TextIO) -> Screen:
    """Return the size of the terminal, or a usual one where none is known."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    for stream in (out, stdin):
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns > 0:
                return Screen(columns, rows, encoding)
    return Screen(_USUAL_COLUMNS, 0, encoding)


def _show(out: TextIO, lines: list[str]) -> None:
    out.write("\n" + "\n".join(lines) + "\n")
    out.flush()


def _forget_what_was_typed(stdin: TextIO) -> None:
    """Discard what was typed before the question was shown: it does not answer it."""
    # Where it is no terminal, a program wrote the answers, for these questions in this order.
    with suppress(termios.error, OSError, ValueError, AttributeError):
        termios.tcflush(stdin.fileno(), termios.TCIFLUSH)


def _read_line(stdin: TextIO, gone: threading.Event) -> str | None:
    """Return one line; an empty string at the end of input; None once nobody waits for it any more."""
    try:
        descriptor = stdin.fileno()
    except (OSError, ValueError, AttributeError):
        return stdin.readline()  # no file behind it, so nothing to wait for
    buffered = b""
    while not gone.is_set():
        if select.select([descriptor], [], [], _POLL_S)[0]:
            # One byte at a time: what follows the newline belongs to whoever reads next.
            byte = os.read(descriptor, 1)
            if byte in (b"", b"\n"):
                return buffered.decode(errors="replace") + byte.decode()
            buffered += byte
    return None
