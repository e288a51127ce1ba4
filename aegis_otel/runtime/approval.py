"""Who is asked when a rule says `approve`.

A handler answers True or False; anything else, an exception or silence is a denial. The governor holds
the time limit, so a handler need not.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import select
import sys
import termios
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from aegis_otel.encoding import to_plain
from aegis_otel.model import PolicyDecision
from aegis_otel.redaction import redact, redact_text
from aegis_otel.runtime.question import NobodyToAsk
from aegis_otel.terminal import escape

_MAX_PARAM = 500
_MAX_PARAMS = 40
_POLL_S = 0.1


class ApprovalHandler(ABC):
    """Base of all approval handlers: subclass it and implement `request_approval`."""

    channel: str = "custom"
    """Where the human is asked, as signals name it; low cardinality."""
    approver: str | None = None
    """Who answers, where the handler knows; goes to the audit row only."""

    @abstractmethod
    async def request_approval(self, decision: PolicyDecision) -> bool:
        """Ask about one decision.

        Returns:
            True to let the action run, False to deny it. Any other value counts as no answer.
        """


class AutoApprovalHandler(ApprovalHandler):
    """Approves everything. For demos and tests only."""

    channel = "auto"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return True


class DenyApprovalHandler(ApprovalHandler):
    """Denies everything."""

    channel = "deny"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        return False


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
        answer = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def ask() -> None:
            # Released with a short poll, so that a question nobody waits for any more is never asked.
            while not self._one_at_a_time.acquire(timeout=_POLL_S):
                if gone.is_set():
                    return
            try:
                given = self._prompt(decision, gone)
            except Exception as error:
                _deliver(loop, answer, error)
            else:
                _deliver(loop, answer, given)
            finally:
                self._one_at_a_time.release()

        # Not asyncio.to_thread: its pool would be used up by prompts that wait, and holds up exit.
        threading.Thread(target=ask, name="aegis-approval", daemon=True).start()
        try:
            return bool(await answer)
        finally:
            gone.set()

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


class NoTerminal(ApprovalHandler):
    """What a process without a terminal gets when it names no handler: every such call is denied."""

    channel = "none"

    async def request_approval(self, decision: PolicyDecision) -> bool:  # noqa: ARG002
        raise NobodyToAsk("no terminal to ask at; pass `approval_handler=` to Runtime(...)")


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


def _deliver(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[bool], given: bool | Exception) -> None:
    def settle() -> None:
        if not answer.done():
            if isinstance(given, Exception):
                answer.set_exception(given)
            else:
                answer.set_result(given)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None
