"""The parts of the page: each asks its questions and says what came of them."""

from __future__ import annotations

from typing import Any

from aegis_otel.report.charts import Ruler, bar, legend, time_line
from aegis_otel.report.markup import Markup, element, join, moment, number, plural, seconds, value
from aegis_otel.report.outcomes import EXPLAINED, KINDS
from aegis_otel.report.queries import Group, Listed, Questions, Some
from aegis_otel.report.tables import Cell, Column, table

MOST_GROUPS = 25
MOST_CALLS = 50
LONGEST = 240
"""Characters of what `questions` has cut already, and marked as cut."""

_NUMBERS = [Column(kind.title, "number") for kind in KINDS]
_CALLS = [
    Column("Time (UTC)", "time"),
    Column("Agent", "short"),
    Column("Action and target", "name"),
    Column("Rule", "name"),
    Column("Decision, approver", "short"),
    Column("Result, reason", "name"),
    Column("Arguments", "wide name"),
    Column("ID", "short"),
]


def decided(asked: Questions, ruler: Ruler) -> Markup:
    """How many calls came to what, and when."""
    parts: list[Markup] = []
    if ruler.slots:
        slots = ruler.fill(asked.time_line())
        busy = [slot for slot in slots if any(slot.calls)]
        most = max((sum(slot.calls) for slot in busy), default=0)
        to = f"from {slots[0].label} to {slots[-1].label} UTC"
        said = f"Calls by {ruler.in_words}, {to}; at most {number(most)}"
        ends = (
            [slots[0].label, slots[len(slots) // 2].label, slots[-1].label]
            if len(slots) > 2
            else [slots[0].label]
        )
        rows: list[list[Cell]] = [[slot.label, *slot.calls] for slot in busy]
        numbers = table(said, [Column("From (UTC)", "time"), *_NUMBERS], rows)
        parts.append(
            element(
                "figure",
                element(
                    "figcaption", f"Calls by {ruler.in_words}; the tallest bar is {plural(most, 'call')}."
                ),
                time_line(slots, said),
                element("div", *(element("span", each) for each in ends), class_="ticks", aria_hidden="true"),
                legend(),
                element("details", element("summary", "The numbers of this chart"), numbers),
            )
        )
    parts.append(element("p", EXPLAINED, class_="note"))
    parts.append(_results(asked.groups("status", limit=MOST_GROUPS)))
    parts.append(_grouped("By risk", "Risk", asked.groups("risk", limit=MOST_GROUPS, by=_BY_RISK), _risk))
    return join(parts)


def rules(asked: Questions) -> Markup:
    """Which rules decided, and what came of it."""
    found = asked.groups("rule", "risk", "approval", limit=MOST_GROUPS)
    columns = [
        Column("Rule", "name"),
        Column("Risk", "short"),
        Column("Says", "short"),
        Column("Calls", "number"),
        *_NUMBERS,
        Column("", "chart"),
    ]
    rows: list[list[Cell]] = [
        [each.names[0], _risk(each.names[1]), each.names[2], *_counts(each), _bar(each, found)]
        for each in found.rows
    ]
    return table("Rules, the most frequent first", columns, rows, total=found.total, what="rule")


def people(asked: Questions) -> Markup:
    """Which agents called which tools, and from which service."""
    slow = asked.slow_tools(MOST_GROUPS)
    columns = [
        Column("Tool"),
        *(Column(title, "number") for title in ("Ran", "Median", "95th percentile", "Longest")),
    ]
    timed: list[list[Cell]] = [
        [tool, calls, *(_seconds(each) for each in times)] for tool, calls, *times in slow.rows
    ]
    return join(
        (
            _grouped("Agents", "Agent", asked.groups("agent", limit=MOST_GROUPS)),
            _grouped("Tools", "Tool", asked.groups("tool", limit=MOST_GROUPS)),
            _grouped("Services", "Service", asked.groups("service", limit=MOST_GROUPS)),
            table("How long tools took, the slowest first", columns, timed, total=slow.total, what="tool"),
        )
    )


def critical(asked: Questions) -> Markup:
    """The calls of CRITICAL risk."""
    return _listed("CRITICAL calls, the newest first", asked.listed("risk_level = 'CRITICAL'", MOST_CALLS))


def blocked(asked: Questions) -> Markup:
    """The calls that the policy, or governance itself, stopped."""
    return _listed("Blocked calls, the newest first", asked.listed("result_status = 'blocked'", MOST_CALLS))


def denied(asked: Questions) -> Markup:
    """The calls that a human refused, or that nobody answered in time."""
    return _listed("Denied calls, the newest first", asked.listed("result_status = 'denied'", MOST_CALLS))


def approvals(asked: Questions) -> Markup:
    """What humans were asked, what they answered, and how long that took."""
    total = asked.calls("answer IS NOT NULL")
    if not total:
        return element("p", "No human was asked.", class_="empty")
    answers = asked.groups("answer", where="answer IS NOT NULL", limit=MOST_GROUPS)
    median, late, most = asked.spread("approval_wait_s", "human_decision IN ('approved', 'denied')")
    who = asked.approvers(MOST_GROUPS)
    approvers: list[list[Cell]] = [
        [name, *counts[:3], *map(_seconds, counts[3:])] for name, *counts in who.rows
    ]
    columns = [
        Column("Approver"),
        *(Column(title, "number") for title in ("Answers", "Yes", "No", "Median wait", "Longest wait")),
    ]
    waited = (
        f"Half of the answers came within {seconds(median)}, 95 of 100 within {seconds(late)}, "
        f"the slowest after {seconds(most)}."
    )
    return join(
        (
            element(
                "p", f"Humans were asked about {plural(total, 'call')}. ", waited if most is not None else ""
            ),
            table(
                "What they answered",
                [Column("Answer"), Column("Calls", "number")],
                [[_ANSWERS.get(str(each.names[0]), each.names[0]), each.calls] for each in answers.rows],
                total=answers.total,
                what="answer",
            ),
            table("Who answered", columns, approvers, total=who.total, what="approver", none="Nobody."),
            _listed(
                "Without an answer, the newest first",
                asked.listed("(result_status = 'pending' OR human_decision = 'expired')", MOST_GROUPS),
            ),
        )
    )


def unknown(asked: Questions) -> Markup:
    """The calls whose process was gone before it said what came of them."""
    explained = (
        "Their process ended while the tool ran: perhaps the action was done. "
        "Each is to be looked after by hand."
    )
    return join(
        (
            element("p", explained, class_="note"),
            _listed(
                "Unknown outcomes, the newest first", asked.listed("result_status = 'unknown'", MOST_CALLS)
            ),
        )
    )


def failures(asked: Questions) -> Markup:
    """What failed, and how often."""
    found = asked.failures(MOST_GROUPS)
    rows: list[list[Cell]] = [
        [tool, status, calls, moment(last), value(error, LONGEST)]
        for tool, status, error, calls, last in found.rows
    ]
    columns = [
        Column("Tool", "name"),
        Column("Result", "short"),
        Column("Calls", "number"),
        Column("Last (UTC)", "time"),
        Column("Error", "wide name"),
    ]
    return table("Failures, the most frequent first", columns, rows, total=found.total, what="failure")


def policies(asked: Questions) -> Markup:
    """Every policy that decided, and when."""
    found = asked.groups("policy", limit=MOST_GROUPS, by="last DESC")
    rows: list[list[Cell]] = [
        [each.names[0], moment(each.first), moment(each.last), each.calls, each.kinds[_BLOCKED]]
        for each in found.rows
    ]
    columns = [
        Column("Digest", "name"),
        Column("First decision (UTC)", "time"),
        Column("Last decision (UTC)", "time"),
        Column("Calls", "number"),
        Column("Blocked", "number"),
    ]
    return table("Policies, the newest first", columns, rows, total=found.total, what="policy version")


_BLOCKED = [kind.name for kind in KINDS].index("blocked")
_BY_RISK = "list_position(['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], risk)"
_ANSWERS = {
    "approved": "approved",
    "denied": "denied",
    "expired": "expired: nobody answered in time",
    "waiting": "still waiting",
    "none": "could not be obtained",
}


def _results(found: Some) -> Markup:
    columns = [Column("Result"), Column("Calls", "number"), Column("", "chart")]
    rows: list[list[Cell]] = [[each.names[0], each.calls, _bar(each, found)] for each in found.rows]
    return table("By result", columns, rows, total=found.total, what="result")


def _grouped(caption: str, name: str, found: Some, show: Any = None) -> Markup:
    """Calls by one property, with their bars."""
    columns = [Column(name, "name"), Column("Calls", "number"), *_NUMBERS, Column("", "chart")]
    rows: list[list[Cell]] = [
        [show(each.names[0]) if show else each.names[0], *_counts(each), _bar(each, found)]
        for each in found.rows
    ]
    return table(caption, columns, rows, total=found.total, what=name.lower())


def _counts(group: Group) -> list[Cell]:
    return [group.calls, *group.kinds]


def _bar(group: Group, of: Some) -> Markup:
    return bar(group.kinds, max(each.calls for each in of.rows))


def _listed(caption: str, found: Some) -> Markup:
    return table(caption, _CALLS, [_call(each) for each in found.rows], total=found.total, what="call")


def _call(call: Listed) -> list[Cell]:
    action = join((value(call.action), " \N{RIGHTWARDS ARROW} ", value(call.target)))
    watched = (element("span", " (monitor: not enforced)", class_="none"),) if call.watched else ()
    approver = () if call.approver is None else (" by ", value(call.approver))
    unproven = (element("strong", " (not proven)"),) if call.unproven else ()
    reason = () if call.reason is None else (": ", value(call.reason, LONGEST))
    return [
        Markup(moment(call.time)),
        call.agent,
        action,
        call.rule,
        join((value(call.decision), *approver, *watched, *unproven)),
        join((value(call.status), *reason)),
        element("code", value(call.arguments, LONGEST)),
        element("code", value(call.id)),
    ]


def _risk(name: str | None) -> Markup:
    loud = name if name in ("CRITICAL", "HIGH") else ""
    return element("span", value(name), class_=f"risk {loud}".strip())


def _seconds(time: float | None) -> Markup:
    return Markup(seconds(time))
