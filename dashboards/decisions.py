"""Decisions and policy: which rule decides what, which never does, and what the policy was when."""

from __future__ import annotations

from typing import Any

from aegis_otel import semconv
from aegis_otel.model import DEFAULT_RULE, ERROR_RULE, Approval
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
    total,
)
from dashboards.signals import (
    AGENT,
    APPROVAL,
    CANDIDATE_APPROVAL,
    CANDIDATE_DECISIONS,
    CANDIDATE_ERRORS,
    CANDIDATE_RULE,
    DECISIONS,
    DIGEST,
    EVALUATION,
    JOB,
    KIND,
    LIMIT_USAGE,
    MODE,
    OPERATION,
    OUTCOME,
    POLICY_REFUSED,
    RELOAD,
    RELOADS,
    RISK,
    RULE,
    SPAN_CALLS,
    STATE_ERRORS,
    TOOL,
)

DEFAULT = {RULE: DEFAULT_RULE}
GOVERNED = {OPERATION: semconv.GOVERN_TOOL}


def decisions() -> Board:
    return Board(
        uid="aegis-decisions",
        title="Aegis: decisions and policy",
        purpose="Which rule decided which calls, which rules decided none, and what the default decided.",
        sections=[
            Section("Rules", _rules()),
            Section("Tools and agents", _tools()),
            Section("Policy files", _policy()),
            Section("Monitor mode", _monitor()),
            Section("Candidate policy", _candidate()),
            Section("Limits", _limits()),
            Section("Latency", _speed()),
        ],
        since="now-24h",
    )


def _rules() -> list[panels.Placed]:
    hits = counted(DECISIONS.shown(), RULE)
    return [
        panels.bars(
            "Calls by rule",
            Words(
                "How many calls each rule of the loaded policies decided in the time range.",
                f"`{DEFAULT_RULE}` near the top: many calls match no rule. Any call of `{ERROR_RULE}`.",
                "Write rules for them; `aegis policy check FILE --tools TOOLS.json` finds tools without one.",
            ),
            Query(f"sort_desc({hits})", legend(RULE), at_end=True),
            height=10,
        ),
        panels.rows(
            "Rules without calls",
            Words(
                "Rules of the loaded policies that decided no call in the time range.",
                "A rule that you rely on: an earlier rule takes its calls, or its pattern is wrong.",
                "Run `aegis policy check FILE`: it names shadowed rules and the rules that take their calls.",
            ),
            Query(f"({counted(DECISIONS.shown(), RULE, RISK, APPROVAL)}) == 0", at_end=True, table=True),
            steps=_columns({RULE: "rule", RISK: "risk", APPROVAL: "asks for"}, hidden=("Time", "Value")),
            width=12,
        ),
        panels.lines(
            "Decisions by rule",
            Words(
                "Decisions per second, by rule.",
                "A blocking rule rises, or a rule drops to zero.",
                "If it rises, read its calls in Audit trail. At zero, check the marks for a policy change.",
            ),
            Query(rate(DECISIONS.shown(), RULE), legend(RULE)),
            unit="cps",
        ),
        panels.lines(
            "Share of calls without a rule",
            Words(
                "Share of calls that the policy's default decided.",
                "Above a tenth: the policy does not cover what the agents do.",
                "Write rules for the tools below.",
            ),
            Query(
                share(rate(DECISIONS.shown(DEFAULT), JOB), rate(DECISIONS.shown({RULE: "~.+"}), JOB)),
                legend(JOB),
            ),
            unit="percentunit",
        ),
        panels.lines(
            "Decisions by approval setting",
            Words(
                "Decisions per second, by the rule's setting: `auto`, `approve` or `block`.",
                "`approve` grows faster than people can answer.",
                "Give harmless calls a rule with `auto`; Approvals shows the waits.",
            ),
            Query(rate(DECISIONS.shown(), APPROVAL), legend(APPROVAL)),
            unit="cps",
            stacked=True,
        ),
        panels.lines(
            "Calls that the policy could not decide",
            Words(
                f"Decisions per second by the rule `{ERROR_RULE}`: governance failed and stopped the call.",
                "Any value above zero.",
                "Follow the runbook of AegisGovernanceFailing; event and process log have the reason.",
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
            "Calls by tool and rule",
            Words(
                "How many calls of each tool each rule decided.",
                "A dangerous tool in the column of a permissive rule.",
                "Narrow the rule's pattern, then run `aegis policy check FILE`.",
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
            "Tools without a rule",
            Words(
                "Calls in the time range that the policy's default decided, by tool.",
                "A tool that can do harm.",
                "Write a rule for it, even if the rule says the same as the default.",
            ),
            Query(f"topk(15, {fallen})", legend(TOOL), store="loki", at_end=True),
            width=8,
            height=10,
        ),
        panels.lines(
            "Outcomes by tool",
            Words(
                "Governed calls per second, by tool and outcome, counted from spans before sampling.",
                "A tool changes from allowed to blocked.",
                "Check the marks for a policy change; read one call for its arguments.",
            ),
            Query(rate(SPAN_CALLS.shown(GOVERNED), TOOL, OUTCOME), legend(TOOL, OUTCOME)),
            unit="cps",
        ),
        panels.lines(
            "Outcomes by agent",
            Words(
                "Governed calls per second, by agent and outcome.",
                "An agent's calls are suddenly stopped.",
                "Read its newest conversation in Audit trail.",
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
                "Which policy decided calls at which time, by digest. Two at once mean a roll-out.",
                "Two for longer than a roll-out takes: some processes have an old policy.",
                "Run `aegis doctor` on the host with the old policy: it names the file that is loaded.",
            ),
            Query(f"{count(events(semconv.EVENT_DECISION), DIGEST)} > bool 0", legend(DIGEST), store="loki"),
        ),
        panels.lines(
            "Policy reloads",
            Words(
                "Changes of watched policy files, loaded or refused.",
                "A refused change: the old policy is still in force, although somebody has changed it.",
                "Run `aegis policy check FILE`: it names line and problem.",
            ),
            Query(increase(RELOADS.shown(), RELOAD, window="$__rate_interval"), legend(RELOAD)),
            bars=True,
        ),
        panels.lines(
            "Policies refused now",
            Words(
                "Processes in which the watched files are refused as they are, of a policy or a candidate.",
                "Anything above zero: an older policy is in force there (AegisPolicyLoadFailed).",
                "Run `aegis policy check FILE`, fix the file and save it.",
            ),
            Query(total(POLICY_REFUSED.shown(), JOB, KIND), legend(JOB, KIND)),
        ),
        panels.log(
            "Policies loaded and refused",
            Words(
                "Each policy that was loaded or refused, with its files and digest.",
                "A refused policy, or a load that nobody announced.",
                "Compare it with the history of the policy's repository.",
            ),
            Query(
                events(changes, narrowed=False)
                + line("event_name", "aegis_policy_source", DIGEST, "error_type"),
                store="loki",
            ),
            height=8,
        ),
    ]


def _monitor() -> list[panels.Placed]:
    would = DECISIONS.shown({MODE: "monitor", APPROVAL: "~approve|block"})
    return [
        panels.number(
            "Calls that enforcement would have stopped",
            Words(
                "Calls in monitor mode that would have been blocked or would have needed approval.",
                "Any value above zero where you expect enforcement: monitor mode stops nothing.",
                "Check the rules beside it; if they are right, set the mode to `enforce`.",
            ),
            Query(or_zero(counted(would)), at_end=True),
            yellow_from=1,
            width=6,
            height=8,
        ),
        panels.lines(
            "What enforcement would do, by rule",
            Words(
                "Calls per second in monitor mode that would be blocked or would need approval, by rule.",
                "A rule that would stop necessary work.",
                "Fix the rule before you enforce.",
            ),
            Query(rate(would, RULE, APPROVAL), legend(RULE, APPROVAL)),
            unit="cps",
            width=18,
        ),
    ]


def _candidate() -> list[panels.Placed]:
    change = (APPROVAL, CANDIDATE_APPROVAL, CANDIDATE_RULE)
    different = " or ".join(
        increase(
            CANDIDATE_DECISIONS.shown({APPROVAL: each, CANDIDATE_APPROVAL: f"!{each}"}),
            *change,
            window="$__rate_interval",
        )
        for each in Approval
    )
    return [
        panels.lines(
            "What the candidate would decide otherwise",
            Words(
                "Calls that the candidate policy would decide otherwise: what the policy asks for, what the "
                "candidate would, and by which of its rules.",
                "A call that is asked about or blocked today, and would not be any more.",
                "Follow the runbook of AegisCandidateWouldLoosen.",
            ),
            Query(different, legend(*change)),
            bars=True,
            width=18,
        ),
        panels.number(
            "Failures of the candidate",
            Words(
                "Candidates that could not be loaded, and calls about which one could not be asked.",
                "Any value above zero: the comparison beside it is not complete.",
                "The process log has the reason; `aegis policy check FILE` names line and problem.",
            ),
            Query(or_zero(counted(CANDIDATE_ERRORS.shown())), at_end=True),
            yellow_from=1,
            width=6,
            height=8,
        ),
    ]


def _limits() -> list[panels.Placed]:
    return [
        panels.lines(
            "How much of each limit is used",
            Words(
                "Of the calls that a limit was asked about, the 99th percentile of the share of the limit "
                "that was used with the call; above 100 % the limit holds.",
                "A line that comes near 100 %: soon calls are blocked or asked about.",
                "If the work is wanted, raise `limit` of the rule; else find the agent that repeats itself.",
            ),
            Query(quantile(0.99, LIMIT_USAGE, RULE), legend(RULE)),
            unit="percentunit",
            width=18,
        ),
        panels.number(
            "Failures of the shared state",
            Words(
                "Uses of the state that processes share that failed.",
                "Any value above zero: calls under limits and sequences are refused meanwhile.",
                "Follow the runbook of AegisStateUnavailable.",
            ),
            Query(or_zero(counted(STATE_ERRORS.shown())), at_end=True),
            yellow_from=1,
            width=6,
            height=8,
        ),
    ]


def _speed() -> list[panels.Placed]:
    return [
        panels.heat(
            "How long decisions take",
            Words(
                "Distribution of policy evaluation times. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "A second band above a millisecond.",
                "Find the rule that uses `param_matches` on large arguments.",
            ),
            Query(rate(EVALUATION.shown(), "le"), "{{le}}"),
            unit="s",
        ),
        panels.lines(
            "99th percentile of decision times by outcome",
            Words(
                "99th percentile of evaluation times, by outcome. Empty unless AEGIS_EVALUATION_DURATION=on.",
                "Above ten milliseconds for ten minutes: AegisPolicyEvaluationSlow fires.",
                "Follow the runbook of AegisPolicyEvaluationSlow.",
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
