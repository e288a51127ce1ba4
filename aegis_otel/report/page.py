"""Render the report: one HTML page that needs no network, no script and no other file.

`page.html` lays it out and asks `ReportQueries` for the rows. Jinja2 escapes HTML; `_visible` is applied to
every value before, so that what a reader could not see, such as a direction mark, is a visible escape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.audit.seals.seal_log import Seal, live_segments, read_seals
from aegis_otel.errors import AuditError
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.redaction.terminal import escape
from aegis_otel.report.buckets import KINDS, plural, stacked
from aegis_otel.report.queries import MAX_GROUPS, ReportQueries
from aegis_otel.semconv import __version__

TITLE = "Agent activity"
LONGEST_TITLE = 200
_LONGEST_VALUE = 240
_LONGEST_TEXT = 100_000
"""The most characters of a policy's text on the page; `aegis policy show` prints all of it."""
_SENTENCES = 10
"""The most findings on the page; `aegis audit verify` lists all."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DASH = "\N{EN DASH}"


class ReportScope(NamedTuple):
    """The scope of the report: which audit, which period, and when the page was made."""

    title: str
    audit: str
    """The audit's directory."""
    since: str | None
    until: str | None
    made: datetime


class CandidateResult(NamedTuple):
    """What another policy would have decided about the calls of the report."""

    digest: str
    calls: int
    same: int
    other_risk: int
    """Calls that would be decided alike but for their risk."""
    unreplayed: int
    """Calls that the audit does not have enough of."""
    differences: Sequence[dict[str, Any]]
    """Rows of a table: `effect`, `before`, `after` and `calls`."""
    reasons: Sequence[dict[str, Any]]
    """Why calls cannot be replayed: `reason` and `calls`."""


class ProofState(NamedTuple):
    """The seals of an audit, and the result of a verification where there was one."""

    seals: int
    last: Seal | None
    sealed: int
    """Rows that are sealed, and not removed by retention."""
    files: int
    total: int
    """Rows of the whole audit, sealed or not."""
    problems: Sequence[str]
    """What was left out because it is missing, damaged, foreign or unreadable."""
    verified: Proof | None

    @property
    def unsealed(self) -> int:
        """The number of rows that are in the journal only."""
        return max(self.total - self.sealed, 0)

    @property
    def findings(self) -> list[str]:
        """What the verification found, a sentence each."""
        return [] if self.verified is None else [str(each) for each in self.verified.findings]

    @property
    def unproven(self) -> list[str]:
        """What the verification could not prove, a sentence each."""
        # The options that it names are those of `aegis audit verify`, not of `aegis report`.
        advice = ": `aegis audit verify` proves it with "
        return [] if self.verified is None else [s.replace(": give ", advice) for s in self.verified.unproven]

    @property
    def sentence(self) -> str:
        """The result of the verification in one line."""
        if self.verified is None:
            return "Not verified for this page: run `aegis report --verify` or `aegis audit verify`."
        if self.findings:
            return f"FAILED: {plural(len(self.findings), 'finding')} by `aegis audit verify`."
        return (
            f"PASSED: {self.verified.rows:,} sealed rows and {self.verified.lines:,} journal lines are as "
            f"they were written. The audit has {self.total:,} rows, of which {self.unsealed:,} "
            f"{'is' if self.unsealed == 1 else 'are'} not sealed yet."
        )


class DecidingPolicy(NamedTuple):
    """A policy that decided calls of the report, as the audit keeps it."""

    digest: str
    text: str
    rules: int
    unfired: Sequence[str]
    """The names of the rules that decided no call of the report."""


def read_proof(
    directory: Path, problems: Sequence[str], verified: Proof | None, total: int, *, mirrors: bool = False
) -> ProofState:
    """Read the seals of an audit.

    Args:
        directory: The audit's directory.
        problems: As in `ProofState`, like `verified` and `total`.
        mirrors: Count what was fetched of other audits as well: see `audit.query.connection.open_view`.

    Raises:
        AuditError: the seals cannot be read, or were written by a newer version.
    """
    seals = read_seals(directory)
    segments = live_segments(seals)
    for mirror in find_mirrors(directory) if mirrors else ():
        with suppress(AuditError):  # a mirror that cannot be read is among the problems already
            segments += live_segments(read_seals(mirror))
    last, sealed = seals[-1] if seals else None, sum(each.rows for each in segments)
    return ProofState(len(seals), last, sealed, len(segments), total, problems, verified)


def render_page(
    queries: ReportQueries,
    proof: ProofState,
    scope: ReportScope,
    policies: Sequence[DecidingPolicy] = (),
    candidate: CandidateResult | None = None,
    *,
    terms_words: Callable[[str], str] = str,
) -> str:
    """Return the page as HTML. It is the same for the same audit and `scope.made`.

    Args:
        queries: Has the calls.
        proof: What is known of the audit's proof.
        scope: What the page is of.
        policies: The policies that decided.
        candidate: What another policy would have decided.
        terms_words: Returns the column `approval_terms` in words.
    """
    terms = queries.select("terms")
    for row in terms.rows:
        row["who"] = terms_words(row["terms"])
    environment = Environment(
        loader=PackageLoader(__package__ or "", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": _value, "number": "{:,}".format, "seconds": _seconds, "moment": _moment, "kinds": _kinds,
        "lines": _lines,
    }  # fmt: skip
    environment.globals |= {"plural": plural, "stacked": stacked}
    style = files(__package__ or "").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        queries=queries,
        proof=proof,
        scope=scope,
        policies=policies,
        candidate=candidate,
        terms=terms,
        kinds=KINDS,
        kind_columns=[(kind.title, kind.name, "number") for kind in KINDS],
        style=Markup(style),  # noqa: S704 - our own file
        version=__version__,
        max_groups=MAX_GROUPS,
        max_sentences=_SENTENCES,
    )


def _visible(value: Any) -> Any:
    return value if isinstance(value, Markup) else escape(str(value))


def _value(value: str | None, longest: int = _LONGEST_VALUE) -> Markup:
    """Return a value of the audit, cut, and apart from the direction of the text around it."""
    if not value:
        return Markup('<span class="none">{}</span>').format(_DASH)
    # A narrow column breaks a name at its underscores, and elsewhere only if it has to.
    shown = Markup.escape(escape(value[:longest])).replace("_", Markup("_<wbr>"))
    if len(value) <= longest:
        return Markup("<bdi>{}</bdi>").format(shown)
    cut = Markup('<span class="none">\N{HORIZONTAL ELLIPSIS} ({:,} characters)</span>').format(len(value))
    return Markup("<bdi>{}{}</bdi>").format(shown, cut)


def _lines(text: str) -> Markup:
    """Return a text of several lines, redacted and cut."""
    shown = redact_text(text[:_LONGEST_TEXT])
    lines = Markup("\n").join(Markup.escape(escape(line)) for line in shown.splitlines())
    more = len(text) - _LONGEST_TEXT
    return lines if more <= 0 else lines + Markup("\n... {:,} more characters").format(more)


def _seconds(time: float | None) -> str:
    if time is None:
        return _DASH
    if time < 1:
        return f"{time * 1000:.0f} ms"
    if time < 120:
        return f"{time:.3g} s"
    return f"{time / 60:.3g} min" if time < 7200 else f"{time / 3600:,.3g} h"


def _moment(micros: int | None) -> str:
    """Return a time in UTC, given in microseconds since 1970."""
    if micros is None:
        return _DASH
    try:
        return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S}"
    except OverflowError:  # DuckDB has `infinity` and years beyond 9999
        return "not a calendar time"


def _kinds(row: dict[str, Any]) -> str:
    """Return the calls of each kind in words: `12 done, 1 blocked`."""
    return ", ".join(f"{row[kind.name]:,} {kind.title.lower()}" for kind in KINDS if row[kind.name])
