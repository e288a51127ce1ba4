"""Draft a first policy for the tools of an agent: block what destroys, run what reads, ask about the rest.

Nothing but names, JSON Schemas and hints of servers says what a tool does. So a tool runs unasked only where
its name says that it reads, nothing says otherwise, and the linter finds nothing in a rule that lets it run.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.lint import lint
from aegis_otel.policy.lint.parameter_content import CHANGING, Content, changing_verbs, content_of, words_of
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.policy import Policy
from aegis_otel.policy_tools.drafts.rule_text import DraftRule, is_exact_glob, render, slug

_VERBS = json.loads(pkgutil.get_data("aegis_otel.policy_tools.drafts", "data/verbs.json") or b"")
_READING, _DESTROYING, _DOING = (frozenset(_VERBS[key].split()) for key in ("reading", "destroying", "doing"))
"""Words of names that say that something is read, that it is destroyed, and that more is done than reading;
the linter's changing verbs say the last, too."""
_LONG_ENOUGH = 4
"""Letters of a verb that says something also inside of a word, as in `deletefile`."""
_REACHING = {Content.COMMAND: "commands", Content.PATH: "paths", Content.URL: "URLs", Content.SQL: "SQL"}
_USUAL_TARGET = "default"
_SEARCHES = ("find", "lookup", "search")


class Kind(IntEnum):
    """What is drafted for a tool; of two tools with one name and target, the greater counts for both."""

    READS = 1
    ASKED = 2
    CHANGES = 3
    DESTROYS = 4


class Judged(NamedTuple):
    """A tool and what is drafted for it."""

    tool: KnownTool
    kind: Kind
    why: str
    """Why it is asked about or blocked, where its name alone does not say it."""


_COMMENTS = {
    Kind.DESTROYS: "Names or servers say that these destroy something. To allow one, ask: approve.",
    Kind.CHANGES: "Names and parameters say that these change something.",
    Kind.ASKED: "It is not plain that these only read.",
    Kind.READS: "Names say that these only read. What they return, the model reads.",
}
_VERDICTS = {
    Kind.DESTROYS: (Approval.BLOCK, RiskLevel.CRITICAL),
    Kind.CHANGES: (Approval.APPROVE, RiskLevel.HIGH),
    Kind.ASKED: (Approval.APPROVE, RiskLevel.MEDIUM),
    Kind.READS: (Approval.AUTO, RiskLevel.LOW),
}
_NAMES = {Kind.DESTROYS: "block_destructive", Kind.CHANGES: "ask_changes", Kind.ASKED: "ask_others"}


def draft_for_agent(known: Inventory, made_by: str) -> str:
    """Return the text of a policy for the tools, which the linter has nothing to say against.

    Args:
        made_by: The command, for the comment at the top.
    """
    judged = _strictest(judge_tool(tool) for tool in known.tools)
    written = [each for each in judged if all(map(is_exact_glob, each.tool.names))]
    comment = [
        f"A first policy, made by `{made_by}`.",
        "It guesses by names and by what servers say of their tools. Read it before you use it.",
    ]
    if not known.is_complete:
        comment.append("The tools of a server could not be listed: its calls are asked about.")
    comment += (
        f"No policy governs `{each.name}` of {each.agent} ({each.kind}): see docs/coverage.md."
        for each in known.ungovernable
    )
    comment += (
        f"Left to the default, because no pattern means its name only: {each.tool.name}"
        for each in judged
        if each not in written
    )
    return render(comment, "for every other call, ask a human", _rules(written))


def judge_tool(tool: KnownTool) -> Judged:
    """Return what is drafted for a tool, and why."""
    hints = tool.annotations or {}
    words = [word for name in tool.names for word in words_of(name)]
    if _DESTROYING.intersection(words):
        return Judged(tool, Kind.DESTROYS, "")
    if hints.get("destructiveHint") is True and hints.get("readOnlyHint") is not True:
        return Judged(tool, Kind.DESTROYS, "its server says that it destroys")
    if any(map(changing_verbs, tool.names)):
        return Judged(tool, Kind.CHANGES, "")
    if any(content_of(name) is Content.COMMAND for name in properties_of(tool.schema)):
        return Judged(tool, Kind.CHANGES, "it takes commands")
    why = _why_not_plain(tool)
    return Judged(tool, Kind.ASKED if why else Kind.READS, why)


def changes_something(name: str) -> bool:
    """Return whether a tool's name says that it changes something, or does not say that it only reads."""
    words = words_of(name)
    joined = "".join(words)
    inside = any(len(verb) >= _LONG_ENOUGH and verb in joined for verb in (*_DESTROYING, *CHANGING))
    return not words or words[0] not in _READING or inside or bool(_DOING.intersection(words))


def what_it_reaches(words: Sequence[str], param: str) -> str:
    """Return what a parameter reaches by its name, such as "paths"; empty where it is plain text.

    Args:
        words: The words of the tool's name: the `query` of a search is no SQL.
    """
    content = content_of(param)
    if content is Content.SQL and words and words[0] in _SEARCHES and param.lower() == "query":
        return ""
    return _REACHING.get(content, "")


def _why_not_plain(tool: KnownTool) -> str:
    """Return why it is not plain that a tool only reads; empty where it is."""
    hints = tool.annotations or {}
    for name in tool.names:
        if not is_exact_glob(name):
            return "no pattern means its name only"
        if not name.isascii():
            return "its name has letters that may look like others"
        joined = "".join(words_of(name))
        inside = [verb for verb in (*_DESTROYING, *CHANGING) if len(verb) >= _LONG_ENOUGH and verb in joined]
        more = _DOING.intersection(words_of(name)).union(inside)
        if more:
            return f"`{min(more)}` in its name"
    if not is_exact_glob(tool.target or _USUAL_TARGET):
        return "no pattern means its target only"
    own = words_of(tool.original_name or tool.name)
    if not own or own[0] not in _READING:
        return "its name does not begin with a word such as `get` or `list`"
    if hints.get("readOnlyHint") is False:
        return "its server says that it does not only read"
    if tool.schema is None:
        return "its parameters are not known"
    for name in properties_of(tool.schema):
        if reached := what_it_reaches(own, name):
            return f"it takes {reached} (`{name}`)"
    if lint(_alone(tool), Inventory((tool,))):
        return "a rule that lets it run has warnings"
    return ""


def _alone(tool: KnownTool) -> Policy:
    """Return a policy that lets the tool run."""
    match = {"type": list(tool.names), "target": tool.target or _USUAL_TARGET}
    rules = [{"name": "run", "match": match, "approval": "auto", "risk_level": "low"}]
    return Policy.from_dict({"version": "1", "defaults": {"approval": "approve"}, "rules": rules})


def _strictest(judged: Iterable[Judged]) -> list[Judged]:
    """Return each name and target once: agents may have different tools of one name."""
    found: dict[tuple[tuple[str, ...], str | None], Judged] = {}
    for each in judged:
        key = each.tool.names, each.tool.target
        known = found.get(key)
        if known is None or known.kind < each.kind:
            found[key] = each
    by_name: dict[str, Kind] = {}
    for each in found.values():
        for name in each.tool.names:
            by_name[name] = max(each.kind, by_name.get(name, Kind.READS))
    return [
        each if each.kind is not Kind.READS or _is_apart(each, by_name) else each._replace(kind=Kind.ASKED)
        for each in found.values()
    ]


def _is_apart(judged: Judged, by_name: dict[str, Kind]) -> bool:
    return all(by_name[name] is Kind.READS for name in judged.tool.names)


def _rules(judged: Sequence[Judged]) -> list[DraftRule]:
    rules = []
    for kind in (Kind.DESTROYS, Kind.CHANGES, Kind.ASKED):
        its = [each for each in judged if each.kind is kind]
        if its:
            rules.append(DraftRule(_NAMES[kind], [_COMMENTS[kind]], _types(its), *_VERDICTS[kind]))
    reads = [each for each in judged if each.kind is Kind.READS]
    targets = dict.fromkeys(each.tool.target or _USUAL_TARGET for each in reads)
    for number, target in enumerate(targets):
        its = [each for each in reads if (each.tool.target or _USUAL_TARGET) == target]
        name = f"run_reads_of_{slug(target)}" if target != _USUAL_TARGET else "run_reads"
        if any(rule.name == name for rule in rules):
            name = f"{name}_{number}"
        comment = [_COMMENTS[Kind.READS]] if number == 0 else []
        rules.append(DraftRule(name, comment, _types(its), *_VERDICTS[Kind.READS], targets=[target]))
    return rules


def _types(judged: Sequence[Judged]) -> dict[str, str]:
    """Return the names of tools, each with who has it and why it stands here."""
    found: dict[str, str] = {}
    for each in judged:
        notes = [
            each.tool.agent or "",
            "" if each.tool.target in (None, _USUAL_TARGET) else f"of {each.tool.target}",
        ]
        note = " ".join(part for part in notes if part)
        for name in each.tool.names:
            found.setdefault(name, "; ".join(part for part in (note, each.why) if part))
    return found
