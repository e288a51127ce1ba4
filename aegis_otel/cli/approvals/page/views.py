"""Render the pages.

Jinja2 escapes HTML; `escape` is applied to every value before, so that what a reader could not see, such as a
direction mark, is a visible escape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aegis_otel.cli.approvals.page.board import ListedQuestion
from aegis_otel.cli.approvals.page.shown_arguments import MOST_CHARS, show_arguments
from aegis_otel.cli.approvals.page.static_files import DIGEST
from aegis_otel.cli.approvals.question_text import question_facts
from aegis_otel.cli.approvals.wording import (
    givers,
    grant_words,
    iso,
    moment,
    status_words,
    to_you,
)
from aegis_otel.cli.rendering import plural
from aegis_otel.governance.approvals.entitlement import same_person
from aegis_otel.governance.approvals.inbox import (
    LONGEST_GRANT_S,
    Answer,
    Grant,
    GrantTerms,
    QuestionState,
    QuestionStatus,
)
from aegis_otel.governance.approvals.inbox_proofs import has_scope, judgement, proven_status
from aegis_otel.model import RiskLevel
from aegis_otel.redaction.terminal import escape, name_list
from aegis_otel.runtime.approval.answer_desk import LONGEST_REASON, AnswerDesk, Person, why_answer_is_ignored

PER_PAGE = 50


class GrantChoice(NamedTuple):
    """What a yes can be for."""

    terms: GrantTerms | None
    title: str


GRANTS = {
    "": GrantChoice(None, "this call only"),
    "conversation": GrantChoice(
        GrantTerms(),
        "this call, and such calls of any agent in the same conversation "
        f"for {LONGEST_GRANT_S / 3600:.0f} hours",
    ),
    "hour": GrantChoice(
        GrantTerms(3600.0, "time"),
        "this call, and such calls of any agent in all conversations of the user for an hour",
    ),
}
"""What a yes can be for, by the form's value."""
_ALARMING = {RiskLevel.HIGH.name, RiskLevel.CRITICAL.name}
_NAMED = re.compile("`([^`]+)`")
_LONGEST_SHORT = 120
_LONGEST_CUT = 2_000
_TONES: dict[QuestionStatus | None, str] = {
    QuestionStatus.APPROVED: "good",
    QuestionStatus.USED: "good",
    QuestionStatus.DENIED: "bad",
}


class Counts(NamedTuple):
    """The numbers in the head of the page."""

    yours: int
    waiting: int
    grants: int
    problem: str | None = None
    """Why they may be out of date."""


class PageReader(NamedTuple):
    """Whom a page is rendered for."""

    person: Person
    sign_form: Callable[[str, str], str]
    """Returns the token of a form, for its purpose and what it is to."""
    counts: Counts


class Views:
    """Renders pages for readers."""

    def __init__(self, desk: AnswerDesk) -> None:
        self._desk = desk
        self._environment = Environment(
            loader=PackageLoader(__package__ or ""),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {"assets": DIGEST, "plural": plural}
        self._environment.filters |= {
            "number": "{:,}".format, "iso": iso, "moment": moment, "short": _short, "cut": _cut,
            "bounded": _bounded, "names": name_list, "grant": grant_words, "status": self._status,
            "answerers": self._answerers, "givers": self._givers, "alarm": _alarm,
            "marked": _marked,
        }  # fmt: skip

    def list(self, reader: PageReader, listed: Sequence[ListedQuestion], tab: str, page: int) -> str:
        """Return the page of what waits.

        Args:
            reader: Who reads it.
            listed: All questions that wait.
            tab: `yours`, for those that the reader is to answer, or `all`.
            page: Which part of them, from 1.
        """
        chosen = [each for each in listed if tab == "all" or each.is_theirs]
        pages = max(1, -(-len(chosen) // PER_PAGE))
        page = min(page, pages)
        part = chosen[(page - 1) * PER_PAGE : page * PER_PAGE]
        what = "wait" if tab == "all" else "wait for you"
        none = "No question waits" if tab == "all" else "No question waits for you"
        one = "1 question waits" if tab == "all" else "1 question waits for you"
        heading = none if not chosen else one if len(chosen) == 1 else f"{len(chosen):,} questions {what}"
        return self._render(
            "list.html",
            reader,
            tab=tab,
            heading=heading,
            questions=[
                {**each.question._asdict(), "has_answered": each.has_answered, "why_not": each.why_not}
                for each in part
            ],
            page=page,
            pages=pages,
            page_path=lambda number: f"/?show={tab}&page={number}",
        )

    def question(
        self, reader: PageReader, state: QuestionState, *, whole: bool, problem: str | None = None
    ) -> str:
        """Return the page of one question.

        Args:
            reader: Who reads it.
            state: The question.
            whole: Show all of it, unless it is too large.
            problem: Why an answer that the reader gave counts for nothing.
        """
        asked, person = state.question.question, reader.person
        answers = self._desk.answers(state)
        requester = self._desk.requester(state.question.user_key, asked.user_id, person)
        terms = state.question.approvers, requester
        no_yes, no_no = (
            why_answer_is_ignored(*terms, person, approved=approved) for approved in (True, False)
        )
        is_waiting = state.status is QuestionStatus.WAITING and state.left_s != 0
        own = _own(answers, person)
        has_answered = own is not None
        headline, sentences = _standing(state, answers, person, self._status(state), is_waiting=is_waiting)
        no_key = self._desk.why_key_is_untrusted(state) if is_waiting else None
        if no_key is not None:
            sentences.append(f"No answer on this page counts for it: {no_key}.")
        elif is_waiting and no_yes is not None and not has_answered:
            sentences.append(f"You may not approve it: {to_you(no_yes, person)}.")
        may_answer = is_waiting and no_key is None
        grants = {
            value: title
            for value, (more, title) in GRANTS.items()
            if more is None or has_scope(state.question, more.scope)
        }
        arguments = show_arguments(asked.action_params, whole=whole)
        facts = _facts(state)
        shown = [value for part in facts.values() for _, value in part if value]
        size = arguments.size + sum(map(len, shown))
        is_too_large = arguments.is_too_large or size > MOST_CHARS
        longest = MOST_CHARS if whole and not is_too_large else _LONGEST_CUT
        return self._render(
            "question.html",
            reader,
            tab="",
            state=state,
            asked=asked,
            problem=problem,
            headline=headline,
            sentences=sentences,
            tone=_TONES.get(proven_status(state, answers), ""),
            is_waiting=is_waiting,
            waits=_WAITS[state.question.kind],
            may_approve=may_answer and no_yes is None and not has_answered,
            may_deny=may_answer and no_no is None and (own is None or own.approved),
            arguments=arguments.parts,
            facts=facts,
            longest=longest,
            size=size,
            hidden=arguments.hidden + sum(max(0, len(value) - longest) for value in shown),
            is_too_large=is_too_large,
            answers=answers,
            refused=self._desk.refused(asked.decision_id),
            grants=list(grants.items()),
            longest_reason=LONGEST_REASON,
        )

    def ended(
        self, reader: PageReader, states: Sequence[QuestionState], after: str | None, last: str | None
    ) -> str:
        """Return a page of questions that do not wait any more, the newest first.

        Args:
            reader: Who reads it.
            states: The questions.
            after: The id behind which they begin; None: it is the first page.
            last: The id behind which there are more; None: there are none.
        """
        return self._render("ended.html", reader, tab="ended", states=states, after=after, last=last)

    def grants(
        self, reader: PageReader, holding: Sequence[Grant], after: str | None, last: str | None
    ) -> str:
        """Return a page of the grants that hold.

        Args:
            reader: Who reads it.
            holding: The grants.
            after: The id behind which they begin; None: it is the first page.
            last: The id behind which there are more; None: there are none.
        """
        return self._render("grants.html", reader, tab="grants", holding=holding, after=after, last=last)

    def message(
        self, heading: str, sentences: Sequence[str] = (), link: tuple[str, str] | None = None
    ) -> str:
        """Return a page that only says something, for anybody: the link is a path and its words."""
        values = {"heading": heading, "sentences": sentences, "link": link}
        return self._environment.get_template("message.html").render(**values)

    def _render(self, name: str, reader: PageReader, **values: Any) -> str:
        return self._environment.get_template(name).render(**reader._asdict(), **values)

    def _status(self, state: QuestionState) -> str:
        return status_words(
            state, self._desk.answers(state), has_unknown_key=self._desk.has_unknown_key(state)
        )

    def _answerers(self, state: QuestionState) -> str:
        return name_list([each.approver for each in self._desk.answers(state)])

    def _givers(self, grant: Grant) -> str:
        answers = self._desk.answers(grant.state)
        return givers(answers, has_unknown_key=self._desk.has_unknown_key(grant.state))


_TAKEN = "The agent has taken the yes. Whether the call ran is in the agent's audit."
"""The yes may be followed by a limit that is used up, or by an error: the inbox hears of neither."""
_WAITS = {
    "inbox": "the agent's process waits for the answer",
    "sdk": "the run is saved; it goes on when somebody resumes it",
}


def _facts(state: QuestionState) -> dict[str, list[tuple[str, str | None]]]:
    """Return titles and texts of what a question says beside its arguments, by the section of the page."""
    sections: dict[str, list[tuple[str, str | None]]] = {"what": [], "who": [], "ids": []}
    for fact in question_facts(state):
        if fact.section:
            sections[fact.section].append((fact.title, fact.text))
    return sections


def _own(answers: Sequence[Answer], person: Person) -> Answer | None:
    """Return what a person has answered."""
    return next((each for each in answers if same_person(each.approver) == same_person(person.name)), None)


def _standing(
    state: QuestionState, answers: Sequence[Answer], person: Person, status: str, *, is_waiting: bool
) -> tuple[str, list[str]]:
    """Return where a question stands: a headline, and sentences below it.

    Args:
        state: The question.
        answers: Those that are proven.
        person: Who reads it.
        status: Where it stands, in words.
        is_waiting: Whether it takes an answer.
    """
    own = _own(answers, person)
    yes = name_list([each.approver for each in answers if each.approved])
    no = name_list([each.approver for each in answers if not each.approved])
    sentences = []
    if own is not None:
        takes_back = " You can take that back by a no." if own.approved and is_waiting else ""
        sentences.append(f"You {'approved' if own.approved else 'denied'} it.{takes_back}")
    if is_waiting:
        missing = judgement(state, answers).missing
        headline = "Waits for an answer" if missing <= 1 else f"Waits for {missing} more to say yes"
        if missing == 1 and yes:
            headline = "Waits for one more to say yes"
        if yes:
            sentences.append(f"Yes from {yes}.")
        return headline, sentences
    if state.status is QuestionStatus.WAITING:
        return "Expired: nobody answered in time", sentences
    if proven_status(state, answers) is None:
        return _sentence_case(status), sentences
    if state.status is QuestionStatus.APPROVED:
        goes_on = "The agent will go on." if state.question.kind == "inbox" else "The run can be resumed."
        return f"Approved by {yes}", [*sentences, goes_on]
    if state.status is QuestionStatus.USED:
        return f"Approved by {yes}", [*sentences, _TAKEN]
    if state.status is QuestionStatus.DENIED:
        return f"Denied by {no}", sentences
    return _sentence_case(status), sentences


def _marked(words: str) -> Markup:
    """Return a sentence of ours as HTML, with code where it has names between backticks."""
    parts = _NAMED.split(escape(words))
    return Markup().join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def _sentence_case(words: str) -> str:
    """Return words that begin with a capital letter; names in them stay as they are."""
    return f"{words[:1].upper()}{words[1:]}"


def _visible(value: Any) -> Any:
    return value if isinstance(value, Markup) else escape(str(value))


def _alarm(risk: str | None) -> str:
    """Return the class of a risk: a value of the inbox never becomes one itself."""
    return "alarm" if risk in _ALARMING else ""


def _short(value: str | None) -> str:
    return _bounded(value, _LONGEST_SHORT)


def _cut(value: str) -> str:
    return _bounded(value, _LONGEST_CUT)


def _bounded(value: str | None, longest: int) -> str:
    if not value:
        return "\N{EN DASH}"
    return (
        value
        if len(value) <= longest
        else f"{value[:longest]}\N{HORIZONTAL ELLIPSIS} ({len(value):,} characters)"
    )
