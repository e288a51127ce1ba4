"""The page as a whole: one file, that needs no network, no script and no other file to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files
from typing import NamedTuple

from aegis_otel.report import sections
from aegis_otel.report.charts import ruler
from aegis_otel.report.markup import Markup, element, empty, join, moment, number, plural, value
from aegis_otel.report.proof import ProofState
from aegis_otel.report.queries import Questions
from aegis_otel.version import __version__

TITLE = "What the agents did"
LONGEST_TITLE = 200
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SENTENCES = 10
_RAN = "status IN ('success', 'failed', 'open', 'unknown')"


class About(NamedTuple):
    """What the page is of."""

    title: str
    audit: str
    """Its directory."""
    since: str | None
    until: str | None
    made: datetime


def make_page(asked: Questions, proof: ProofState, about: About) -> str:
    """The page of the calls that `asked` is about. The same for the same audit and `about.made`."""
    span = asked.span()
    scale = ruler(*span)
    calls = asked.count(scale.first, scale.width)
    parts = (
        ("decided", "What was decided", lambda: sections.decided(asked, scale)),
        ("rules", "By which rules", lambda: sections.rules(asked)),
        ("who", "By whom", lambda: sections.people(asked)),
        ("critical", "CRITICAL calls", lambda: sections.critical(asked)),
        ("blocked", "Blocked calls", lambda: sections.blocked(asked)),
        ("denied", "Denied calls", lambda: sections.denied(asked)),
        ("approvals", "Approvals and waits", lambda: sections.approvals(asked)),
        ("unknown", "Unknown outcomes", lambda: sections.unknown(asked)),
        ("failures", "Failures", lambda: sections.failures(asked)),
        ("policies", "Policy versions", lambda: sections.policies(asked)),
    )
    shown: tuple[tuple[str, str, Callable[[], Markup]], ...] = parts if calls else ()
    shown = (*shown, ("proof", "The state of the proof", lambda: _proof(proof)))
    main = element(
        "main",
        _header(about, span, calls, proof),
        _tiles(asked) if calls else element("p", "No call was recorded in this period.", class_="empty"),
        _first(asked, proof) if calls or proof.findings or proof.problems else "",
        _contents(shown),
        *(_section(*part) for part in shown),
    )
    head = element(
        "head",
        empty("meta", charset="utf-8"),
        empty("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        empty("meta", name="viewport", content="width=device-width, initial-scale=1"),
        empty("meta", name="color-scheme", content="light dark"),
        empty("meta", name="referrer", content="no-referrer"),
        element("title", about.title),
        element("style", Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    )
    body = element("body", main, _footer())
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(about: About, span: tuple[int | None, int | None], calls: int, proof: ProofState) -> Markup:
    period = [f"since {about.since}"] if about.since else []
    period += [f"until {about.until}"] if about.until else []
    times = " to ".join(dict.fromkeys(moment(each) for each in span if each is not None))
    facts = (
        ("Audit", value(about.audit, 300)),
        ("Asked for", " and ".join(period) or "all calls"),
        ("Calls", f"{number(calls)}, {times} UTC" if times else number(calls)),
        ("Verification", element("strong", proof.sentence)),
        ("Made", f"{about.made:%Y-%m-%d %H:%M:%S} UTC, by aegis-otel {__version__}"),
    )
    return element("header", element("h1", about.title), _facts(facts))


def _tiles(asked: Questions) -> Markup:
    tiles = (
        ("Calls", "true", False),
        ("Done", "kind = 'done'", False),
        ("Blocked", "kind = 'blocked'", False),
        ("Asked of a human", "answer IS NOT NULL", False),
        ("CRITICAL", "risk = 'CRITICAL'", True),
        ("Unknown outcome", "status = 'unknown'", True),
    )
    made = []
    for title, where, alarming in tiles:
        count = asked.calls(where)
        made.append(
            element(
                "div",
                element("dt", title),
                element("dd", number(count)),
                class_="alarm" if alarming and count else False,
            )
        )
    return element("dl", *made, class_="tiles")


def _first(asked: Questions, proof: ProofState) -> Markup:
    """What somebody who reads nothing else should know."""
    watched = asked.calls("watched")
    said = [
        (asked.calls("status = 'unknown'"), "{} may or may not have been done: the process died", "unknown"),
        (
            asked.calls(f"risk = 'CRITICAL' AND coalesce(answer, '') <> 'approved' AND {_RAN}"),
            "{} of CRITICAL risk ran although no human said yes",
            "critical",
        ),
        (
            asked.calls(f"risk = 'CRITICAL' AND answer = 'approved' AND {_RAN}"),
            "{} of CRITICAL risk ran because a human said yes",
            "critical",
        ),
        (asked.unproven(), "{} with a human's answer that nobody has proven", "approvals"),
        (asked.calls("status = 'pending'"), "{} still waiting for a human", "approvals"),
        (asked.calls("answer = 'expired'"), "{} got no answer in time, and did not run", "approvals"),
        (asked.calls("rule = '<default>'"), "{} matched no rule: the default decided", "rules"),
        (watched, "{} in monitor mode: decided and recorded, not enforced", "decided"),
    ]
    points = [
        element("li", element("a", sentence.format(plural(count, "call")), href=f"#{place}"), ".")
        for count, sentence, place in said
        if count
    ]
    if proof.verified is not None and proof.verified.findings:
        points.insert(
            0, element("li", element("a", f"Verification {proof.sentence}", href="#proof"), class_="bad")
        )
    elif proof.problems:
        left_out = f"{plural(len(proof.problems), 'part')} of the audit could not be read and is left out."
        points.insert(0, element("li", element("a", left_out, href="#proof"), class_="bad"))
    heading = element("h2", "Look at this first" if points else "Nothing stands out")
    calm = element("p", "No unknown outcome, no CRITICAL call that ran, and nothing that waits.")
    return element(
        "section",
        heading,
        element("ul", *points) if points else calm,
        class_="first" if points else "first calm",
    )


def _contents(parts: tuple[tuple[str, str, Callable[[], Markup]], ...]) -> Markup:
    links = [element("li", element("a", title, href=f"#{place}")) for place, title, _ in parts]
    return element("nav", element("ul", *links), aria_label="Sections")


def _section(place: str, title: str, make: Callable[[], Markup]) -> Markup:
    sheet = "sheet" if place in ("critical", "proof") else False
    named = f"{place}-title"
    return element(
        "section", element("h2", title, id=named), make(), id=place, aria_labelledby=named, class_=sheet
    )


def _proof(proof: ProofState) -> Markup:
    last = proof.last
    facts = [
        ("Verification", element("strong", proof.sentence)),
        ("Seals", number(proof.seals)),
        (
            "Last seal",
            "none: nothing is sealed yet" if last is None else f"number {last.seal}, at {last.sealed_at}",
        ),
        ("Its chain value", "\N{EN DASH}" if last is None else element("code", last.chain)),
        ("Signed", "no" if last is None or not last.signature else "yes"),
        ("Sealed rows", f"{number(proof.rows)} in {plural(proof.files, 'file')}, of the whole audit"),
        (
            "Rows that are not sealed yet",
            f"{number(proof.unsealed)}: they are newer than the last seal, run, or wait for a human",
        ),
    ]
    if proof.verified is not None and proof.verified.audit:
        facts.insert(0, ("Audit", element("code", proof.verified.audit)))
    unproven = [] if proof.verified is None else proof.verified.unproven
    # The options are not this command's.
    unproven = [each.replace(": give ", ": `aegis audit verify` proves it with ") for each in unproven]
    return join(
        (
            _facts(tuple(facts)),
            _sentences("Found", proof.findings),
            _sentences("Left out, because it cannot be read", proof.problems),
            _sentences("Not proven", unproven),
        )
    )


def _sentences(title: str, said: Sequence[str]) -> Markup:
    if not said:
        return Markup()
    shown = [element("li", value(each, 400)) for each in said[:_SENTENCES]]
    more = len(said) - len(shown)
    return join(
        (
            element("h3", title),
            element("ul", *shown),
            element("p", f"And {number(more)} more.", class_="more") if more else "",
        )
    )


def _facts(facts: tuple[tuple[str, str], ...]) -> Markup:
    pairs = [element(tag, part) for fact in facts for tag, part in zip(("dt", "dd"), fact, strict=True)]
    return element("dl", *pairs, class_="facts")


def _footer() -> Markup:
    said = (
        "Values are those of the audit: secrets were redacted before they were written, characters that "
        "cannot be seen are shown as escapes such as \\u202e, and long values are cut. ",
        "Where a table says how many more there are, the rest is one question away: ",
    )
    more = element("code", "aegis audit sql")
    return element("footer", element("p", *said, more, ".", class_="note"))
