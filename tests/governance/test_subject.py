"""Whom a call is made for: what `acting_for`, `subject` and an action say, and what is made of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from enum import Enum
from functools import partial
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Runtime, Subject, acting_for
from aegis_otel.governance.subject import SubjectSource
from aegis_otel.model import Result, ResultStatus
from aegis_otel.runtime.plan import BaseExecutor
from tests.support.kit import Bench

ALICE = Subject("alice", "acme", ("clerk",))
ALLOW = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}}


class Role(str, Enum):  # noqa: UP042 - what programs have
    ADMIN = "admin"


def _called(read: Callable[[object], object], context: object) -> object:
    return read(context)


def current() -> Subject | None:
    return SubjectSource().find(None)


def test_what_is_not_given_is_not_known() -> None:
    assert Subject() == Subject(None, None, None)
    assert Subject(roles=()) != Subject()
    assert Subject(roles=["b", Role.ADMIN, "b"]).roles == ("admin", "b")  # type: ignore[arg-type]
    assert type(Subject(user=Role.ADMIN).user) is str


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"user": 42}, "`user` of a subject has a `int`: pass text"),
        ({"tenant": b"acme"}, "`tenant` of a subject has a `bytes`"),
        ({"roles": "admin"}, "`roles` of a subject is a `str`: pass a list of texts"),
        ({"roles": {"admin": True}}, "`roles` of a subject is a `dict`"),
        ({"roles": ["admin", None]}, "`roles` of a subject has a `NoneType`"),
        ({"user": ""}, "`user` of a subject has an empty text: pass None"),
        ({"roles": [""]}, "`roles` of a subject has an empty text"),
    ],
)
def test_what_is_no_subject_is_refused_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        acting_for(**given)


def test_an_action_takes_a_subject_only() -> None:
    with pytest.raises(TypeError, match="subject of an Action must be a Subject, not `str`"):
        Action("x", subject="alice")  # type: ignore[arg-type]


def test_an_inner_subject_replaces_the_outer_one_as_a_whole() -> None:
    outer = acting_for(user="alice", tenant="acme", roles=["clerk"])
    with outer:
        assert current() == ALICE
        with acting_for(tenant="other"):
            assert current() == Subject(tenant="other")
            with outer:  # it can be entered again
                assert current() == ALICE
        assert current() == ALICE
    assert current() is None


async def test_tasks_and_threads_that_begin_inside_keep_the_subject() -> None:
    async def later() -> Subject | None:
        await asyncio.sleep(0)
        return current()

    with acting_for(user="alice", tenant="acme", roles=["clerk"]):
        task = asyncio.create_task(later())
        thread = asyncio.create_task(asyncio.to_thread(current))
    assert await task == await thread == ALICE
    assert current() is None


async def test_a_generator_that_is_closed_in_another_context_raises_nothing() -> None:
    async def dependency() -> AsyncIterator[None]:
        with acting_for(user="alice"):
            yield

    generator = dependency()
    await generator.__anext__()
    await contextvars.Context().run(asyncio.get_running_loop().create_task, generator.aclose())  # type: ignore[arg-type]


async def test_one_object_that_tasks_enter_at_once_leaves_no_subject_behind() -> None:
    admin = acting_for(user="admin")

    async def worker(inside_s: float) -> tuple[Subject | None, Subject | None]:
        with admin:
            await asyncio.sleep(inside_s)
            inside = current()
        return inside, current()

    found = await asyncio.gather(worker(0.01), worker(0.03), worker(0.02))
    assert found == [(Subject("admin"), None)] * 3


async def test_a_generator_that_is_left_open_ends_with_the_with_around_it() -> None:
    async def words() -> AsyncIterator[str]:
        with acting_for(user="bob"):
            yield "one"

    generator = words()
    with acting_for(user="alice", tenant="acme", roles=["clerk"]):
        await anext(generator)
        assert current() == Subject("bob")  # as docs/subjects.md says
    assert current() is None
    with acting_for(user="carol"):
        await generator.aclose()  # type: ignore[attr-defined]
        assert current() == Subject("carol")


async def test_a_generator_that_a_task_closes_leaves_the_subject_around_it() -> None:
    shared = acting_for(user="bob")

    async def words() -> AsyncIterator[str]:
        with shared:
            yield "one"

    generator = words()

    async def close() -> Subject | None:
        await generator.aclose()  # type: ignore[attr-defined]
        return current()

    with acting_for(user="carol"):
        await anext(generator)
        assert await asyncio.create_task(close()) == Subject("carol")


class Kept(Subject, frozen=True):
    """What passes for a Subject, and may compare as it likes."""


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (ALICE, ALICE),
        ({"user": "alice", "tenant": "acme", "roles": ["clerk"]}, ALICE),
        ({"user": "alice"}, Subject("alice")),
        (None, None),
        ("alice", None),
        (("alice", "acme"), None),
        ({"user": "alice", "team": "x"}, None),
        ({"user": 7}, None),
        ({"user": "alice", "roles": "admin"}, None),
        (Kept("alice"), None),
    ],
)
def test_what_the_function_returns(returned: object, found: Subject | None) -> None:
    assert SubjectSource(lambda _context: returned).find("context") == found


def test_a_function_that_fails_makes_the_subject_unknown_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = SubjectSource(lambda context: context.user)
    with caplog.at_level(logging.WARNING, "aegis_otel"), acting_for(user="alice"):
        assert [source.find(object()) for _ in range(3)] == [None, None, None]
    (record,) = caplog.records
    assert "AttributeError" in record.getMessage()
    assert "is not known" in record.getMessage()


def test_a_coroutine_is_no_subject(caplog: pytest.LogCaptureFixture) -> None:
    async def read(_context: object) -> Subject:
        return ALICE

    assert SubjectSource(partial(_called, read)).find("context") is None
    assert "`coroutine`" in caplog.text
    with pytest.raises(ConfigError, match="must be a plain function"):
        SubjectSource(read)


def test_two_that_disagree_make_it_unknown(caplog: pytest.LogCaptureFixture) -> None:
    source = SubjectSource(lambda context: context)
    with acting_for(user="alice", tenant="acme", roles=["clerk"]):
        assert source.find(ALICE) == ALICE
        assert source.find(Subject("mallory")) is None
        assert source.find(None) == ALICE  # there is no run whose context could be read
    assert source.find(Subject("mallory")) == Subject("mallory")
    assert "disagree" in caplog.text


@pytest.mark.parametrize("subject", ["alice", ALICE, 7])
def test_a_runtime_refuses_what_is_no_function(subject: Any, bench: Callable[..., Bench]) -> None:
    with pytest.raises(ConfigError, match="`subject` is a"):
        Runtime(policy=bench().runtime.policy, subject=subject)


class Executor(BaseExecutor):
    def __init__(self) -> None:
        self.subjects: list[Subject | None] = []

    async def execute(self, action: Action) -> Result:
        self.subjects.append(action.subject)
        return Result(action, ResultStatus.SUCCESS)


async def test_a_plan_is_decided_for_whom_it_is_made_and_run_for(bench: Callable[..., Bench]) -> None:
    executor = Executor()
    b = bench(policy=ALLOW, executor=executor)
    runtime = b.runtime
    named = Action("look", subject=Subject("bob"))
    with acting_for(user="alice", tenant="acme", roles=["clerk"]):
        plan = runtime.plan([Action("look")])
        assert plan[0].action.subject == ALICE
    await runtime.execute(plan)  # planned for her
    await runtime.execute(runtime.plan([named, Action("look")]))
    with acting_for(user="mallory"):
        await runtime.execute(plan)  # planned for another: nobody knows for whom
    assert executor.subjects == [ALICE, Subject("bob"), None, None]
