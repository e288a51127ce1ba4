"""The nouns of the system: action, verdict, decision, result. Immutable, without behaviour.

An `Action` is frozen through and through: whoever is shown a decision (a hook, an approver) cannot
change what runs. A `Verdict` is made once per rule when a policy is compiled and shared by every
decision it gives, which is what keeps a decision at a fraction of a microsecond.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NoReturn

import msgspec

DEFAULT_RULE = "<default>"
"""Stands where a rule's name does when no rule matched."""
ERROR_RULE = "<error>"
"""Stands where a rule's name does when no policy could be loaded or evaluated."""


class RiskLevel(IntEnum):
    """How bad the worst outcome of an action is; ordered, so levels can be compared."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Approval(StrEnum):
    """What a rule asks for."""

    AUTO = "auto"
    APPROVE = "approve"
    BLOCK = "block"


class Mode(StrEnum):
    """What a verdict is for."""

    ENFORCE = "enforce"
    MONITOR = "monitor"
    """Decide and record, and stop nothing: what would have happened."""


class Outcome(StrEnum):
    """How the decision about one call ended: the value on its event and its counter."""

    ALLOWED = "allowed"
    APPROVED = "approved"
    BLOCKED = "blocked"
    DENIED = "denied"
    EXPIRED = "expired"
    ERROR = "error"


class ResultStatus(StrEnum):
    """How an action ended that was handed to the Runtime."""

    SUCCESS = "success"
    FAILED = "failed"
    BLOCKED = "blocked"
    DENIED = "denied"
    SKIPPED = "skipped"
    WOULD_RUN = "would_run"
    WOULD_ASK = "would_ask"
    WOULD_BLOCK = "would_block"


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG001
    raise TypeError("the parameters of an Action are frozen: make a copy with copy.deepcopy()")


class FrozenDict(dict[Any, Any]):
    """A dict that refuses to change; a deep copy of it is a plain, mutable dict."""

    __slots__ = ("json_texts", "spellings")
    json_texts: dict[str, Any]
    """What is in the JSON texts below it, once somebody has asked: not set before."""
    spellings: Mapping[str | None, list[str]]
    """Its keys by what they could be mistaken for (None: any), once somebody has asked: not set before."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {copy.deepcopy(k, memo): copy.deepcopy(v, memo) for k, v in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))


class FrozenList(list[Any]):
    """A list that refuses to change; a deep copy of it is a plain, mutable list."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(v, memo) for v in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenList, (list(self),))


_MAX_DEPTH = 64
_ATOMS = frozenset({str, int, float, bool, type(None), bytes})


def freeze(value: Any) -> Any:
    """Return a deep copy of `value` whose dicts, lists and sets cannot be changed.

    Objects of other types are deep-copied where they can be and kept as they are where they cannot;
    the digest taken before and after an approval catches a change to those. So are cycles, and what is
    nested deeper than the encoding reads. What is shared stays shared.
    """
    return _freeze(value, 0, {})


def _freeze(value: Any, depth: int, known: dict[int, tuple[int, Any, Any]]) -> Any:
    """`known`: by id, the least depth at which a value was met, the value (kept alive), and its copy."""
    kind = type(value)
    if kind in _ATOMS or kind is FrozenDict or kind is FrozenList or depth > _MAX_DEPTH:
        return value
    me = id(value)
    if me in known and known[me][0] <= depth:  # else the copy may have been cut too early for this place
        return known[me][2]
    known[me] = (depth, value, value)  # inside itself it stays as it is
    inner = depth + 1
    frozen: Any
    if isinstance(value, dict):
        frozen = FrozenDict(
            [
                (
                    k if type(k) in _ATOMS else _freeze(k, inner, known),
                    v if type(v) in _ATOMS else _freeze(v, inner, known),
                )
                for k, v in value.items()
            ]
        )
    elif isinstance(value, list):
        frozen = FrozenList([_freeze(v, inner, known) for v in value])
    elif kind is tuple:
        frozen = tuple([_freeze(v, inner, known) for v in value])
    elif kind is set:
        frozen = frozenset(value)
    else:
        try:
            frozen = copy.deepcopy(value)
        except Exception:
            frozen = value
    known[me] = (depth, value, frozen)
    return frozen


def _lists(schema: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether the schema names every one of the parameters."""
    try:
        return bool(params.keys() <= schema["properties"].keys())
    except Exception:  # a schema may be anything
        return False


class Subject(msgspec.Struct, frozen=True, cache_hash=True):
    """The person or tenant that an agent acts for, as the program knows it; never as a model says it.

    A field that is None is not known, which is not the same as having none: `roles=()` is somebody without
    any role.

    Raises:
        TypeError: `user` or `tenant` is not text, or `roles` not a list, tuple or set of texts.
        ValueError: one of these texts is empty.
    """

    user: str | None = None
    """The id of the user (`match.user`)."""
    tenant: str | None = None
    """The id of the tenant, customer or organization (`match.tenant`)."""
    roles: tuple[str, ...] | None = None
    """The user's roles (`match.role`); kept in alphabetical order, each once."""

    def __post_init__(self) -> None:
        for name in ("user", "tenant"):
            if (value := getattr(self, name)) is not None:
                msgspec.structs.force_setattr(self, name, _checked(name, value))
        if self.roles is None:
            return
        if not isinstance(self.roles, list | tuple | set | frozenset):
            raise TypeError(
                f"`roles` of a subject is a `{type(self.roles).__name__}`: pass a list of texts, such as "
                '`["clerk"]`'
            )
        roles = {_checked("roles", role) for role in self.roles}
        msgspec.structs.force_setattr(self, "roles", tuple(sorted(roles)))


def _checked(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"`{name}` of a subject has a `{type(value).__name__}`: pass text, such as `str(id)`")
    if not value:
        raise ValueError(f"`{name}` of a subject has an empty text: pass None where it is not known")
    return str.__str__(value)  # of an enum its value; and what compares otherwise than text is none


class Where(msgspec.Struct, frozen=True):
    """What a call is part of, by which policies divide the calls that went before; None: not known."""

    session: str | None = None
    """The id of the program's session, which is one process as a rule."""
    conversation: str | None = None
    run: str | None = None
    """The id of the outermost run; one that is saved and resumed keeps it."""
    tool: str | None = None
    """The tool's name, as the model calls it."""
    tokens: int | None = None
    """The tokens that the run has used so far."""
    tokens_run: str | None = None
    """The id of the run that these tokens are counted for, where it is one inside of `run`."""


class SeriesQuery(msgspec.Struct, frozen=True, cache_hash=True):
    """What a policy asks about the calls that went before: one series, for some time back."""

    series: str
    """What is counted together: a canonical text of rule, condition and the values that divide it."""
    within_s: float | None = None
    """For how many seconds back; None: for as long as marks are kept."""


class Tally(msgspec.Struct, frozen=True):
    """The answer to a question: the marks that the calls before have left."""

    calls: int = 0
    """All of them, whatever their outcome."""
    total: int = 0
    """The sum of their amounts, in millionths."""
    succeeded: int = 0
    failed: int = 0

    @property
    def open(self) -> int:
        """How many have not ended, or nobody knows how."""
        return self.calls - self.succeeded - self.failed


class Mark(msgspec.Struct, frozen=True):
    """What a permitted call leaves in one series."""

    series: str
    amount: int = 0
    """In millionths."""
    keep_s: float = 0.0
    """Seconds after which nobody asks for it any more."""
    run: str | None = None
    """The run whose earlier mark in the series this one replaces; None for a mark that counts no tokens."""


class Past(msgspec.Struct, frozen=True):
    """What is known of the calls before this one, for the conditions that read it."""

    where: Where
    tallies: Mapping[SeriesQuery, Tally]
    failure: str | None = None
    """Why nothing is known, where nothing is."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing an agent is about to do.

    Raises:
        TypeError: when `params` is not a mapping, or `subject` not a Subject.
    """

    type: str
    """What is done, as rules match it (`match.type`); for a tool call, the tool's name by default."""
    target: str = "default"
    """What the action is done to, as rules match it (`match.target`)."""
    params: Mapping[str, Any] = field(default_factory=FrozenDict, repr=False)
    """The arguments, with the tool's defaults filled in; frozen, and in no repr: they may hold secrets."""
    description: str = ""
    agent: str | None = field(default=None, kw_only=True)
    """The name of the agent that asks (`match.agent`); None when it is not known."""
    schema: Mapping[str, Any] | None = field(default=None, kw_only=True, compare=False, repr=False)
    """JSON Schema of `params`, if there is one: a condition can distinguish a typo from an absent value."""
    subject: Subject | None = field(default=None, kw_only=True)
    """Whom the agent acts for; None when it is not known."""
    past: Past | None = field(init=False, default=None, compare=False, repr=False)
    """The calls that went before; None where nobody has looked, so that no condition on them is answered."""
    forms: tuple[Action, ...] = field(init=False, default=(), compare=False, repr=False)
    """The same action in other words: under the tool's other name, or with the arguments as the tool's own
    validation reads them. Each is judged as well, and the strictest verdict counts."""
    parameter_names: Mapping[str, Set[str]] | None = field(
        init=False, default=None, compare=False, repr=False
    )
    """The names at the top of `params` that are the tool's own, each with all names of the same parameter:
    what a validation returns has each under all of them. None: they are those that `schema` names."""
    doubt: str | None = field(init=False, default=None, compare=False, repr=False)
    """Why no condition on a parameter can be answered, where the arguments cannot be read."""
    is_unvalidated: bool = field(init=False, default=False, compare=False, repr=False)
    """Whether the tool validates its arguments and was not asked to, because of what the policy said then."""
    is_plain: bool = field(init=False, default=True, compare=False, repr=False)
    """Whether there are no other forms and no doubt, and every parameter is one that the schema names."""

    def __post_init__(self) -> None:
        if type(self.params) is not FrozenDict:
            if not isinstance(self.params, (dict, Mapping)):  # an abstract class is slow to ask
                raise TypeError(f"params of an Action must be a mapping, not `{type(self.params).__name__}`")
            object.__setattr__(self, "params", freeze(dict(self.params)))
        if self.subject is not None and type(self.subject) is not Subject:
            raise TypeError(f"subject of an Action must be a Subject, not `{type(self.subject).__name__}`")
        if self.schema is not None and not _lists(self.schema, self.params):
            object.__setattr__(self, "is_plain", False)

    def qualify(self, forms: Sequence[Action] = (), doubt: str | None = None) -> Action:
        """Set the forms and the doubt of a new action, before anything reads it, and return it."""
        object.__setattr__(self, "forms", self.forms + tuple(forms))
        object.__setattr__(self, "doubt", doubt or self.doubt)
        if self.forms or self.doubt:
            object.__setattr__(self, "is_plain", False)
        return self

    def name_parameters(self, names: Mapping[str, Set[str]]) -> Action:
        """Set the `parameter_names` of a new action, before anything reads it, and return it."""
        object.__setattr__(self, "parameter_names", names)
        return self

    def _copied(self) -> Action:
        """Return a shallow copy, which `copy.copy` makes ten times as slowly."""
        other = object.__new__(Action)
        for name in _FIELDS:
            object.__setattr__(other, name, getattr(self, name))
        return other

    def for_subject(self, subject: Subject | None) -> Action:
        """Return a copy of the action, in all its forms, that is done for `subject`."""
        other = self._copied()
        object.__setattr__(other, "subject", subject)
        object.__setattr__(other, "forms", tuple([each.for_subject(subject) for each in self.forms]))
        return other

    def with_past(self, past: Past) -> Action:
        """Return a copy of the action, in all its forms, that knows what went before."""
        other = self._copied()
        object.__setattr__(other, "past", past)
        object.__setattr__(other, "forms", tuple([each.with_past(past) for each in self.forms]))
        return other

    def with_doubt(self, doubt: str) -> Action:
        """Return a copy of the action of which no form's parameters can be read, for the reason `doubt`."""
        other = self._copied()
        object.__setattr__(other, "forms", ())
        return other.qualify([each.with_doubt(doubt) for each in self.forms], doubt)

    def leave_unvalidated(self) -> Action:
        """Mark that the tool's own validation was left out, and return the action."""
        object.__setattr__(self, "is_unvalidated", True)
        return self

    def __hash__(self) -> int:
        return hash((self.type, self.target, self.agent, len(self.params)))

    def __str__(self) -> str:
        return f"Action({self.type} -> {self.target})"


_FIELDS = tuple(each.name for each in fields(Action))


class Approvers(msgspec.Struct, frozen=True, cache_hash=True):
    """Who may answer the question of a rule, and how many of them make a yes.

    Somebody may answer who matches one of `users`, or has a role that matches one of `roles`; where both are
    empty, everybody whom the channel knows by name. One no of these is a no.
    """

    users: tuple[str, ...] = ()
    """Globs, as in `match.user`."""
    roles: tuple[str, ...] = ()
    """Globs, as in `match.role`."""
    count: int = 1
    """How many different persons have to say yes."""
    allows_requester: bool = False
    """Whether the user that the agent acts for may be one of them."""
    others: tuple[Approvers, ...] = ()
    """What other rules ask for that match the call as well, or may: each of them needs its own yes."""

    @property
    def content(self) -> list[Any]:
        """What can change a decision."""
        own = [list(self.users), list(self.roles), self.count, self.allows_requester]
        return [*own, [each.content for each in self.others]] if self.others else own

    @property
    def as_written(self) -> dict[str, Any]:
        """The keys of a policy file, all of them; `others` where there are any."""
        keys = {"users": self.users, "roles": self.roles, "count": self.count, "self": self.allows_requester}
        return {**keys, "others": [each.as_written for each in self.others]} if self.others else keys

    @property
    def all_of_them(self) -> tuple[Approvers, ...]:
        """This and `others`, each without any others."""
        return (msgspec.structs.replace(self, others=()), *self.others) if self.others else (self,)


class Verdict(msgspec.Struct, frozen=True):
    """What a policy says: shared by every decision that comes to the same end."""

    approval: Approval
    risk_level: RiskLevel
    matched_rule: str
    """The name of the rule that decided; `<default>` when none matched."""
    reason: str = ""
    """One sentence for people; holds no argument values."""
    errors: tuple[str, ...] = ()
    """Why a rule's match is unknown, one entry a condition; empty when every match was certain."""
    policy_digest: str = ""
    """The digest of the policy that decided (`sha256:` and hex)."""
    advice: str = ""
    """What the model may read beside a refusal, to correct the call: which parameters could not be read, and
    what was expected. Holds no values; empty where every match was certain."""
    message: str = ""
    """What the policy's author wants the model to read beside a refusal by the rule."""
    mode: Mode = Mode.ENFORCE
    """`monitor` where the rule is only monitored: the call runs, and the record says what the rule says."""
    approvers: Approvers | None = None
    """Who may answer where a human is asked; None where the rule does not say it."""
    expires_s: float | None = None
    """For how many seconds the question can be answered; None where the rule does not say it."""
    asks_each_time: bool = False
    """Whether no yes counts for later calls, as the rule asks about calls that may be repetitions."""

    @property
    def enforced_approval(self) -> Approval:
        """What is enforced: `approval`, or auto where the rule is only monitored."""
        return self.approval if self.mode is Mode.ENFORCE else Approval.AUTO


class PolicyDecision(msgspec.Struct, frozen=True):
    """An action and the verdict on it."""

    action: Action
    verdict: Verdict

    @property
    def approval(self) -> Approval:
        return self.verdict.approval

    @property
    def enforced_approval(self) -> Approval:
        return self.verdict.enforced_approval

    @property
    def risk_level(self) -> RiskLevel:
        return self.verdict.risk_level

    @property
    def matched_rule(self) -> str:
        return self.verdict.matched_rule

    @property
    def reason(self) -> str:
        return self.verdict.reason

    @property
    def errors(self) -> tuple[str, ...]:
        return self.verdict.errors

    @property
    def policy_digest(self) -> str:
        return self.verdict.policy_digest

    @property
    def is_allowed(self) -> bool:
        """Return whether the action may run, at once or after a human said yes."""
        return self.verdict.enforced_approval is not Approval.BLOCK


@dataclass(frozen=True, slots=True)
class Result:
    """How one action ended."""

    action: Action
    status: ResultStatus
    data: Any = None
    error: str | None = None
    started_at: datetime | None = None
    """UTC; when the body began. None when it never ran."""
    completed_at: datetime | None = None
    """UTC; when the body ended."""
    decision_id: str | None = None
    """The id of the audit row, the span and the event of this action."""

    @property
    def ok(self) -> bool:
        return self.status is ResultStatus.SUCCESS

    def __str__(self) -> str:
        tag = "OK" if self.ok else self.status.name
        return f"[{tag}] {self.action.type} -> {self.action.target}"
