"""Who an agent acts for: said by the program around a run, or read from the SDK's run context.

`acting_for` keeps the subject in a context variable. So it follows whatever runs in the context: handoffs,
nested agents, tasks, and threads that are given the context. A stream that begins inside goes on with it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, Self

from aegis_otel.errors import ConfigError
from aegis_otel.governance.error_text import describe
from aegis_otel.model import Action, Subject

ReadSubject = Callable[[Any], object]
"""Gets the SDK's context of a run; returns a Subject, a mapping of its fields, or None."""

_log = logging.getLogger("aegis_otel")


class _Entered(NamedTuple):
    """One `acting_for` that a context is inside of."""

    by: ActingFor
    subject: Subject
    outer: _Entered | None


# All of the stack is in the context: other tasks may enter the same object meanwhile, and leave it first.
_innermost: ContextVar[_Entered | None] = ContextVar("aegis_otel_subject", default=None)


def acting_for(
    *, user: str | None = None, tenant: str | None = None, roles: Iterable[str] | None = None
) -> ActingFor:
    """Say for whom the agents act that run inside of this:

        with acting_for(user="alice", tenant="acme", roles=["clerk"]):
            await Runner.run(agent, "Refund order 4711")

    What is not given is not known, also where it stands in an `acting_for` around this one. A rule that asks
    for it then counts as a match where it is the stricter one.

    Args:
        user: The id of the user, as your program has authenticated it.
        tenant: The id of the tenant, customer or organization.
        roles: The user's roles; an empty list is a user without any.

    Raises:
        TypeError, ValueError: as for `Subject`.
    """
    given: Any = roles
    return ActingFor(Subject(user, tenant, given))


class ActingFor:
    """The context of `acting_for`. It can be entered again, also by other tasks and threads meanwhile.

    It is no decorator: a coroutine outlives it.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __enter__(self) -> Self:
        _innermost.set(_Entered(self, self.subject, _innermost.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = _innermost.get()
        while entered is not None:
            if entered.by is self:  # what was entered inside and not left, as by a generator, goes with it
                _innermost.set(entered.outer)
                return
            entered = entered.outer
        # A generator may be closed in another context, whose subject is not ours to change.


class SubjectSource:
    """Finds whom a call is made for.

    Args:
        read: Reads it from the context of a run; None where only `acting_for` says it.

    Raises:
        ConfigError: `read` is not a function, or is a coroutine function.
    """

    def __init__(self, read: ReadSubject | None = None) -> None:
        if read is not None and not callable(read):
            raise ConfigError(
                f"`subject` is a `{type(read).__name__}`: pass a function that gets the context of a run, "
                "or use `acting_for`"
            )
        if inspect.iscoroutinefunction(read):
            raise ConfigError("`subject` must be a plain function: it is asked on every call")
        self._read = read
        self._warned: set[str] = set()

    def find(self, context: object | None, stated: Subject | None = None) -> Subject | None:
        """Return whom a call is made for; None where it is not known.

        Where several say it and disagree, it is not known: an inherited context variable may be that of
        another request.

        Args:
            context: The SDK's context of the run, where there is one.
            stated: Whom the action itself names.
        """
        entered = _innermost.get()
        current = None if entered is None else entered.subject
        if self._read is None or context is None:
            return current if stated is None else self._agreed(stated, current)
        try:
            read = self._read(context)
            # Asked for each call, and an abstract class is slow to ask.
            asked = Subject(**read) if type(read) is not Subject and isinstance(read, Mapping) else read
        except Exception as error:
            self._warn("`subject` raised, or returned what is no subject", describe(error))
            return None
        if asked is None:
            return current if stated is None else self._agreed(stated, current)
        if type(asked) is not Subject:
            if inspect.iscoroutine(read):
                read.close()
            returned = f"a `{type(read).__name__}`: expected a Subject, a mapping of its fields or None"
            self._warn("`subject` returned something else than a subject", returned)
            return None
        return asked if current is None and stated is None else self._agreed(asked, stated, current)

    def find_in_run(self, context: object | None) -> Subject | None:
        """Return whom a call of a run is made for, as `find` does.

        It is not known where `subject` reads it and the context cannot be reached: `acting_for` alone may be
        that of another request.

        Args:
            context: The SDK's context of the run; None where the call is made without it.
        """
        if context is None and self._read is not None:
            self._warn("a call does not get the context of its run", "a computer, without `instrument()`")
            return None
        return self.find(context)

    def _agreed(self, *said: Subject | None) -> Subject | None:
        known = {each for each in said if each is not None}
        if len(known) <= 1:
            return known.pop() if known else None
        self._warn("several say it and disagree", "`acting_for`, `subject` or the action")
        return None

    def stamp(self, action: Action) -> Action:
        """Return the action with whom it is done for, where no run of the SDK says it."""
        subject = self.find(None, action.subject)
        return action if subject == action.subject else action.for_subject(subject)

    def _warn(self, why: str, detail: str) -> None:
        if why not in self._warned:
            _log.warning(
                "whom calls are made for is not known, and rules that ask for it are strict: %s (%s); "
                "this is said once",
                *(why, detail),
            )
        self._warned.add(why)
