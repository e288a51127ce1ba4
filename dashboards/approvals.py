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
    JOB,
    OUTCOME,
    PENDING,
    RULE,
    TOOL,
    WAIT,
)

ASKED = {APPROVAL: "approve"}


def approvals() -> Board:
    return Board(
        uid="aegis-approvals",
        title="Aegis: approvals",
        purpose="Calls that ask a human: who waits now, how long answers take, what they are.",
        sections=[
            Section("Now", _now()),
            Section("Waiting", _waits()),
            Section("Answers", _answers()),
            Section("What is asked", _asked()),
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
                "Calls that wait for an answer now.",
                "More than five: agents stand still (AegisApprovalBacklog).",
                "Answer them where they are asked; the table below says what they are.",
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
                "Share of the calls that ask a human which expired.",
                "Above a fifth: nobody is looking, and agents give up (AegisApprovalExpiry).",
                "Find who should answer in that channel; lengthen the timeout only then.",
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
                "Share of the calls that ask a human which were denied.",
                "Near everything: the rule might as well block. Near nothing for weeks: it might be `auto`.",
                "Change the rule that asks for what is always answered the same.",
            ),
            Query(share(counted(DECISIONS.shown({OUTCOME: "denied"})), asked), at_end=True),
            unit="percentunit",
            width=6,
        ),
        panels.number(
            "Median wait",
            Words(
                "Half of the answers in the time range took less than this.",
                "Near the approval timeout (300 s unless set otherwise).",
                "Ask more people, or fewer questions.",
            ),
            Query(
                f"histogram_quantile(0.5, {counted(APPROVAL_WAIT.shown(), 'le')})",
                at_end=True,
            ),
            unit="s",
            width=6,
        ),
    ]


def _waits() -> list[panels.Placed]:
    return [
        panels.lines(
            "Waiting, by service",
            Words(
                "Calls that wait for an answer, by service.",
                "A plateau that does not come down: the same calls wait for hours.",
                "Find the oldest below: a request without a resolution.",
            ),
            Query(total(PENDING.shown(), JOB), legend(JOB)),
            stacked=True,
        ),
        panels.lines(
            "How long answers take",
            Words(
                "50th and 95th percentile of the wait for an answer.",
                "The upper line near the timeout: many expire.",
                "Look at the channels: is one of them not watched?",
            ),
            *(Query(quantile(q, APPROVAL_WAIT), f"p{round(q * 100)}", exemplars=True) for q in (0.5, 0.95)),
            unit="s",
        ),
        panels.heat(
            "Waits",
            Words(
                "How many answers took how long.",
                "A band at the timeout: those had no answer.",
                "Move the question to a channel that somebody watches.",
            ),
            Query(rate(APPROVAL_WAIT.shown(), "le"), "{{le}}"),
            unit="s",
        ),
        panels.lines(
            "95th percentile by channel",
            Words(
                "Slowest twentieth of the answers, by where the human was asked.",
                "One channel far above the others.",
                "Is its bot up, its page open, its rota filled?",
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
                "Answers a second: approved, denied, expired, or the asking itself failed.",
                "Yellow (expired) or purple (error) growing.",
                "Purple: the handler raised; the reason is on the decision event.",
            ),
            Query(rate(APPROVAL_WAIT.shown(part="count"), ANSWER), legend(ANSWER)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Answers by channel",
            Words(
                "Answers a second, by where the human was asked and what came of it.",
                "A channel with nothing but `expired`.",
                "Nobody listens there: send the questions elsewhere.",
            ),
            Query(
                rate(APPROVAL_WAIT.shown(part="count"), CHANNEL, ANSWER),
                legend(CHANNEL, ANSWER),
            ),
            unit="cps",
        ),
        panels.rows(
            "Approved, and then it failed",
            Words(
                "Calls that a human approved and whose tool then raised.",
                "The same tool again and again: people approve what cannot work.",
                "Open the trace; tell the owner of the tool.",
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
            "Rules that ask most",
            Words(
                "Calls that asked a human in the time range, by rule.",
                "One rule that makes most of the questions: people stop reading them.",
                "Split it: `auto` for what is always approved, `block` for what is always denied.",
            ),
            Query(f"topk(10, {counted(DECISIONS.shown(ASKED), RULE)})", legend(RULE), at_end=True),
            width=8,
        ),
        panels.bars(
            "Agents that ask most",
            Words(
                "Requests for approval in the time range, by agent.",
                "An agent that asks all day: it does not work on its own.",
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
            "Tools that ask most",
            Words(
                "Requests for approval in the time range, by tool.",
                "A tool that reads only, among them.",
                "Let it run by `auto`.",
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
                "Each request and each answer, newest first. One without an answer of its id waits.",
                "A request that is hours old and has no answer.",
                "`aegis audit --status pending` lists them with their arguments.",
            ),
            Query(
                events(both) + line("event_name", TOOL, AGENT, RULE, CHANNEL, ANSWER, WAIT, DECISION),
                store="loki",
            ),
        ),
    ]
