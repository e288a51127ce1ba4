"""Asks at the terminal."""

from __future__ import annotations

import getpass
import json
import os
import select
import sys
import termios
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from aegis_otel.encoding import to_plain
from aegis_otel.model import PolicyDecision
from aegis_otel.redaction import redact, redact_text
from aegis_otel.runtime.approval.handler import ApprovalHandler, NoTerminal
from aegis_otel.runtime.approval.thread import in_thread
from aegis_otel.terminal import escape

_MAX_PARAM = 500
_MAX_PARAMS = 40
_POLL_S = 0.1


class CLIApprovalHandler(ApprovalHandler):
    """Asks at the terminal, one question at a time, in a thread, so that the event loop stays free."""

    channel = "cli"

    _one_at_a_time = threading.Lock()

    def __init__(self, *, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        """Ask on `stdin` and `stdout`; the process's own by default."""
        self._stdin, self._stdout = stdin, stdout
        self.approver = _user()

    async def request_approval(self, decision: PolicyDecision) -> bool:
        gone = threading.Event()
        try:
            return await in_thread(lambda: self._in_turn(decision, gone))
        finally:
            gone.set()

    def _in_turn(self, decision: PolicyDecision, gone: threading.Event) -> bool:
        # Waits in short steps, so that a question nobody waits for any more is never asked.
        while not self._one_at_a_time.acquire(timeout=_POLL_S):
            if gone.is_set():
                return False
        try:
            return self._prompt(decision, gone)
        finally:
            self._one_at_a_time.release()

    def _prompt(self, decision: PolicyDecision, gone: threading.Event) -> bool:
        stdin, out = self._stdin or sys.stdin, self._stdout or sys.stdout
        out.write(_question(decision))
        out.flush()
        _forget_what_was_typed(stdin)
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
            if answer in ("y", "yes"):
                return True
            if answer in ("n", "no"):
                return False
            out.write("  Please enter 'y' or 'n'.\n")


def default_handler() -> ApprovalHandler:
    """The terminal if there is one."""
    try:
        interactive = sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        interactive = False
    return CLIApprovalHandler() if interactive else NoTerminal()


def _question(decision: PolicyDecision) -> str:
    action = decision.action
    rows = [
        ("Action", action.type),
        ("Target", action.target),
        ("Agent", action.agent),
        ("Risk", decision.risk_level.name),
        ("Rule", decision.matched_rule),
        ("Reason", decision.reason),
        ("Params", _shown(action.params)),
        ("Desc", action.description),
    ]
    bar = "=" * 60
    lines = [f"  {label + ':':<8} {escape(redact_text(str(value)))}" for label, value in rows if value]
    return "\n".join(["", bar, "  APPROVAL REQUIRED", bar, *lines, bar, ""])


def _shown(params: Mapping[str, Any]) -> str | None:
    """The redacted arguments as JSON, each cut for itself: a long one must not hide the others."""
    plain = redact(to_plain(params))
    if not params or not isinstance(plain, dict):
        return None
    parts = []
    for name, value in list(plain.items())[:_MAX_PARAMS]:
        text = json.dumps(value, ensure_ascii=False)
        if len(text) > _MAX_PARAM:
            text = f"{text[:_MAX_PARAM]}... ({len(text)} characters)"
        parts.append(f"{json.dumps(name[:_MAX_PARAM], ensure_ascii=False)}: {text}")
    if len(plain) > _MAX_PARAMS:
        parts.append(f"... and {len(plain) - _MAX_PARAMS} more")
    return "{" + ", ".join(parts) + "}"


def _forget_what_was_typed(stdin: TextIO) -> None:
    """What was typed before the question was shown is no answer to it."""
    # Where it is no terminal, a program wrote the answers, for these questions in this order.
    with suppress(termios.error, OSError, ValueError, AttributeError):
        termios.tcflush(stdin.fileno(), termios.TCIFLUSH)


def _read_line(stdin: TextIO, gone: threading.Event) -> str | None:
    """One line; an empty string at the end of input; None once nobody waits for it any more."""
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


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None
