"""Who is asked when a rule says `approve`: the terminal, a function, a web service, or a class of yours.

A handler answers True, False, or an `ApprovalAnswer` that also says who and why; anything else, an
exception or silence is a denial. The governor holds the time limit, so a handler need not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.question import ApprovalAnswer, NobodyToAsk, Question, current_question
from aegis_otel.runtime.approval.callback import CallbackApprovalHandler
from aegis_otel.runtime.approval.default import NoTerminal, default_handler
from aegis_otel.runtime.approval.handler import ApprovalHandler, AutoApprovalHandler, DenyApprovalHandler
from aegis_otel.runtime.approval.terminal import CLIApprovalHandler

if TYPE_CHECKING:
    from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person, open_answer_desk
    from aegis_otel.runtime.approval.inbox import InboxApprovalHandler
    from aegis_otel.runtime.approval.webhook import WebhookApprovalHandler


__all__ = [
    "AnswerDesk",
    "AnswerRefused",
    "ApprovalAnswer",
    "ApprovalHandler",
    "AutoApprovalHandler",
    "CLIApprovalHandler",
    "CallbackApprovalHandler",
    "DenyApprovalHandler",
    "InboxApprovalHandler",
    "NoTerminal",
    "NobodyToAsk",
    "Person",
    "Question",
    "WebhookApprovalHandler",
    "current_question",
    "default_handler",
    "open_answer_desk",
]


# Every Runtime loads this package, and an HTTP client takes longer to load than all the rest of it.
_LOADED_WHEN_USED = {
    "WebhookApprovalHandler": "webhook",
    "InboxApprovalHandler": "inbox",
    "AnswerDesk": "answer_desk",
    "Person": "answer_desk",
    "open_answer_desk": "answer_desk",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)
