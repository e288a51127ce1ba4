"""Whom a call is made for, on spans and events: by hash, by id or not at all; and on no metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aegis_otel import Action, ConfigError, Runtime, Subject
from aegis_otel.governance.recording import user_payload
from aegis_otel.runtime.audit import AuditLogger
from tests.governance.test_subject import Executor
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
SUBJECT_KEYS = {"user.hash", "user.id", "aegis.tenant.id"}
EVENTS = ("aegis.tool.decision", "aegis.approval.requested", "aegis.approval.resolved")


def named(attributes: Any) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key in SUBJECT_KEYS}


async def signals_of(b: Bench, subject: Subject | None) -> list[dict[str, Any]]:
    """What each signal about one call, which a human is asked about, says of the subject."""
    await b.runtime.run_one(Action("write_x", subject=subject))
    (span,) = b.telemetry.spans("govern_tool")
    found = [named(span.attributes)]
    for name in EVENTS:
        (event,) = b.telemetry.events(name)
        found.append(named(event))
    return found


@pytest.mark.parametrize("setting", [None, "hash", "ID", "none"])
async def test_the_user_is_named_as_the_setting_says(
    setting: str | None, bench: BENCH, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("AEGIS_USER_ON_SIGNALS", setting)
    b = bench(True, executor=Executor())
    expected = {"aegis.tenant.id": "acme"}
    if setting == "ID":
        expected["user.id"] = "alice"
    elif setting != "none":
        expected["user.hash"] = AuditLogger(b.audit).digest(user_payload("alice"))
        assert expected["user.hash"].startswith("hmac-sha256:")
    assert await signals_of(b, Subject("alice", "acme", ("clerk",))) == [expected] * 4
    labels = {
        key
        for metric in ("aegis.decisions", "aegis.approval.duration")
        for point in b.telemetry.points(metric)
        for key, _ in point
    }
    assert labels
    assert labels.isdisjoint(SUBJECT_KEYS)


@pytest.mark.parametrize("subject", [None, Subject(), Subject(roles=("clerk",))])
async def test_who_is_not_known_is_left_out(subject: Subject | None, bench: BENCH) -> None:
    assert await signals_of(bench(True, executor=Executor()), subject) == [{}] * 4


async def test_a_secret_in_an_id_is_on_no_signal(bench: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_USER_ON_SIGNALS", "id")
    secret = "ghp_" + "a1B2c3D4e5" * 3 + "F6g7H8"
    said = await signals_of(bench(True, executor=Executor()), Subject(secret, f"x {secret}"))
    assert secret not in str(said)
    assert said[0]["user.id"].startswith("[REDACTED")


async def test_two_users_have_two_hashes_and_neither_is_the_digest_of_arguments(bench: BENCH) -> None:
    b = bench(executor=Executor())
    for user in ("alice", "bob", "alice"):
        await b.runtime.run_one(Action("search", params={"user": user}, subject=Subject(user)))
    events = b.telemetry.events("aegis.tool.decision")
    first, second, third = [event["user.hash"] for event in events]
    assert first == third != second
    assert {first, second}.isdisjoint(event["aegis.action.arguments.digest"] for event in events)


MASKED_ALIKE = ["ghp_" + f"a1B2c3D4e{last}" * 3 + "F6g7H8" for last in "567"]


async def test_users_whose_ids_are_masked_alike_have_hashes_of_their_own(bench: BENCH) -> None:
    b = bench(*[True] * 4, executor=Executor())
    for user in (*MASKED_ALIKE, MASKED_ALIKE[0]):
        await b.runtime.run_one(Action("write_x", subject=Subject(user)))
    rows = b.rows()
    assert len({row["user_id"] for row in rows}) == 1
    expected = [AuditLogger(b.audit).digest(user_payload(user)) for user in (*MASKED_ALIKE, MASKED_ALIKE[0])]
    assert len(set(expected)) == 3
    for name in EVENTS:
        assert [event["user.hash"] for event in b.telemetry.events(name)] == expected
    assert [span.attributes["user.hash"] for span in b.telemetry.spans("govern_tool")] == expected
    assert [row["user_hash"] for row in rows] == expected


async def test_a_wrong_setting_is_said_at_once(bench: BENCH, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = bench().runtime.policy
    monkeypatch.setenv("AEGIS_USER_ON_SIGNALS", "hashed")
    with pytest.raises(ConfigError, match=r"expected hash or id or none \(did you mean hash\?\)"):
        Runtime(policy=policy)
