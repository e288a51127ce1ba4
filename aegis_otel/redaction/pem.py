"""Private keys in PEM: from the header over lines of base64 and no others."""

from __future__ import annotations

import re2

from aegis_otel.redaction.names import OPTIONS
from aegis_otel.redaction.spans import Span, is_command

_GAP = r"(?:\s|\\+[nrt])+"  # also as an escape inside a repr or JSON
PEM = (
    r"-----BEGIN (?:[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?|OpenVPN Static key V1)-----|Private-Lines: \d{1,4}"
)
_pem = re2.compile(PEM.encode(), OPTIONS)
_HEADER = r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [^\r\n\\;|&`$\"'<>]{0,100}"
_body = re2.compile(
    rf"(?:{_GAP}(?:{_HEADER}|[A-Za-z0-9+/]{{16,}}={{0,2}}))*(?:{_GAP}([A-Za-z0-9+/]{{1,15}}={{0,2}}))?"
    rf"(?:{_GAP}=[A-Za-z0-9+/]{{4}})?"
    r"(?:(?:\s|\\+[nrt])*(-----END (?:[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
    r"|OpenVPN Static key V1)-----))?".encode(),
    OPTIONS,
)  # fmt: skip


def pem_keys(data: bytes) -> list[Span]:
    """Private keys: from the header over lines of base64 and no others, to the end line where one follows."""
    spans: list[Span] = []
    at = 0
    while (found := _pem.search(data, at)) is not None:
        body = _body.match(data, found.end())
        end = body.end()
        if body.group(2) is None and body.group(1) is not None and is_command(body.group(1)):
            end = body.start(1)
        block = data[found.start() : end].rstrip()
        end = found.start() + len(block)
        spans.append((found.start(), end))
        at = max(end, found.end())
    return spans
