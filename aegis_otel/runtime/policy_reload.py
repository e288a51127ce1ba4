"""Hot reload of policy files: a change in them comes into force whole, or not at all.

`PolicyFiles` finds changes. `PolicyWatcher` polls it in an asyncio program, `PolicyWatchThread` in a program
without an event loop, or that forks.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from aegis_otel.errors import ConfigError, PolicyError, Problem
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.hooks import fire
from aegis_otel.policy import Policy
from aegis_otel.policy.rules import PolicyDocument
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.runtime.runtime import Runtime
from aegis_otel.telemetry.instruments import CANDIDATE, POLICY

OnReload = Callable[[Policy], Awaitable[None] | None]

_log = logging.getLogger("aegis_otel")
_SETTLE_S = 0.25
"""How long a change must stay as it is: longer than an editor, or a copy of several files, pauses."""
Fingerprint = tuple[str, ...]


class Change(NamedTuple):
    """The new content of the files, and the policy in it."""

    fingerprint: Fingerprint
    outcome: Policy | Exception
    """The policy, or why it is refused."""


class PolicyFiles:
    """The files of one policy, compared by content. The caller waits `pause` seconds before each `poll`.

    Args:
        path: The policy file, or several in their order of precedence (`Policy.from_yaml_files`).
        interval: Seconds within which a change that is complete is found.

    Raises:
        ConfigError: no file is given, or `interval` is not a time that can be waited for.
    """

    kind = POLICY

    def __init__(self, path: str | Path | Sequence[str | Path], interval: float) -> None:
        if not 0 < interval <= threading.TIMEOUT_MAX:
            most = f"{threading.TIMEOUT_MAX:.0f}"
            raise ConfigError(f"interval is `{interval}`: expected seconds above 0 and up to {most}")
        paths = [path] if isinstance(path, str | Path) else path
        if not paths:
            raise ConfigError("`path` names no policy file to watch")
        self.sources = tuple(str(each) for each in paths)
        self._places = [Path(each).absolute() for each in paths]  # the program may change its directory
        self._settle = min(_SETTLE_S, interval / 2)
        self._interval = interval
        self._seen: Fingerprint | None = None
        self._unsettled: Fingerprint | None = None
        self._is_refused = False

    def set_refused(self, is_refused: bool, runtime: Runtime) -> None:
        """Have the metric say whether the files are refused as they are now."""
        if is_refused is not self._is_refused:
            self._is_refused = is_refused
            runtime.recorder.add_refused(self.kind, 1 if is_refused else -1)

    def begin_in_child(self, runtime: Runtime) -> None:
        """Count anew in a forked process, whose counts begin at zero."""
        was_refused, self._is_refused = self._is_refused, False
        self.set_refused(was_refused, runtime)

    def in_force(self, runtime: Runtime) -> Policy:
        """Return the policy that a change replaces."""
        return runtime.policy

    def begin(self, in_force: Policy) -> None:
        """Take the content as known, unless the policy in force is made of these files and may be older."""
        foreign = {_key(source) for source in self.sources}.isdisjoint(map(_key, in_force.sources))
        self._seen = _fingerprint(self._read()) if foreign else None
        self._unsettled = None

    @property
    def pause(self) -> float:
        """Return the seconds to the next poll: the time for a change to settle is part of the interval."""
        return self._interval - self._settle if self._unsettled is None else self._settle

    def poll(self, in_force: Policy) -> Change | None:
        """Return a change that two polls found alike, so that no file is half-written; else None."""
        contents = self._read()
        fingerprint = _fingerprint(contents)
        settled = fingerprint == self._unsettled
        self._unsettled = None if settled or fingerprint == self._seen else fingerprint
        if not settled:
            return None
        try:
            outcome: Policy | Exception = self._load(contents, in_force)
        except Exception as error:
            outcome = error
        if self._seen is None and outcome == in_force:
            self._seen = fingerprint
            return None
        return Change(fingerprint, outcome)

    def take(self, change: Change, runtime: Runtime) -> Policy | None:
        """Put a change in force and return its policy; of one that is refused, log why and return None."""
        policy, names = change.outcome, ", ".join(self.sources)
        try:
            if isinstance(policy, Policy):
                runtime.recorder.policy_reloaded()  # first: what follows has metrics flushed
                runtime.update_policy(policy)
                self.set_refused(False, runtime)
                _log.info("policy `%s` is in force: %s", names, policy.digest)
                return policy
            reason = redact_text(str(policy)) if isinstance(policy, PolicyError) else traced(policy)
            _log.warning("policy `%s` was refused; the one in force stays:\n%s", names, reason)
            self.set_refused(True, runtime)
            runtime.recorder.policy_load_failed(self.sources, policy)
            runtime.policy_refused(self.sources, reason)
            return None
        finally:  # last, so that a process forked before this polls again
            self._seen = change.fingerprint

    def _read(self) -> list[bytes | PolicyError]:
        return [_read(place, source) for place, source in zip(self._places, self.sources, strict=True)]

    def _load(self, contents: list[bytes | PolicyError], in_force: Policy) -> Policy:
        from aegis_otel.policy.loading.loader import read_all  # noqa: PLC0415 - loads the parser

        parts = zip(contents, self.sources, strict=True)
        documents = read_all(partial(_parse, content, source) for content, source in parts)
        policy = Policy(_beside_the_rest(documents, in_force))
        _refuse_the_cut_short(documents, policy, in_force)
        return policy


class CandidateFiles(PolicyFiles):
    """The files of a candidate policy. One that is refused leaves the candidate before it in use."""

    kind = CANDIDATE

    def in_force(self, runtime: Runtime) -> Policy:
        """Return the candidate in use; where none could be loaded yet, a policy without rules."""
        return runtime.candidate or Policy(())

    def take(self, change: Change, runtime: Runtime) -> Policy | None:
        """Put a change in use and return its policy; of one that is refused, log why and return None."""
        policy = change.outcome
        try:
            if isinstance(policy, Policy):
                runtime.update_candidate(policy)
                self.set_refused(False, runtime)
                _log.info("candidate policy `%s` is in use: %s", ", ".join(self.sources), policy.digest)
                return policy
            self.refuse(policy, runtime)
            return None
        finally:
            self._seen = change.fingerprint

    def load(self, runtime: Runtime) -> None:
        """Load the candidate for the first time."""
        try:
            runtime.update_candidate(Policy.from_yaml_files(*self.sources))
        except Exception as error:
            self.refuse(error, runtime)

    def refuse(self, error: Exception, runtime: Runtime) -> None:
        """Log and count that the candidate cannot be loaded."""
        reason = redact_text(str(error)) if isinstance(error, PolicyError) else traced(error)
        _log.warning(
            "candidate policy `%s` was refused, which changes no verdict:\n%s",
            *(", ".join(self.sources), reason),
        )
        self.set_refused(True, runtime)
        runtime.recorder.candidate_failed()


def _beside_the_rest(documents: list[PolicyDocument], in_force: Policy) -> Sequence[PolicyDocument]:
    """Return the documents with those in force that are not watched, in their order of precedence."""
    fresh = {_key(document.source): document for document in documents}
    known = {_key(source) for source in in_force.sources}
    if known.isdisjoint(fresh) or known <= fresh.keys():
        return documents
    kept = [fresh.pop(_key(document.source), document) for document in in_force.documents]
    return [*kept, *fresh.values()]


def _refuse_the_cut_short(documents: list[PolicyDocument], policy: Policy, in_force: Policy) -> None:
    """Refuse a file that lost all its rules: it was cut short while it was saved, and would let more through.

    A file that never had any, such as one with `defaults` alone, may go on without.
    """
    had = {_key(document.source) for document in in_force.documents if document.rules}
    lost = [each for each in documents if not each.rules and _key(each.source) in had]
    if in_force.rules and not policy.rules:
        lost = documents
    message = "no `rules` are left in it: was it cut short? To drop all rules of a file, restart"
    if lost:
        raise PolicyError([Problem(message, document.source) for document in lost])


def _key(source: str) -> str:
    return os.path.abspath(source)


def _read(path: Path, source: str) -> bytes | PolicyError:
    from aegis_otel.policy.loading.loader import read_content  # noqa: PLC0415 - loads the parser

    try:
        return read_content(path, source)
    except PolicyError as error:
        return error


def _parse(content: bytes | PolicyError, source: str) -> PolicyDocument:
    from aegis_otel.policy.loading.loader import read_text  # noqa: PLC0415 - loads the parser

    if isinstance(content, PolicyError):
        raise content
    return read_text(content, source)


def _fingerprint(contents: list[bytes | PolicyError]) -> Fingerprint:
    return tuple(
        hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else str(content)
        for content in contents
    )


class _Watch:
    """What both ways to watch files share."""

    _kind = PolicyFiles

    def __init__(
        self,
        runtime: Runtime,
        path: str | Path | Sequence[str | Path],
        interval: float = 1.0,
        on_reload: OnReload | None = None,
    ) -> None:
        self._runtime = runtime
        self._files = self._kind(path, interval)
        self._on_reload = on_reload

    def _log_failure(self) -> None:
        _log.exception("watching `%s` failed; the policy in force stays", self._files.sources)


class PolicyWatcher(_Watch):
    """Watches policy files by their content and updates a Runtime when they change.

    The files are read together: when one of them is invalid, gone or has lost all its rules, the policy in
    force stays, the log says so once, and `aegis.policy.load_failed` is emitted. A change comes into force
    when it has settled, so that a half-written file does not. Where the policy in force has other parts than
    these files, those stay in force.

    Args:
        runtime: The Runtime to update.
        path: The policy file, or several in the order of `Policy.from_yaml_files`.
        interval: Seconds within which a change that is complete comes into force.
        on_reload: Called with each new policy once it is in force; sync or async.

    Raises:
        ConfigError: no file is given, or `interval` is not a time that can be waited for.
    """

    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start watching, unless it was started.

        Files changed since the policy in force was made of them are read, too; files that it was not made of
        are known as they are now.
        """
        if self._task is None:
            await asyncio.to_thread(self._files.begin, self._runtime.policy)
        if self._task is None:  # nor did another start make one in the meantime
            self._task = asyncio.create_task(self._watch(), name="aegis-policy-watcher")

    async def stop(self) -> None:
        """Stop watching, if it was started."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._files.set_refused(False, self._runtime)  # nobody knows any more

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._files.pause)
            try:
                change = await asyncio.to_thread(self._files.poll, self._files.in_force(self._runtime))
                policy = None if change is None else self._files.take(change, self._runtime)
                if policy is not None:
                    await fire(self._on_reload, self._runtime.recorder.hook_failed, policy)
            except Exception:
                self._log_failure()


_PATIENCE_S = 5.0
"""Seconds that `stop` waits for a poll under way, which a file system that hangs can hold for ever."""


class PolicyWatchThread(_Watch):
    """A `PolicyWatcher` on a daemon thread of its own; a forked process gets a thread of its own, too.

    It takes the same arguments, and starts nothing when it is made. `on_reload` is called on the thread; an
    async one runs on an event loop of its own.
    """

    _stop: threading.Event | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start watching as `PolicyWatcher.start` does, unless it was started.

        Raises:
            RuntimeError: the system gives no thread.
        """
        if self._thread is None:
            self._files.begin(self._files.in_force(self._runtime))
            self._launch()
            _running.add(self)
            atexit.register(self.stop)  # so that the interpreter does not end in the middle of a poll

    def stop(self) -> None:
        """Stop watching, if it was started; nothing changes once this has returned."""
        thread, self._thread = self._thread, None
        if self._stop is not None:
            self._stop.set()
        _running.discard(self)
        atexit.unregister(self.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_S)
        self._files.set_refused(False, self._runtime)  # nobody knows any more

    def _launch(self) -> None:
        stop = self._stop = threading.Event()  # its own, so that no start revives a thread that was stopped
        thread = threading.Thread(target=self._watch, args=(stop,), name="aegis-policy-watcher", daemon=True)
        thread.start()
        self._thread = thread

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self._files.pause):
            try:
                change = self._files.poll(self._files.in_force(self._runtime))
                if change is None or stop.is_set():
                    continue
                policy = self._files.take(change, self._runtime)
                if policy is not None and self._on_reload is not None:
                    asyncio.run(fire(self._on_reload, self._runtime.recorder.hook_failed, policy))
            except Exception:
                self._log_failure()


class CandidateWatchThread(PolicyWatchThread):
    """Loads the files of a candidate policy when it is started, and watches them."""

    _kind = CandidateFiles
    _files: CandidateFiles

    def start(self) -> None:
        """Load the candidate, and start watching; one that is refused is looked for again when it changes."""
        self._files.load(self._runtime)
        super().start()


_running: set[PolicyWatchThread] = set()


def _launch_in_child() -> None:
    """Start the threads anew in the child of a fork, which has none of them."""
    for watch in list(_running):
        watch._files.begin_in_child(watch._runtime)
        try:
            watch._launch()
        except RuntimeError:
            _log.exception("`%s` are not watched in this process", watch._files.sources)


os.register_at_fork(after_in_child=_launch_in_child)
