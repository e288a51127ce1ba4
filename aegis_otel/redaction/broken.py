"""Secrets with something in the middle that is not seen, or that only breaks a line.

They are looked for in the text without it, and hidden where they stand.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from re import compile as compile_fixed  # classes of characters and fixed words
from typing import Any

from aegis_otel.redaction.spans import Span, is_command

ESCAPED = (
    r"\\u(?i:00ad|034f|061c|115f|1160|17b[45]|180[b-f]|200[b-f]|202[a-e]|206[0-9a-f]|3164|fe0[0-9a-f]"
    r"|feff|ffa0|fff[0-8]|db40\\udc[0-9a-f]{2})|\\xad"
)
UNSEEN = (  # Unicode's Default_Ignorable_Code_Point in UTF-8, and controls that no terminal shows
    r"\xc2\xad|\xcd\x8f|\xd8\x9c|\xe1\x85[\x9f\xa0]|\xe1\x9e[\xb4\xb5]|\xe1\xa0[\x8b-\x8f]"
    r"|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xe3\x85\xa4|\xef\xb8[\x80-\x8f]|\xef\xbb\xbf"
    r"|\xef\xbe\xa0|\xef\xbf[\xb0-\xb8]|\xf0\x9b\xb2[\xa0-\xa3]|\xf0\x9d\x85[\xb3-\xba]"
    rf"|\xf3\xa0[\x80-\xbf][\x80-\xbf]|[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]|{ESCAPED}"
)
"""A pattern for one character that is not seen."""
WRAPPED = r"[\w\-](?:\\|=)\r?\n[\w\-]"
"""A pattern for a word that goes on in the next line: behind a backslash, or as quoted-printable has it."""

unseen = compile_fixed(f"(?:{UNSEEN})+".encode())
wrap = compile_fixed(rb"(?<=[\w\-])[\\=]\r?\n(?=[\w\-])")
_CONTINUED = 12
_digit_and_letter = compile_fixed(rb"[0-9].*[A-Za-z]|[A-Za-z].*[0-9]")


class Joined:
    """A text without what a pattern finds in it, and where its rest stood."""

    def __init__(self, data: bytes, left_out: Any) -> None:
        parts: list[bytes] = []
        self._joints: list[int] = []
        self._gone = [0]
        done = 0
        for found in left_out.finditer(data):
            start, end = found.span()
            parts.append(data[done:start])
            self._joints.append(start - self._gone[-1])
            self._gone.append(self._gone[-1] + end - start)
            done = end
        self.text = b"".join((*parts, data[done:]))

    def parted(self, spans: Iterable[Span]) -> list[Span]:
        """Spans of the text as spans of what it was made of: with what was left out within them."""
        return [
            (
                start + self._gone[bisect_right(self._joints, start)],
                end + self._gone[bisect_left(self._joints, end)],
            )
            for start, end in spans
        ]

    def pieces(self, spans: Iterable[Span]) -> list[Span]:
        """The spans of tokens that go over a joint, without what was left out.

        A line's first word may be a command, which no mask may hide: so it must look like part of a token.
        """
        found: list[Span] = []
        for start, end in spans:
            first = bisect_right(self._joints, start)
            last = bisect_left(self._joints, end)
            if first == last:
                continue
            cuts = [start, *self._joints[first:last], end]
            for index in range(len(cuts) - 1):
                word = self.text[cuts[index] : cuts[index + 1]]
                if index and not (
                    len(word) >= _CONTINUED and _digit_and_letter.search(word) and not is_command(word)
                ):
                    break
                found.append(
                    (cuts[index] + self._gone[first + index], cuts[index + 1] + self._gone[first + index])
                )
        return found
