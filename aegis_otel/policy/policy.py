"""The `Policy` that users hold: it is loaded from files, text or data, may be merged, and decides actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, final

from aegis_otel.errors import PolicyError, Problem
from aegis_otel.model import Action, Approval, PolicyDecision, RiskLevel
from aegis_otel.policy.evaluation.compiler import CompiledPolicy, Plan, compile_policy
from aegis_otel.policy.evaluation.evaluator import judge
from aegis_otel.policy.rules import Defaults, Place, PolicyDocument


class RuleSummary(NamedTuple):
    """One rule, as `Policy.rules` shows it."""

    name: str
    approval: Approval
    risk_level: RiskLevel
    place: Place


@final
class Policy:
    """An immutable policy: its rules are asked from top to bottom, and the first that matches decides.

    Make one by `from_yaml`, `from_yaml_files`, `from_text`, `from_dict` or `merge`. Threads may share it. Two
    policies with the same digest are equal.
    """

    __slots__ = ("_plans", "compiled", "documents", "has_history", "reads_time", "rule_count")

    documents: tuple[PolicyDocument, ...]
    """The validated files, for tools that examine a policy."""
    compiled: CompiledPolicy
    """The rules as tests, which decide."""
    has_history: bool
    """Whether any rule has a condition on the calls that went before."""
    rule_count: int
    reads_time: bool
    """Whether what any rule says depends on the time."""
    _plans: dict[str, Plan]

    def __init__(self, documents: Sequence[PolicyDocument]) -> None:
        compiled = compile_policy(documents)
        object.__setattr__(self, "documents", tuple(documents))
        object.__setattr__(self, "compiled", compiled)
        object.__setattr__(self, "has_history", bool(compiled.historic))
        object.__setattr__(self, "rule_count", len(compiled.rules))
        object.__setattr__(
            self, "reads_time", any(each.rule.conditions.reads_time for each in compiled.rules)
        )
        object.__setattr__(self, "_plans", compiled.plans)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Policy:
        """Read the policy in one file.

        Raises:
            PolicyNotFound: there is no such file; also a FileNotFoundError.
            PolicyError: it is not a valid policy; every problem with its place.
        """
        return cls.from_yaml_files(path)

    @classmethod
    def from_yaml_files(cls, *paths: str | Path) -> Policy:
        """Read the policy in several files, the first file's rules first.

        The `defaults` of the first file that states any are in force.

        Raises:
            PolicyNotFound: one of the files does not exist; also a FileNotFoundError.
            PolicyError: one of them is not a valid policy (the problems of all of them are listed), two
                rules have one name, or no path was given.
        """
        from aegis_otel.policy.loading.loader import read_all, read_file  # noqa: PLC0415 - loads the parser

        if not paths:
            raise PolicyError([Problem("no policy file given")])
        return cls(read_all(partial(read_file, path) for path in paths))

    @classmethod
    def from_text(cls, text: str | bytes, source: str = "<policy>") -> Policy:
        """Read the policy in `text` (bytes are UTF-8); its problems and rules name `source` as their file.

        Raises:
            PolicyError: it is not a valid policy; every problem with its place.
        """
        from aegis_otel.policy.loading.loader import read_text  # noqa: PLC0415

        return cls([read_text(text, source)])

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Policy:
        """Read the policy in a dict of the form of a policy file.

        Raises:
            PolicyNotMapping: `data` is not a dict; also a TypeError.
            PolicyError: it is not a valid policy; every problem with its path in `data`.
        """
        from aegis_otel.policy.loading.loader import read_data  # noqa: PLC0415

        return cls([read_data(data)])

    def merge(self, other: Policy) -> Policy:
        """Return a new policy of this one's rules, then `other`'s. The first `defaults` stated are in force.

        Raises:
            PolicyError: two rules have one name; both places are named.
        """
        return Policy(self.documents + other.documents)

    def evaluate(self, action: Action, *, now: datetime | None = None) -> PolicyDecision:
        """Return what this policy says about `action`. Never raises.

        Args:
            now: the time to decide at, UTC when it has no zone; None is now.
        """
        try:
            # Not in a function of its own: one more call would add a fifth to the time this takes.
            if action.is_plain:
                steps, needs_time, _ = self._plans[action.type]
                if needs_time and now is None:
                    now = datetime.now(UTC)
                for applies, verdict, _ in steps:
                    if applies is None or applies(action, now):
                        return PolicyDecision(action, verdict)
        except Exception:  # noqa: S110 - whatever it was, the second pass says what is unknown
            pass
        return PolicyDecision(action, judge(self.compiled, action, now or datetime.now(UTC)))

    def reads_arguments(self, *action_types: str) -> bool:
        """Return whether any rule for actions of those types tests a parameter."""
        for each in action_types:  # noqa: SIM110 - for each call, and a generator costs more than most plans
            if self.compiled.plan(each)[2]:
                return True
        return False

    def reads_history(self, *action_types: str) -> bool:
        """Return whether an action of those types asks about the calls that went before, or is counted.

        Then `policy.history.series_queries` says what it asks, and what it leaves where it is permitted.
        """
        if not self.has_history:
            return False
        compiled = self.compiled
        return any(compiled.asking(each) or compiled.marking(each) for each in action_types)

    def rules_asked(self, action: Action) -> int:
        """Return how many rules the action is compared with at most."""
        return len(self.compiled.plan(action.type)[0]) if type(action.type) is str else 0

    def always_allows(self, action_type: str) -> bool:
        """Return whether every action of that type runs, whatever its other properties.

        One that is counted does not where the count cannot be kept.
        """
        steps, *_ = self.compiled.plan(action_type)
        is_auto = all(verdict.approval is Approval.AUTO for _, verdict, _ in steps)
        return is_auto and not self.reads_history(action_type)

    @property
    def digest(self) -> str:
        """`sha256:` and hex digits over all that can change a decision; comments and file names cannot."""
        return self.compiled.digest

    def to_yaml(self) -> str | None:
        """Return a YAML text that `from_text` reads to a policy of the same digest.

        It is the file as it is, comments included; of several files or of a dict, one text with all rules.
        It has the values of conditions as they are written, and nothing in it is redacted.

        Returns:
            The text; None where there is none, as for a dict with texts that YAML does not have.
        """
        from aegis_otel.policy.loading.policy_text import policy_text  # noqa: PLC0415 - loads the parser

        text = policy_text(self.documents)
        if text is None or (len(self.documents) == 1 and self.documents[0].written is text):
            return text
        try:
            return text if Policy.from_text(text).digest == self.digest else None
        except PolicyError:
            return None

    @property
    def default(self) -> Defaults:
        """Approval and risk where no rule matches."""
        return self.compiled.defaults

    @property
    def rules(self) -> tuple[RuleSummary, ...]:
        """The rules in the order in which they are asked."""
        return tuple(
            RuleSummary(rule.name, rule.rule.approval, rule.rule.risk_level, rule.rule.place)
            for rule in self.compiled.rules
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the files that were read; `<policy>` for text or a dict without a name."""
        return tuple(document.source for document in self.documents)

    @property
    def states_rules(self) -> bool:
        """False when no `rules` key was present at all, as in a file that was cut short."""
        return any(document.states_rules for document in self.documents)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Policy is immutable: make another one instead of setting `{name}`")

    def __reduce__(self) -> tuple[type[Policy], tuple[tuple[PolicyDocument, ...]]]:
        return Policy, (self.documents,)  # compiled tests are functions, which cannot be pickled

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Policy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Policy {', '.join(self.sources)}: {len(self.compiled.rules)} rules, {self.digest[:19]}>"
