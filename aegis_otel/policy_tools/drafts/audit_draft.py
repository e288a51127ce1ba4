"""Draft a policy from what an audit saw in monitor mode: what was seen runs, everything else is asked about.

No rule is looser than what was seen. It names tool, target, agents, parameters and whom the agents acted for
exactly, and values where they are few and plain. What redaction or a cut hides is not known, so it never
becomes a condition. Of a call that the tool did not validate, the audit has the arguments as they were sent.
The draft compares these and what the validation makes of them, so it runs no call that was sent otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.audit.record import Reading, recorded_names, recorded_subject
from aegis_otel.model import Action, Approval, Mode, RiskLevel, Subject
from aegis_otel.policy.lint.parameter_content import words_of
from aegis_otel.policy.policy import Policy
from aegis_otel.policy_tools.drafts.agent_draft import changes_something, what_it_reaches
from aegis_otel.policy_tools.drafts.rule_text import DraftRule, is_exact_glob, is_exact_value, render, slug
from aegis_otel.policy_tools.hidden_values import is_hidden, is_name_hidden

if TYPE_CHECKING:
    import duckdb

_MOST_VALUES = 8
"""Values of a parameter that are few."""
_MOST_COMBINATIONS = 20
"""Combinations of such values that are written out."""
_MOST_SHAPES = 4
"""Sets of parameters of one tool that are written out."""
_MOST_AGENTS = 20
_MOST_SUBJECTS = 20
"""Pairs of tenant and role of one tool, and users of such a pair, that are written out."""
_MOST_BLOCKED = 1_000
"""Calls that would have been blocked and that the rules for a tool are tried on."""
_MOST_EXPLAINED = 100
"""Tools that are not let through and named in the comment at the top."""
_NO_PARAM = "(none)"
"""The name in `param_only` where a call may have no parameters: the list must not be empty."""
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")

_SQL = """
    SELECT
        action_type, action_target, agent_name, action_params::VARCHAR, approval, count(*),
        user_id, tenant_id, user_roles, other_names, arguments_reading
    FROM audit WHERE mode = ? AND {condition} GROUP BY ALL
"""


class SeenCalls(NamedTuple):
    """Calls of one audit that are the same but for when they were made."""

    action_type: str | None
    target: str | None
    agent: str | None
    params: str | None
    """JSON, redacted and perhaps cut; None where it is not known."""
    approval: str | None
    """What the policy said then."""
    calls: int
    user: str | None = None
    tenant: str | None = None
    roles: str | None = None
    """A JSON list."""
    other_names: str | None = None
    """By what else the calls were judged, as a JSON list of pairs of type and target."""
    reading: str | None = None

    @property
    def other_types(self) -> list[str] | None:
        """The other types that the calls were judged by; None where no rule can name them all."""
        pairs = [] if self.other_names is None else recorded_names(self.other_names)
        if pairs is None:
            return None
        found = [name for name, target in pairs if target == self.target]
        return None if len(found) < len(pairs) or any(map(is_name_hidden, found)) else found

    @property
    def subject(self) -> Subject | None:
        """Whom the calls were made for; None where nobody is named, or what is named cannot be read."""
        return recorded_subject(self.user, self.tenant, self.roles)

    @property
    def is_subject_hidden(self) -> bool:
        """Whether the audit does not have all that is known of whom the calls were made for."""
        written = self.user, self.tenant, self.roles
        return any(map(is_name_hidden, written)) or (self.subject is None and written != (None, None, None))


class _Group(NamedTuple):
    """Those for whom calls were made, as one rule can ask for them; None where it is not known."""

    tenant: str | None = None
    role: str | None = None


def seen_calls(audit: duckdb.DuckDBPyConnection, condition: Condition) -> Iterator[SeenCalls]:
    """Yield the calls that ran in monitor mode. Raises AuditError where the audit cannot be read."""
    sql = _SQL.format(condition=condition.sql)
    return (SeenCalls(*row) for row in run_query(audit, sql, [Mode.MONITOR.value, *condition.values]))


@dataclass
class _Values:
    """The values of one parameter."""

    plain: dict[str, Any] = field(default_factory=dict)
    """By their JSON; at most one more than are few."""
    is_open: bool = False
    """Whether there are more values than can be written."""
    is_unwritten: bool = False
    """Whether a value cannot be written as a condition."""
    least: float | None = None
    most: float | None = None
    is_numeric: bool = True
    is_hidden: bool = False
    is_nested: bool = False
    """Whether a value is a list or an object, of which a rule says nothing."""

    def add(self, value: Any) -> None:
        self.is_hidden = self.is_hidden or is_hidden(value)
        self.is_nested = self.is_nested or isinstance(value, list | dict)
        if self.is_hidden or self.is_nested:
            return
        if not is_exact_value(value):
            self.is_unwritten, self.is_numeric = True, False
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.least = value if self.least is None else min(self.least, value)
            self.most = value if self.most is None else max(self.most, value)
        else:
            self.is_numeric = False
        if not self.is_open:
            self.plain[json.dumps(value)] = value
            self.is_open = len(self.plain) > _MOST_VALUES

    @property
    def is_text(self) -> bool:
        """Whether a rule lets any value pass, because there were many and they are no numbers."""
        return self.is_open and not self.is_numeric

    def doubt(self, name: str) -> str:
        """Return why no rule can say which values were seen of the parameter of that name."""
        if self.is_hidden:
            return f"`{name}` is redacted or cut"
        if self.is_nested:
            return f"`{name}` had lists or objects"
        if self.is_unwritten and not self.is_open:
            return f"`{name}` had values that cannot be written as a condition"
        return ""


@dataclass
class _Shape:
    """Calls of one tool with the same parameters, for those of one tenant and role."""

    names: tuple[str, ...]
    group: _Group
    calls: int = 0
    unvalidated: int = 0
    """The calls whose arguments the audit has only as they were sent."""
    users: dict[str, None] = field(default_factory=dict)
    """At most one more than are written out."""
    values: dict[str, _Values] = field(default_factory=dict)
    combinations: dict[str, Mapping[str, Any]] | None = field(default_factory=dict)
    """The arguments of calls, by their JSON; None where there are more than can be written."""

    def add(self, params: Mapping[str, Any], seen: SeenCalls) -> None:
        self.calls += seen.calls
        if seen.reading == Reading.UNVALIDATED:
            self.unvalidated += seen.calls
        if seen.user is not None and len(self.users) <= _MOST_SUBJECTS:
            self.users[seen.user] = None
        for name in self.names:
            self.values.setdefault(name, _Values()).add(params[name])
        if self.combinations is not None:
            self.combinations[json.dumps(params, sort_keys=True)] = params
            if len(self.combinations) > 10 * _MOST_COMBINATIONS:
                self.combinations = None

    @property
    def has_many_users(self) -> bool:
        return len(self.users) > _MOST_SUBJECTS

    def subject(self) -> dict[str, list[str]]:
        """Return the users, tenants and roles that a rule asks for, by their key."""
        asked = {"user": [] if self.has_many_users else sorted(self.users)}
        asked |= {key: [name] for key, name in self.group._asdict().items() if name is not None}
        return {key: names for key, names in asked.items() if names}


@dataclass
class _Tool:
    """What was seen of one action type and one target."""

    action_type: str
    target: str
    calls: int = 0
    agents: dict[str, None] = field(default_factory=dict)
    """Those whose calls are let through."""
    is_agent_unknown: bool = False
    """Whether the audit does not say of a call which agent made it; such calls are asked about."""
    other_types: dict[str, None] = field(default_factory=dict)
    """The other names of the tool, by which its calls are judged, too."""
    shapes: dict[tuple[tuple[str, ...], _Group], _Shape] = field(default_factory=dict)
    known: tuple[bool, ...] | None = None
    """Whether user, tenant and roles are known of its calls; None before the first."""
    blocked: list[SeenCalls] = field(default_factory=list)
    """Those that the policy of then would have blocked; at most one more than are compared."""
    why_asked: str = ""
    """Why its calls are not let through; empty where they are."""

    def add(self, seen: SeenCalls) -> None:
        self.calls += seen.calls
        if not self.why_asked:
            self.why_asked = self._add(seen)

    def _add(self, seen: SeenCalls) -> str:
        """Take calls into account; return why they cannot be let through."""
        if seen.approval not in (Approval.AUTO.value, Approval.APPROVE.value):
            self.blocked = [*self.blocked[:_MOST_BLOCKED], seen]
            return ""
        if seen.agent is None:
            self.is_agent_unknown = True
            return ""
        self.agents[seen.agent] = None
        if seen.reading not in (None, Reading.UNVALIDATED):
            return "its calls were judged by other arguments than those that the audit has"
        if seen.other_types is None:
            return "no rule can name all that its calls were judged by"
        self.other_types |= dict.fromkeys(seen.other_types)
        params = _parsed(seen.params)
        if params is None:
            return "the audit does not have all of its arguments"
        given = {name: value for name, value in params.items() if value is not None}
        if any(is_hidden(name) for name in given):
            return "the audit does not have all of its arguments"
        if not all(map(_PARAM.fullmatch, given)):
            return "one of its parameters has a name that a condition cannot name"
        group = self._group(seen)
        if isinstance(group, str):
            return group
        names = tuple(sorted(given))
        if len({names, *(each for each, _ in self.shapes)}) > _MOST_SHAPES:
            return f"its calls have more than {_MOST_SHAPES} different sets of parameters"
        if len({group, *(each for _, each in self.shapes)}) > _MOST_SUBJECTS:
            return f"it was called for more than {_MOST_SUBJECTS} different tenants and roles"
        self.shapes.setdefault((names, group), _Shape(names, group)).add(given, seen)
        return ""

    def _group(self, seen: SeenCalls) -> _Group | str:
        """Return for whom calls were made, as a rule can ask for it, or why no rule can."""
        if seen.is_subject_hidden:
            return "whom it was called for is redacted or cut"
        known = tuple(each is not None for each in (seen.user, seen.tenant, seen.roles))
        if self.known not in (None, known):
            return "the audit does not say of all its calls whom they were made for"
        self.known = known
        if seen.subject is None:
            return _Group()
        roles = seen.subject.roles
        if roles is not None and len(roles) != 1:  # `match.role` asks for one of several
            return "it was called for somebody with several roles or none, which no pattern means"
        names = (seen.user, seen.tenant, *(roles or ()))
        if not all(is_exact_glob(name) for name in names if name is not None):
            return "no patterns mean its users, tenants and roles only"
        return _Group(seen.tenant, roles[0] if roles else None)

    @property
    def types(self) -> list[str]:
        """All names of the tool."""
        return list(dict.fromkeys((self.action_type, *self.other_types)))

    def doubt(self) -> str:
        """Return why its calls are not let through, all calls considered."""
        if self.why_asked:
            return self.why_asked
        if not self.shapes:
            if self.is_agent_unknown:
                return "the audit does not say which agent called it"
            return "the policy of then would have blocked all of its calls"
        if not all(map(is_exact_glob, (*self.types, self.target))):
            return "no pattern means its name and its target only"
        if is_hidden(self.action_type) or is_hidden(self.target) or any(map(is_hidden, self.agents)):
            return "its name, its target or its agent is redacted or cut"
        if len(self.agents) > _MOST_AGENTS or not all(map(is_exact_glob, self.agents)):
            return "no patterns mean its agents only"
        if any(shape.has_many_users and shape.group == _Group() for shape in self.shapes.values()):
            return f"it was called for more than {_MOST_SUBJECTS} users, without a tenant or role"
        for shape in self.shapes.values():
            for name, values in shape.values.items():
                if why := values.doubt(name) or (values.is_text and self._doubt_of_text(name)):
                    return why
        if self._lets_blocked_run():
            return "no rule tells its calls apart from those that the policy of then would have blocked"
        return ""

    def _doubt_of_text(self, name: str) -> str:
        """Return why a parameter that had many texts cannot be left open."""
        if any(map(changes_something, self.types)):
            return f"it changes something, and `{name}` had many values"
        reached = what_it_reaches(words_of(self.action_type), name)
        return f"it takes {reached}, and `{name}` had many values" if reached else ""

    def _lets_blocked_run(self) -> bool:
        """Return whether a call that would have been blocked may run by the rules for the others."""
        if len(self.blocked) > _MOST_BLOCKED:
            return True
        policy = Policy.from_text(render([], "", list(_rules([self])))) if self.blocked else None
        for each in self.blocked:
            params = _parsed(each.params)
            if policy is None or params is None or is_hidden(params) or each.is_subject_hidden:
                return True
            if each.reading not in (None, Reading.UNVALIDATED):
                return True
            for agent in self.agents if each.agent is None else (each.agent,):  # it may have been any of them
                action = Action(self.action_type, self.target, params, agent=agent, subject=each.subject)
                if policy.evaluate(action).approval is Approval.AUTO:
                    return True
        return False


def _parsed(params: str | None) -> dict[str, Any] | None:
    """Return arguments from their JSON; None where the audit does not have them."""
    try:
        found = json.loads(params or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def draft_from_calls(seen: Iterable[SeenCalls], made_by: str) -> str | None:
    """Return the text of a policy that lets the calls run; None where there are none.

    Args:
        made_by: The command, for the comment at the top.
    """
    tools: dict[tuple[str, str], _Tool] = {}
    for calls in seen:
        key = calls.action_type or "", calls.target or ""
        tools.setdefault(key, _Tool(*key)).add(calls)
    if not tools:
        return None
    for tool in tools.values():
        if any((name, tool.target) in tools for name in tool.types[1:]):
            tool.why_asked = tool.why_asked or "another tool that was seen has one of its names, too"
    ordered = sorted(tools.values(), key=lambda tool: (-tool.calls, tool.action_type, tool.target))
    doubts = [(tool, tool.doubt()) for tool in ordered]
    let_through = [tool for tool, doubt in doubts if not doubt]
    total = sum(tool.calls for tool in ordered)
    runs = sum(shape.calls for tool in let_through for shape in tool.shapes.values())
    comment = [
        f"Made by `{made_by}` from {_calls(total)} in monitor mode.",
        f"Calls run as {runs:,} of these were seen; every other one is asked about. Read it first.",
    ]
    asked = [(tool, doubt) for tool, doubt in doubts if doubt]
    comment += (
        f"Asked: {tool.action_type} -> {tool.target} ({_calls(tool.calls)}): {doubt}."
        for tool, doubt in islice(asked, _MOST_EXPLAINED)
    )
    if len(asked) > _MOST_EXPLAINED:
        comment.append(f"And {len(asked) - _MOST_EXPLAINED:,} more are asked.")
    return render(comment, "whatever was not seen", list(_rules(let_through)))


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _rules(tools: Sequence[_Tool]) -> Iterator[DraftRule]:
    names: dict[str, int] = {}
    for tool in tools:
        for shape in tool.shapes.values():
            name = f"run_{slug(tool.action_type).removeprefix('run_')}"
            names[name] = names.get(name, 0) + 1
            conditions, notes = _conditions(shape)
            yield DraftRule(
                name if names[name] == 1 else f"{name}-{names[name]}",
                [f"Seen: {_calls(shape.calls)}{'; ' if notes else ''}{'; '.join(notes)}."],
                dict.fromkeys(tool.types, ""),
                Approval.AUTO,
                RiskLevel.LOW,
                [tool.target],
                sorted(tool.agents),
                shape.subject(),
                conditions,
            )


def _conditions(shape: _Shape) -> tuple[dict[str, Any], list[str]]:
    """Return the conditions that only calls as they were seen pass, and notes on what is left open."""
    conditions: dict[str, Any] = {"param_only": list(shape.names) or [_NO_PARAM]}
    if shape.names:
        conditions["param_present"] = list(shape.names)
    notes = [f"more than {_MOST_SUBJECTS} users"] if shape.has_many_users else []
    if shape.unvalidated:
        # The policy is asked about both: as sent, which was seen, and as validated.
        notes.append(
            f"{shape.unvalidated:,} as sent, and asked about where the tool's validation changes them"
        )
    few = {name: values for name, values in shape.values.items() if not values.is_open}
    bounds: dict[str, dict[str, Any]] = {"param_gte": {}, "param_lte": {}}
    for name, values in shape.values.items():
        if not values.is_open:
            continue
        if values.is_numeric:
            bounds["param_gte"][name], bounds["param_lte"][name] = values.least, values.most
            notes.append(f"any `{name}` from {values.least} to {values.most}")
        else:
            notes.append(f"any `{name}`, which had many values")
    together = _combinations(shape, few)
    if together is not None:
        conditions["any"] = [{"param_eq": each} for each in together]
    elif few:
        conditions["param_in"] = {name: list(values.plain.values()) for name, values in few.items()}
    conditions |= {key: found for key, found in bounds.items() if found}
    return conditions, notes


def _combinations(shape: _Shape, few: Mapping[str, _Values]) -> list[dict[str, Any]] | None:
    """Return the values that were seen together, where not all that `few` allows were."""
    if len(few) < 2 or shape.combinations is None:
        return None
    found = {
        json.dumps([params[name] for name in few]): {name: params[name] for name in few}
        for params in shape.combinations.values()
    }
    everything = prod(len(values.plain) for values in few.values())
    return list(found.values()) if len(found) < min(everything, _MOST_COMBINATIONS + 1) else None
