"""Credentials in the headers of HTTP: `Authorization: Digest ...`, `Cookie: a=x; b=y`."""

from __future__ import annotations

from aegis_otel.redaction.data_files import byte_words
from aegis_otel.redaction.masks import MASKED, Span, after_mask, bounded, is_mask
from aegis_otel.redaction.secrets import value_patterns

_P = value_patterns.load("http headers", MASKED=MASKED)
_SHOWN = byte_words("shown_parameters")
_ATTRIBUTES = byte_words("cookie_attributes")


def authorization(data: bytes, at: int) -> tuple[list[Span], int]:
    """Return the credentials of an Authorization header; the scheme, the realm and the user stay."""
    if data[at : at + 1] in (b"'", b'"'):
        at += 1
    scheme = _P.scheme.match(data, at)
    if scheme is None:
        masked = after_mask(data, at)
        rest = _P.rest_of_line.match(data, masked)
        end = masked if rest is None else rest.end()
        if masked > at and not data[masked:end].strip(b" \t,;"):
            return [], end
        while end > at and data[end - 1] in b" \t,;)]}":
            end -= 1
        return bounded(data, at, end)[:1], end
    at = scheme.end()
    params, spans = _P.param.match(data, at), []
    while params is not None:
        start, at = params.span(2)
        if data[start : start + 1] in (b'"', b"\\"):
            start, at = data.index(b'"', start) + 1, at - 1
            at -= data[at - 1 : at] == b"\\"
        if params.group(1).lower() not in _SHOWN and not is_mask(data[start:at]):
            spans += bounded(data, start, at)
        at = params.end()
        comma = _P.comma.match(data, at)
        params = None if comma is None else _P.param.match(data, comma.end())
    if not spans and (word := _P.credentials.match(data, at)) is not None:
        start, at = word.span()
        spans = [] if after_mask(data, start) > start else bounded(data, start, at)
    return spans, at


def cookies(data: bytes, at: int) -> tuple[list[Span], int]:
    """Return the values of a Cookie header; their names and attributes stay."""
    if data[at : at + 1] in (b"'", b'"', b"\\"):
        return [], at
    begun = at
    spans: list[Span] = []
    while True:
        flag = _P.flag.match(data, at)
        pair = None if flag is not None else _P.cookie.match(data, at)
        if flag is not None:
            at = flag.end()
        elif pair is not None:
            start, end = pair.span(2)
            at = pair.end()
            if data[start : start + 1] == b'"':
                start, end = start + 1, end - 1
            if pair.group(1).lower() not in _ATTRIBUTES and not is_mask(data[start:end]) and start < end:
                spans += bounded(data, start, end)
        else:
            break
    if at == begun and (word := _P.credentials.match(data, at)) is not None and after_mask(data, at) == at:
        return bounded(data, *word.span()), word.end()
    return spans, at
