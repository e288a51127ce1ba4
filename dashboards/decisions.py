"""Decisions and policy: which rule decides what, which never does, and what the policy was when."""

from __future__ import annotations

from typing import Any

from aegis_otel import semconv
from aegis_otel.model import DEFAULT_RULE, ERROR_RULE
from dashboards import panels
from dashboards.board import Board, Section
from dashboards.panels import Words
from dashboards.queries import (
    Query,
    count,
    counted,
    events,
    increase,
    legend,
    line,
    or_zero,
    quantile,
    rate,
    share,
)
from dashboards.signals import (
    AGENT,
    APPROVAL,
    DECISIONS,
    DIGEST,
    EVALUATION,
    JOB,
    MODE,
    OPERATION,
    OUTCOME,
    RELOAD,
    RELOADS,
    RISK,
    RULE,
    SPAN_CALLS,
    TOOL,
)

DEFAULT = {RULE: DEFAULT_RULE}
GOVERNED = {OPERATION: semconv.GOVERN_TOOL}


def decisions() -> Board:
    return Board(
        uid="aegis-decisions",
        title="Aegis: decisions and policy",
        purpose="Which rule decided what, which rules never do, and what falls through to the default.",
        sections=[
            Section("Rules", _rules()),
            Section("Tools and agents", _tools()),
            Section("The policy itself", _policy()),
            Section("Monitor mode: what would have been", _monitor()),
            Section("Speed", _speed()),
        ],
        since="now-24h",
    )


def _rules() -> list[panels.Placed]:
    hits = counted(DECISIONS.shown(), RULE)
    return [
        panels.bars(
            "Calls decided by each rule",
            Words(
                "How often each rule of the loaded policies decided in the time range.",
                f"`{DEFAULT_RULE}` near the top (calls nobody wrote a rule for), or `{ERROR_RULE}` at all.",
                "Write rules for what falls through; `aegis policy check` finds tools without one.",
            ),
            Query(f"sort_desc({hits})", legend(RULE), at_end=True),
            height=10,
        ),
        panels.rows(
            "Rules that decided nothing",
            Words(
                "Rules of loaded policies that no call met in the time range.",
                "A rule you rely on: a rule before it takes its calls, or its pattern has a mistake.",
                "`aegis policy check FILE` names shadowed rules and the rule that takes their calls.",
            ),
            Query(f"({counted(DECISIONS.shown(), RULE, RISK, APPROVAL)}) == 0", at_end=True, table=True),
            steps=_columns({RULE: "rule", RISK: "risk", APPROVAL: "asks for"}, hidden=("Time", "Value")),
            width=12,
        ),
        panels.lines(
            "Decisions by rule",
            Words(
                "Decisions a second, by rule.",
                "A blocking rule that begins to rise, or one that suddenly has nothing.",
                "Rising: look at its calls in the audit trail. Nothing: was the policy changed (marks)?",
            ),
            Query(rate(DECISIONS.shown(), RULE), legend(RULE)),
            unit="cps",
        ),
        panels.lines(
            "Share that no rule decides",
            Words(
                "Share of calls that fall through to the policy's default.",
                "Above a tenth: the policy does not know what its agents do.",
                "See the tools below and write rules for them.",
            ),
            Query(
                share(rate(DECISIONS.shown(DEFAULT), JOB), rate(DECISIONS.shown({RULE: "~.+"}), JOB)),
                legend(JOB),
            ),
            unit="percentunit",
        ),
        panels.lines(
            "Decisions by what the rule asks for",
            Words(
                "Decisions a second, by `auto`, `approve` and `block`.",
                "`approve` growing faster than people can answer.",
                "Give harmless calls a rule with `auto`; see Approvals for the waits.",
            ),
            Query(rate(DECISIONS.shown(), APPROVAL), legend(APPROVAL)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Calls the policy could not decide",
            Words(
                f"Decisions of the rule `{ERROR_RULE}`: governance failed and the call was stopped.",
                "Any.",
                "Runbook of AegisGovernanceFailing: the reason is on the event and in the process's log.",
            ),
            Query(rate(DECISIONS.shown({RULE: ERROR_RULE}), JOB), legend(JOB)),
            unit="cps",
        ),
    ]


def _tools() -> list[panels.Placed]:
    met = count(events(semconv.EVENT_DECISION), TOOL, RULE, window="$__range")
    fallen = count(events(semconv.EVENT_DECISION, DEFAULT), TOOL, window="$__range")
    return [
        panels.rows(
            "Tool by rule",
            Words(
                "How many calls of each tool each rule decided.",
                "A dangerous tool in the column of a permissive rule.",
                "Narrow that rule's pattern, and check the policy with `aegis policy check FILE`.",
            ),
            Query(met, store="loki", at_end=True),
            steps=[
                (
                    "reduce",
                    {"mode": "seriesToRows", "reducers": ["lastNotNull"], "labelsToFields": True},
                ),
                ("groupingToMatrix", {"columnField": RULE, "rowField": TOOL, "valueField": "Last *"}),
            ],
            width=16,
        ),
        panels.bars(
            "Tools that no rule names",
            Words(
                "Calls in the time range that only the default decided, by tool.",
                "Any tool that can do harm.",
                "Write a rule for it, even if it says what the default says.",
            ),
            Query(f"topk(15, {fallen})", legend(TOOL), store="loki", at_end=True),
            width=8,
            height=10,
        ),
        panels.lines(
            "Outcomes by tool",
            Words(
                "Governed calls a second, by tool and outcome, from spans counted before sampling.",
                "A tool whose outcomes change from allowed to blocked.",
                "Was the policy loaded anew (marks), or do arguments differ? Read one call.",
            ),
            Query(rate(SPAN_CALLS.shown(GOVERNED), TOOL, OUTCOME), legend(TOOL, OUTCOME)),
            unit="cps",
        ),
        panels.lines(
            "Outcomes by agent",
            Words(
                "Governed calls a second, by agent and outcome.",
                "An agent whose calls are suddenly stopped.",
                "Read its newest conversation in the audit trail.",
            ),
            Query(rate(SPAN_CALLS.shown(GOVERNED), AGENT, OUTCOME), legend(AGENT, OUTCOME)),
            unit="cps",
        ),
    ]


def _policy() -> list[panels.Placed]:
    changes = f"{semconv.EVENT_POLICY_LOADED}|{semconv.EVENT_POLICY_LOAD_FAILED}"
    return [
        panels.states(
            "Policy in force",
            Words(
                "Which policy, by its digest, decided calls when. Two at once: a roll-out under way.",
                "Two for longer than a roll-out takes: some processes have an old policy.",
                "`aegis doctor` in the odd one: which file does it load?",
            ),
            Query(f"{count(events(semconv.EVENT_DECISION), DIGEST)} > bool 0", legend(DIGEST), store="loki"),
        ),
        panels.lines(
            "Reloads",
            Words(
                "Changes of watched policy files, by whether they came into force or were refused.",
                "Refused: the old policy is still in force, and somebody believes otherwise.",
                "`aegis policy check FILE` says file, line and what is wrong.",
            ),
            Query(increase(RELOADS.shown(), RELOAD, window="$__rate_interval"), legend(RELOAD)),
            bars=True,
        ),
        panels.log(
            "Policies loaded and refused",
            Words(
                "Each policy that came into force or was refused, with its files and digest.",
                "A refusal, or a load that nobody announced.",
                "Compare with the history of the policy's repository.",
            ),
            Query(
                events(changes, narrowed=False)
                + line("event_name", "aegis_policy_source", DIGEST, "error_type"),
                store="loki",
            ),
            width=12,
            height=8,
        ),
    ]


def _monitor() -> list[panels.Placed]:
    would = DECISIONS.shown({MODE: "monitor", APPROVAL: "~approve|block"})
    return [
        panels.number(
            "Ran although the policy says no",
            Words(
                "Calls in monitor mode that enforcement would have stopped or asked about.",
                "Any, once you meant to enforce: monitor mode stops nothing.",
                "Read them below; when they are right, set the mode to `enforce`.",
            ),
            Query(or_zero(counted(would)), at_end=True),
            yellow_from=1,
            width=6,
            height=8,
        ),
        panels.lines(
            "What enforcement would do",
            Words(
                "Monitor-mode calls a second that would be asked about or blocked, by rule.",
                "A rule that would stop work that is needed.",
                "Mend the rule before you enforce.",
            ),
            Query(rate(would, RULE, APPROVAL), legend(RULE, APPROVAL)),
            unit="cps",
            width=18,
        ),
    ]


def _speed() -> list[panels.Placed]:
    return [
        panels.heat(
            "How long decisions take",
            Words(
                "How many decisions took how long. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "A second band above a millisecond.",
                "Find the rule with `param_matches` on large arguments.",
            ),
            Query(rate(EVALUATION.shown(), "le"), "{{le}}"),
            unit="s",
        ),
        panels.lines(
            "99th percentile by outcome",
            Words(
                "Slowest hundredth of decisions, by outcome. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "Above ten milliseconds for ten minutes: AegisPolicyEvaluationSlow fires.",
                "Its runbook.",
            ),
            Query(quantile(0.99, EVALUATION, OUTCOME), legend(OUTCOME)),
            unit="s",
        ),
    ]


def _columns(names: dict[str, str], hidden: tuple[str, ...] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Columns by the names people use, in that order, and without `hidden`."""
    order = {name: number for number, name in enumerate(names)}
    drop = dict.fromkeys(hidden, True)
    return [("organize", {"renameByName": names, "indexByName": order, "excludeByName": drop})]
