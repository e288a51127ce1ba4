"""Explain why a query of the audit is wrong or finds nothing: views, columns, spellings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aegis_otel.audit.filters import RISK_LEVELS, STATUSES
from aegis_otel.audit.record import COLUMNS
from aegis_otel.audit.views import VIEWS

_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist")
_COLUMN = re.compile(
    r'Referenced column "(?P<name>.+?)" (?:not found|was not found)|column "?(?P<other>[^" ]+)"? '
)
_TEXT = re.compile(r"'((?:[^']|'')*)'")


def hinted(wrong: str, sql: str) -> str:
    """Return the error of a query, with what helps to correct it."""
    if _TABLE.search(wrong):
        names = ", ".join(f"`{name}`" for name in ("audit", *(view.name for view in VIEWS)))
        return f"{wrong}; the views are {names}"
    if (found := _COLUMN.search(wrong)) is None:
        return wrong
    name = found["name"] or found["other"]
    sentences = [wrong]
    if f'"{name}"' in sql:
        sentences.append(f"text is written in single quotes, as '{name}': double quotes are for names")
        sentences += _spelling(name)
    names = ", ".join(f"`{column.name}`" for column in COLUMNS)
    sentences.append(f"the columns of `audit` are {names}")
    return "; ".join(sentences)


def spellings(sql: str) -> list[str]:
    """Return what is wrong with the texts of a query that no row can have as they are written."""
    texts = {text.lower(): text for text in _TEXT.findall(sql)}.values()
    return list(dict.fromkeys(sentence for text in texts for sentence in _spelling(text)))


def _spelling(text: str) -> Iterator[str]:
    if text.upper() in RISK_LEVELS and text not in RISK_LEVELS:
        yield f"risk levels are in capitals: {', '.join(RISK_LEVELS)}"
    if text.lower() in STATUSES and text not in STATUSES:
        yield f"results are in small letters: {', '.join(STATUSES)}"
