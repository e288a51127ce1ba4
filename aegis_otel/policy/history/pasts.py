"""Made-up pasts, for the tools that try a policy: nothing went before, or a great deal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from typing_extensions import override

from aegis_otel.model import Past, SeriesQuery, Tally, Where
from aegis_otel.policy.rules import MILLIONTHS, MOST_COUNTED


class _SameAnswer(Mapping[SeriesQuery, Tally]):
    """The same answer to every query."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    @override
    def __getitem__(self, query: SeriesQuery) -> Tally:
        return self._tally

    @override
    def __iter__(self) -> Iterator[SeriesQuery]:
        return iter(())

    @override
    def __len__(self) -> int:
        return 0


def past_with(tally: Tally, tokens: int) -> Past:
    """Return a past that answers every query by `tally`, in a run that has used so many tokens."""
    return Past(Where("session", "conversation", "run", "tool", tokens), _SameAnswer(tally))


NOTHING_BEFORE = past_with(Tally(), 0)
"""No call went before, and no token was used: no condition on earlier calls holds."""
MUCH_BEFORE = past_with(Tally(MOST_COUNTED, MOST_COUNTED * MILLIONTHS, succeeded=1, failed=1), MOST_COUNTED)
"""Many calls went before: every limit is passed, and each other condition on earlier calls holds."""
