"""Every exception of this package, in one tree.

    AegisError
    ├── PolicyError          a policy that cannot be loaded; carries every problem with its place
    │   ├── PolicyNotFound     its file does not exist
    │   └── PolicyNotMapping   it is not a mapping
    ├── CasesError           cases for a policy that cannot be run; carries every problem with its place
    ├── ConfigError          a setting or a combination of parts that cannot work
    ├── AuditError           the audit directory cannot be written or read
    ├── StateError           what processes share (what went before, questions) cannot be read or written
    └── AnswerRefused        an answer to a question in the inbox that counts for nothing

Messages are lower case, without a full stop, quote the user's value in backticks, and say how to
fix it. Nothing here is ever raised out of a tool call: there, a failure is a recorded verdict.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a policy, or in cases for one: where it is, what it is, and what was probably meant."""

    message: str
    source: str = "<policy>"
    """File name as given, or `<policy>` for a policy made from a dict."""
    line: int = 0
    """1-based; 0 when the policy has no text (`Policy.from_dict`)."""
    column: int = 0
    """1-based; 0 when the policy has no text."""
    suggestion: str | None = None

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{place}: {self.message}{hint}"


class AegisError(Exception):
    """The base of every exception this package raises."""


class PolicyError(AegisError, ValueError):
    """A policy that cannot be loaded. Nothing of it is in force.

    Attributes:
        problems: every fault found, in the order of the text.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class PolicyNotFound(PolicyError, FileNotFoundError):
    """The policy's file does not exist."""


class PolicyNotMapping(PolicyError, TypeError):
    """The policy is not a mapping: an empty file, a list, a single value."""


class CasesError(AegisError, ValueError):
    """Files with cases for `aegis policy test` that cannot be run.

    Attributes:
        problems: every fault found, in the order of the files and of their text.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class ConfigError(AegisError, ValueError):
    """A setting, or a combination of parts, that cannot work; the message says how to fix it."""


class AuditError(AegisError, OSError):
    """The audit directory cannot be written or read; the message names the path and the cause."""


class ChangeNotWritten(AuditError):
    """The line of a call is in the journal, and a change of policy before it is not in its log."""


class StateError(AegisError):
    """What processes share cannot be read or written; the message names the place, cause and remedy.

    Its message holds no password.
    """


class AnswerRefused(AegisError):
    """An answer that counts for nothing; the message says why, in words for the person who gave it."""
