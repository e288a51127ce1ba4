"""Messages about questions to a web service: one when a question waits for people, one when it has ended.

They follow the Standard Webhooks specification, as the questions of `runtime/approval/webhook.py` do: signed
with a secret, and sent again until the service takes them. A message has the same `webhook-id` whenever it is
sent, also by another process and after a restart, so that a service can pass over what it has had.

Nothing waits for the service, and messages have threads of their own, so the page goes on whatever fails.
A message that is due is made of what the inbox says then. So one that waits takes up the memory of an id, and
no message is sent for a question that has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from aegis_otel.cli.approvals.inbox_follower import InboxFollower
from aegis_otel.cli.approvals.wording import UNKNOWN
from aegis_otel.errors import ConfigError, StateError
from aegis_otel.governance.approvals.inbox import Answer, Inbox, QuestionState, QuestionStatus
from aegis_otel.governance.approvals.inbox_proofs import proven_status
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.recording import timestamp
from aegis_otel.runtime.approval.webhook import ID, SIGNATURE, TIMESTAMP, Signer, checked_url, message_of

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger("aegis_otel")
_POLL_S = 0.5
"""Seconds between two looks for what has changed."""
_AT_ONCE = 8
"""Messages that are under way at once."""
_MOST_OPEN = 10_000
"""Messages that wait to be sent, or sent again. What comes beyond that is sent later, if it waits then."""
_THREADS = 2
"""Threads that read the inbox, so that the page and its own threads wait for none of it."""
_TIMEOUT_S = 15.0
"""Seconds that the service may take for a message."""
_END_S = 5.0
"""Seconds that the end of the page waits for messages that are under way."""
_LONGEST_PAUSE_S = 300.0
"""Seconds between two tries of a message, at most."""
_GIVE_UP_S = 86_400.0
"""Seconds after which a message is no longer tried: a day."""
_LARGEST_PARAMS = 100_000
"""Bytes of arguments that a message has; larger ones are on the page only."""

Kind = Literal["approval.waiting", "approval.ended"]


class _Message(NamedTuple):
    """A message that is to be sent."""

    kind: Kind
    decision_id: str
    digest: str
    since: float
    """When it was first due, by the monotonic clock."""
    tries: int = 0


class Notifier:
    """Sends messages for as long as `run` runs.

    Redirects are not followed, and the proxies of the environment are not used. Certificates are checked
    against the system's, or `SSL_CERT_FILE`.

    Args:
        inbox: Where the questions are.
        answers: Returns the proven answers to a question.
        url: Where messages go: https, or http on this machine.
        secret: Shared with the service (`whsec_...`): messages are signed with it.
        origin: Where people open the page, as in `https://approvals.example.com`.

    Raises:
        ConfigError: one of them is unusable.
    """

    def __init__(
        self,
        inbox: Inbox,
        answers: Callable[[QuestionState], Iterable[Answer]],
        url: str,
        secret: str,
        origin: str,
    ) -> None:
        try:
            self._url = checked_url(url, signed=True, instead="let the service check the signature")
        except ConfigError as error:
            raise ConfigError(f"nobody can be notified by --notify-url: {error}") from None
        try:
            self._signer = Signer(secret)
        except ConfigError as error:
            raise ConfigError(f"the secret of the notifications: {error}") from None
        self._inbox = inbox
        self._follower = InboxFollower(inbox)
        self._answers = answers
        self._origin = origin
        self._tls = httpx2.create_ssl_context()  # takes 30 ms: not on the event loop
        self._threads = ThreadPoolExecutor(_THREADS, "aegis-notifications")
        self._due: asyncio.Queue[_Message] = asyncio.Queue()
        self._open = 0
        self._announced: dict[str, str] = {}
        """The digest of each question whose end was not told yet."""
        self._ended: dict[str, str] = {}
        """The digest of each one whose end was told when it was approved, and which is not used yet."""
        self._is_failing = False
        self._has_dropped = False

    async def run(self) -> None:
        """Send what there is to say, until this is cancelled."""
        try:
            await self._run()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        async with (
            httpx2.AsyncClient(verify=self._tls, trust_env=False, timeout=_TIMEOUT_S) as client,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._watch())
            for _ in range(_AT_ONCE):
                group.create_task(self._send_all(client))

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    # --- what there is to say ---

    async def _watch(self) -> None:
        """Find what has changed, and end questions whose time is over, which is a change as well."""
        is_reached, has_failed = True, False
        while True:
            try:
                if self._has_dropped and self._open <= _MOST_OPEN // 2:
                    self._has_dropped = False
                    self._follower.start_again()
                parts = self._follower.poll()
                while states := await self._in_thread(next, parts, ()):
                    for state in states:
                        self._notice(state)
                is_reached, has_failed = True, False
            except StateError as error:
                if is_reached:
                    _log.warning("no notifications for now: the inbox cannot be read: %s", error)
                is_reached = False
            except Exception as error:  # of what somebody has written into the inbox
                if not has_failed:
                    _log.error("no notifications for now: %s", traced(error))
                has_failed = True
            await asyncio.sleep(_POLL_S)

    def _notice(self, state: QuestionState) -> None:
        """Have a message sent if a question is new, or has ended: not for each answer to it."""
        decision_id, digest = state.question.decision_id, state.digest
        if state.status is QuestionStatus.WAITING:
            message = _Message("approval.waiting", decision_id, digest, time.monotonic())
            if self._announced.get(decision_id) != digest and self._add(message):
                self._announced[decision_id] = digest
            return
        self._announced.pop(decision_id, None)
        was_told = self._ended.pop(decision_id, None) == digest
        if not state.status.is_over:
            self._ended[decision_id] = digest
        if not was_told:
            self._add(_Message("approval.ended", decision_id, digest, time.monotonic()))

    # --- sending ---

    def _add(self, message: _Message) -> bool:
        """Have a message sent; return False where there is no room for it."""
        if self._open >= _MOST_OPEN:
            if not self._has_dropped:
                _log.warning("%d notifications wait to be sent: more are not sent for now", _MOST_OPEN)
            self._has_dropped = True
            return False
        self._open += 1
        self._due.put_nowait(message)
        return True

    async def _send_all(self, client: httpx2.AsyncClient) -> None:
        while True:
            message = await self._due.get()
            pause = await self._send(client, message)
            if pause is None:
                self._open -= 1
            else:
                again = message._replace(tries=message.tries + 1)
                asyncio.get_running_loop().call_later(pause, self._due.put_nowait, again)

    async def _send(self, client: httpx2.AsyncClient, message: _Message) -> float | None:
        """Send a message; return in how many seconds to try again, None where it is done with."""
        try:
            body = await self._in_thread(self._body, message)
        except StateError:
            return _pause(message.tries)
        except Exception as error:  # of what somebody has written into the inbox
            _log.warning("no notification of %s: %s", message.decision_id, type(error).__name__)
            return None
        if body is None:
            return None
        headers = {
            ID: message_id(message),
            TIMESTAMP: str(int(time.time())),
            "content-type": "application/json",
        }
        headers[SIGNATURE] = self._signer.sign(headers[ID], headers[TIMESTAMP], body)
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),  # the client's own limit begins anew with each byte
                client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                why = None if response.is_success else f"it answered with status {response.status_code}"
        except TimeoutError:
            why = f"it took longer than {_TIMEOUT_S:g} s"
        except httpx2.HTTPError as error:
            why = f"it could not be reached ({type(error).__name__})"
        if why is None:
            if self._is_failing:
                _log.warning("the service for notifications takes messages again")
            self._is_failing = False
            return None
        if not self._is_failing:
            _log.warning("the service for notifications failed, and is asked again: %s", why)
        self._is_failing = True
        if time.monotonic() > message.since + _GIVE_UP_S:
            _log.warning(
                "a notification was given up after a day: %s of %s", message.kind, message.decision_id
            )
            return None
        return _pause(message.tries)

    def _body(self, message: _Message) -> bytes | None:
        """Return a message as it is sent; None where it says what is no longer so."""
        state = self._inbox.look([message.decision_id]).get(message.decision_id)
        if state is None or state.digest != message.digest:
            return None
        if (message.kind == "approval.waiting") is not (state.status is QuestionStatus.WAITING):
            return None
        shared, answers = state.question, tuple(self._answers(state))
        question = message_of(shared.question)
        question["approvers"] = None if shared.approvers is None else shared.approvers.as_written
        if not isinstance(json.loads(shared.question.action_params), dict):
            raise ValueError("the arguments are no object")
        if len(shared.question.action_params.encode(errors="replace")) > _LARGEST_PARAMS:
            question["action_params"] = None
        data: dict[str, Any] = {
            "decision_id": shared.decision_id,
            "question_digest": state.digest,
            "status": _status(state, answers),
            "url": f"{self._origin}/questions/{quote(shared.decision_id, safe='')}",
            "asked_at": timestamp(shared.asked_ns),
            "expires_at": None if shared.expires_ns is None else timestamp(shared.expires_ns),
            "question": question,
        }
        if message.kind == "approval.ended":
            data["answers"] = [
                {"approved": each.approved, "approver": each.approver, "reason": each.reason}
                for each in answers
            ]
        ended = state.ended_ns or state.read_ns
        at = timestamp(shared.asked_ns if message.kind == "approval.waiting" else ended)
        return msgspec.json.encode({"type": message.kind, "timestamp": at, "data": data})


@contextmanager
def notifying(notifier: Notifier) -> Iterator[None]:
    """Send messages while this lasts, on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(notifier.run())

    def run() -> None:
        try:
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        except Exception as error:
            _log.error("no notifications are sent any more: %s", traced(error))
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="aegis-notifications", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it has ended before
            loop.call_soon_threadsafe(task.cancel)
        thread.join(_END_S)


def _status(state: QuestionState, answers: Collection[Answer]) -> str:
    """Return what people have said: whether the agent has gone on by then is chance."""
    status = proven_status(state, answers)
    return (QuestionStatus.APPROVED if status is QuestionStatus.USED else status) or UNKNOWN


def message_id(message: _Message) -> str:
    """Return the `webhook-id`, which is the same whoever sends the message, and however often."""
    said = json.dumps([message.kind, message.decision_id, message.digest])
    return f"msg_{hashlib.sha256(said.encode()).hexdigest()[:32]}"


def _pause(tries: int) -> float:
    """Return the seconds before the next try: longer each time, and not alike for all messages."""
    return min(_LONGEST_PAUSE_S, 2.0**tries) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
