"""Calls made up at random, in every form that a policy can be asked about, and an audit with their rows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aegis_otel.governance.call import Origin
from aegis_otel.governance.recording import record_call, utc
from aegis_otel.model import Action, FrozenDict, Mode, Subject
from aegis_otel.policy import Policy
from aegis_otel.runtime.audit import AuditLogger

START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z, a Thursday

POLICY_A = Policy.from_text("""
version: "1"
defaults: {approval: approve, risk_level: medium}
rules:
  - {name: large, match: {type: [pay, "send_*"]}, conditions: {param_gt: {amount: 500}}, approval: block,
     risk_level: critical}
  - {name: small, match: {type: pay}, conditions: {param_lte: {amount: 50}}, approval: auto, risk_level: low}
  - {name: our_own, match: {type: "send_*", tenant: acme}, conditions: {param_eq: {order.currency: EUR}},
     approval: auto}
  - {name: reads, match: {type: "read_*"}, approval: auto, risk_level: low}
  - {name: drops, match: {type: "drop*"}, approval: block, risk_level: critical}
""")
POLICY_B = Policy.from_text("""
version: "1"
defaults: {approval: auto, risk_level: low}
rules:
  - {name: secrets, match: {type: "send_*"}, conditions: {param_contains: {"[anywhere]": "hunter2"}},
     approval: block, risk_level: critical}
  - {name: watched, match: {type: "pay*"}, conditions: {param_gt: {amount: 100}}, approval: block,
     mode: monitor}
  - {name: notes, match: {type: pay}, conditions: {param_contains: {note: urgent}}, approval: approve}
  - {name: only_these, match: {type: pay}, conditions: {param_only: [amount, note, order]}, approval: auto,
     risk_level: medium}
  - {name: long, match: {type: "send_*"}, conditions: {param_matches: {body: "x{5}"}}, approval: approve}
  - {name: many, match: {type: "send_*"}, conditions: {param_gt: {"cc[count]": 2}}, approval: block}
  - {name: any_of, match: {type: "send_*", role: clerk},
     conditions: {any: [{param_eq: {order.currency: EUR}}, {param_absent: [amount]}]}, approval: approve,
     risk_level: high}
  - {name: night, match: {type: "read_*"}, conditions: {time_after: "18:00", time_before: "06:30"},
     approval: approve}
  - {name: boss, match: {type: "read_*", agent: Boss, target: files}, approval: auto, risk_level: high}
  - {name: keyed, match: {type: "*"}, conditions: {param_eq: {password: "hunter2"}}, approval: block}
  - {name: rows, match: {type: ["drop_rows", "wipe"]}, approval: approve, risk_level: high}
""")
POLICY_C = Policy.from_text("""
version: "1"
defaults: {approval: auto, risk_level: low}
rules:
  - {name: many, match: {type: pay}, conditions: {calls_over: {limit: 100, within: 1h, by: [user]}},
     approval: block}
  - {name: much, match: {type: pay}, conditions: {total_over: {param: amount, limit: 500, within: 24h,
     by: [tenant]}}, approval: approve}
  - {name: twice, match: {type: "send_*"}, conditions: {repeats: {by: [body], within: 7d}}, approval: approve}
  - {name: leak, match: {type: "send_*"}, conditions: {after: {type: "read_*", within: 1h, by: [user]}},
     approval: block}
""")
SCHEMAS: dict[str, Any] = {
    "pay": {
        "properties": {
            "amount": {"type": "number"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "order": {"type": "object", "properties": {"currency": {"type": "string"}}},
        },
        "required": ["amount"],
    },
    "send_mail": {
        "properties": {"body": {"type": "string"}, "cc": {"type": "array"}, "amount": {"type": "number"}}
    },
}


class MadeCall(NamedTuple):
    action: Action
    ns: int
    """When it was decided."""


def made_calls(number: int, seed: int = 1, *, schemas: float = 0.7) -> Iterator[MadeCall]:
    """Yield calls.

    Args:
        schemas: The share of calls of which the schema is known to the policy, where there is one.
    """
    pick = random.Random(seed)
    for index in range(number):
        yield MadeCall(
            _action(pick, schemas), START_NS + index * 61_000_000_000 + pick.randrange(1_000_000_000)
        )


def _action(pick: random.Random, schemas: float) -> Action:
    type_ = pick.choice(["pay", "pay", "send_mail", "send_sms", "read_file", "drop_rows", "other"])
    params = {name: make(pick) for name, make in _PARAMS.items() if pick.random() < 0.35}
    schema = SCHEMAS.get(type_) if pick.random() < schemas else None
    named: dict[str, Any] = {
        "agent": pick.choice([None, "Clerk", "Boss", "api_key=sk-live-4242424242424242"]),
        "subject": pick.choice(
            [
                None,
                Subject("alice", "acme", ("clerk",)),
                Subject("bob", None, ("a" * 4_100, "clerk")),
                Subject(None, "globex", ()),
            ]
        ),
    }
    target = pick.choice(["default", "files", "password=hunter2hunter2"])
    action = Action(type_, target, params, schema=schema, **named)
    match pick.randrange(20):
        case 0:
            others = [Action("drop_rows", target, action.params, schema=schema, **named)]
            return action.qualify(others)
        case 1:
            other = {**params, "amount": pick.choice([10, 1_000])}
            return action.qualify([Action(type_, target, FrozenDict(other), **named)])
        case 2:
            unread = Action(type_, target, {"": "{not json"}, schema=schema, **named)
            return unread.qualify(doubt="the arguments are not a JSON object")
        case 3:
            return action.leave_unvalidated()
        case 4:
            return Action(pick.choice(["wipe", "password=hunter2hunter2"]), target, params, **named)
    return action


_PARAMS: dict[str, Any] = {
    "amount": lambda pick: pick.choice([5, 50, 70.5, 501, 10**20, None, "60", True, [1], b"7"]),
    "Amount": lambda pick: pick.choice([5, 600]),
    "note": lambda pick: pick.choice(
        ["urgent", "", None, "password: hunter2hunter2 urgent"] * 10 + ["x" * 70_000 + "urgent"]
    ),
    "order": lambda pick: pick.choice(
        [
            {"currency": "EUR"},
            {"currency": "USD"},
            {"Currency": "EUR"},
            {"currency": None},
            {},
            "EUR",
            {"password": "hunter2hunter2", "currency": "EUR"},
            {("EUR",): 1},
        ]
    ),
    "order.currency": lambda pick: pick.choice(["EUR", "USD"]),
    "body": lambda pick: pick.choice(["xxxxx", "card 4242 4242 4242 4242", "hunter2", "", 7, "\ud800"]),
    "cc": lambda pick: pick.choice([[], ["a"] * 3, ("a", "b", "c"), None, "a"] * 10 + [["a"] * 20_000]),
    "password": lambda pick: pick.choice(["hunter2", "other", None]),
    "sk-live-4242424242424242": lambda _: 1,
}


class FixedSystem:
    host, service = "host", "service"

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def pid(self) -> int:
        return 7

    def now_ns(self) -> int:
        return START_NS

    def monotonic(self) -> float:
        return 0.0

    def new_id(self) -> str:
        return f"d-{next(self._ids):07}"

    def off_loop(self, work: Any) -> Any:
        raise NotImplementedError


def write_calls(
    folder: Path, calls: Sequence[MadeCall], policy: Policy, *, apart: bool = False
) -> AuditLogger:
    """Write the rows of calls as they are written when they are decided.

    Args:
        apart: Give each row a rule of its own, its id, so that no two calls are one group.
    """
    logger, system = AuditLogger(folder), FixedSystem()
    for action, ns in calls:
        decision = policy.evaluate(action, now=utc(ns))
        record, *_ = record_call(decision, system, "session", ns, Origin(), mode=Mode.ENFORCE)
        if apart:
            record.matched_rule = record.decision_id
        logger.append(record)
    return logger
