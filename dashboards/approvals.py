"""Approvals: who waits, for how long, and what people answer."""

from __future__ import annotations

from aegis_otel import semconv
from dashboards import panels
from dashboards.board import Board, Section
from dashboards.panels import Words
from dashboards.queries import (
    Query,
    count,
    counted,
    events,
    highest,
    legend,
    line,
    or_zero,
    quantile,
    rate,
    share,
    span,
    spans,
    total,
)
from dashboards.signals import (
    AGENT,
    ANSWER,
    APPROVAL,
    APPROVAL_WAIT,
    CHANNEL,
    DECISION,
    DECISIONS,
    GRANT,
    INBOX,
    INBOX_ENDED,
    INBOX_GRANTS,
    INBOX_LONGEST_WAIT,
    INBOX_REFUSED,
    INBOX_WAITING,
    JOB,
    OUTCOME,
    PENDING,
    QUESTION_STATUS,
    REFUSAL,
    RULE,
    TOOL,
    WAIT,
)

ASKED = {APPROVAL: "approve"}


def approvals() -> Board:
    return Board(
        uid="aegis-approvals",
        title="Aegis: approvals",
        purpose="Calls that need a human's approval: which wait now, how long answers take, what they are.",
        sections=[
            Section("Now", _now()),
            Section("Inbox", _inbox()),
            Section("Waiting times", _waits()),
            Section("Answers", _answers()),
            Section("Requests", _asked()),
        ],
        since="now-24h",
    )


def _now() -> list[panels.Placed]:
    expired = counted(DECISIONS.shown({OUTCOME: "expired"}))
    asked = counted(DECISIONS.shown(ASKED))
    return [
        panels.number(
            "Waiting now",
            Words(
                "Calls that wait for a human's answer now, inside a handler. Those of paused runs are in "
                "*Questions in the inbox*.",
                "More than five: these agents stand still (AegisApprovalBacklog).",
                "Answer them in their channel; `aegis audit --status pending` on the host lists them.",
            ),
            Query(or_zero(total(PENDING.shown()))),
            yellow_from=1,
            red_from=6,
            spark=True,
            width=6,
        ),
        panels.number(
            "Not answered in time",
            Words(
                "Share of the calls with a request for approval that expired.",
                "Above a fifth: nobody watches the channel, and calls that wait in their process are denied "
                "(AegisApprovalExpiry).",
                "Find the approver of that channel first; a longer timeout helps only late answers.",
            ),
            Query(share(expired, asked), at_end=True),
            unit="percentunit",
            yellow_from=0.05,
            red_from=0.2,
            width=6,
        ),
        panels.number(
            "Denied",
            Words(
                "Share of the calls with a request for approval that were denied.",
                "Near 100 %: the rule could block instead. Near 0 % for weeks: the rule could say `auto`.",
                "Change the rule whose requests always get the same answer.",
            ),
            Query(share(counted(DECISIONS.shown({OUTCOME: "denied"})), asked), at_end=True),
            unit="percentunit",
            width=6,
        ),
        panels.number(
            "Median waiting time",
            Words(
                "Half of the answers in the time range came faster than this.",
                "Near the approval timeout (300 s unless set otherwise).",
                "Add approvers, or reduce the requests.",
            ),
            Query(
                f"histogram_quantile(0.5, {counted(APPROVAL_WAIT.shown(), 'le')})",
                at_end=True,
            ),
            unit="s",
            width=6,
        ),
    ]


def _inbox() -> list[panels.Placed]:
    ended = f"increase({INBOX_ENDED.shown()}[$__range])"
    happened = "|".join(
        (
            semconv.EVENT_ANSWER_GIVEN,
            semconv.EVENT_ANSWER_REFUSED,
            semconv.EVENT_QUESTION_EXPIRED,
            semconv.EVENT_GRANT_GIVEN,
            semconv.EVENT_GRANT_USED,
            semconv.EVENT_GRANT_REVOKED,
        )
    )
    refused = f"increase({INBOX_REFUSED.shown()}[$__range])"
    return [
        panels.lines(
            "Questions in the inbox",
            Words(
                "Questions that wait in each inbox, those of paused runs as well. All processes that use an "
                "inbox report the same, so this is the maximum.",
                "A level above five that does not fall (AegisApprovalBacklog).",
                "Answer them on the page of approvals; `aegis approvals list` shows them.",
            ),
            Query(highest(INBOX_WAITING.shown(), INBOX), legend(INBOX)),
        ),
        panels.lines(
            "How long the oldest question waits",
            Words(
                "Age of the oldest question that waits in each inbox.",
                "A line that rises for hours: nobody answers that one.",
                "`aegis approvals list` has it first: find who may answer it.",
            ),
            Query(highest(INBOX_LONGEST_WAIT.shown(), INBOX), legend(INBOX)),
            unit="s",
        ),
        panels.bars(
            "How questions in the inbox ended",
            Words(
                "Questions that ended in the time range: used (a yes), denied, expired, withdrawn.",
                "Most are expired (AegisApprovalExpiry), or withdrawn: the runs were given up.",
                "Find the approver; or give the rule a longer `expires`.",
            ),
            Query(
                total(highest(ended, INBOX, QUESTION_STATUS), QUESTION_STATUS),
                legend(QUESTION_STATUS),
                at_end=True,
            ),
            width=8,
        ),
        panels.number(
            "Refused answers",
            Words(
                "Answers in the time range that count for nothing: of somebody who may not answer, too late, "
                "given twice, forged.",
                "Any number above a few: people answer what is not theirs, or somebody tries to get in.",
                "`aegis approvals show ID` and the events below say whose they were and why.",
            ),
            Query(or_zero(total(highest(refused, INBOX))), at_end=True),
            yellow_from=1,
            width=8,
            height=8,
        ),
        panels.number(
            "Grants that hold",
            Words(
                "Grants by which calls need no question for now.",
                "More than anybody remembers to have given.",
                "`aegis approvals list` shows them; `aegis approvals revoke ID` ends one.",
            ),
            Query(or_zero(total(highest(INBOX_GRANTS.shown(), INBOX)))),
            width=8,
            height=8,
        ),
        panels.log(
            "What happened in the inbox",
            Words(
                "Each answer that was given or refused on the page or in a program, each question that "
                "expired, and each grant, newest first.",
                "`aegis.inbox.answer_refused` again and again.",
                "`aegis approvals show ID` says whose answer it was.",
            ),
            Query(
                events(happened) + line("event_name", DECISION, ANSWER, REFUSAL, GRANT, INBOX), store="loki"
            ),
        ),
    ]


def _waits() -> list[panels.Placed]:
    return [
        panels.lines(
            "Waiting calls by service",
            Words(
                "Calls that wait for an answer, by service.",
                "A level that does not fall: the same calls wait for hours.",
                "Find the oldest request without an answer below.",
            ),
            Query(total(PENDING.shown(), JOB), legend(JOB)),
            stacked=True,
        ),
        panels.lines(
            "How long answers take",
            Words(
                "50th and 95th percentile of the waiting time for an answer.",
                "The upper line near the timeout: many requests expire.",
                "Compare the channels: does somebody watch each of them?",
            ),
            *(Query(quantile(q, APPROVAL_WAIT), f"p{round(q * 100)}", exemplars=True) for q in (0.5, 0.95)),
            unit="s",
        ),
        panels.heat(
            "Distribution of waiting times",
            Words(
                "How many answers took how long.",
                "A band at the timeout: these requests had no answer.",
                "Send the requests to a channel that somebody watches.",
            ),
            Query(rate(APPROVAL_WAIT.shown(), "le"), "{{le}}"),
            unit="s",
        ),
        panels.lines(
            "95th percentile of waiting times by channel",
            Words(
                "95th percentile of the waiting time, by the channel of the request.",
                "One channel far above the others.",
                "Check that its bot or page works and that somebody is on duty.",
            ),
            Query(quantile(0.95, APPROVAL_WAIT, CHANNEL), legend(CHANNEL)),
            unit="s",
        ),
    ]


def _answers() -> list[panels.Placed]:
    failed = spans(span(semconv.DECISION_OUTCOME, "approved"), "status = error", select=_FAILED)
    return [
        panels.lines(
            "Answers",
            Words(
                "Answers per second: approved, denied, expired, or error where the request itself failed.",
                "Yellow (expired) or purple (error) grows.",
                "For errors read the reason on the decision event: the handler raised.",
            ),
            Query(rate(APPROVAL_WAIT.shown(part="count"), ANSWER), legend(ANSWER)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Answers by channel",
            Words(
                "Answers per second, by channel and answer.",
                "A channel with nothing but `expired`.",
                "Nobody watches it: send the requests to another channel.",
            ),
            Query(
                rate(APPROVAL_WAIT.shown(part="count"), CHANNEL, ANSWER),
                legend(CHANNEL, ANSWER),
            ),
            unit="cps",
        ),
        panels.rows(
            "Approved calls that failed",
            Words(
                "Calls that a human approved and whose tool then failed.",
                "The same tool again and again: people approve calls that cannot work.",
                "Open the trace and inform the owner of the tool.",
            ),
            Query(failed, store="tempo", limit=50),
            height=8,
        ),
    ]


_FAILED = (
    semconv.GEN_AI_TOOL_NAME,
    semconv.GEN_AI_AGENT_NAME,
    semconv.POLICY_RULE_NAME,
    semconv.ERROR_TYPE,
    semconv.DECISION_ID,
)


def _asked() -> list[panels.Placed]:
    both = f"{semconv.EVENT_APPROVAL_REQUESTED}|{semconv.EVENT_APPROVAL_RESOLVED}"
    return [
        panels.bars(
            "Rules with the most requests",
            Words(
                "Calls with a request for approval in the time range, by rule.",
                "One rule makes most of the requests: people stop reading them.",
                "Split it: `auto` for what is always approved, `block` for what is always denied.",
            ),
            Query(f"topk(10, {counted(DECISIONS.shown(ASKED), RULE)})", legend(RULE), at_end=True),
            width=8,
        ),
        panels.bars(
            "Agents with the most requests",
            Words(
                "Requests for approval in the time range, by agent.",
                "An agent that needs approval all day: it does not save anybody work.",
                "Give it tools that need no approval, or a rule of its own.",
            ),
            Query(
                f"topk(10, {count(events(semconv.EVENT_APPROVAL_REQUESTED), AGENT, window='$__range')})",
                legend(AGENT),
                store="loki",
                at_end=True,
            ),
            width=8,
        ),
        panels.bars(
            "Tools with the most requests",
            Words(
                "Requests for approval in the time range, by tool.",
                "A tool that only reads.",
                "Give it a rule with `auto`.",
            ),
            Query(
                f"topk(10, {count(events(semconv.EVENT_APPROVAL_REQUESTED), TOOL, window='$__range')})",
                legend(TOOL),
                store="loki",
                at_end=True,
            ),
            width=8,
        ),
        panels.log(
            "Requests and answers",
            Words(
                "Each request and each answer, newest first. A request whose id has no answer still waits.",
                "A request without an answer for hours.",
                "Run `aegis audit --status pending` on the host; `aegis audit show ID` has the arguments.",
            ),
            Query(
                events(both) + line("event_name", TOOL, AGENT, RULE, CHANNEL, ANSWER, WAIT, DECISION),
                store="loki",
            ),
        ),
    ]
