"""Plan what the agents of the demo will do. The plan is the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Answer = Literal["yes", "no", "late"]
End = Literal["returns", "raises", "hangs"]


@dataclass(frozen=True)
class Step:
    """One call of a tool."""

    tool: str
    arguments: dict[str, Any]
    answer: Answer
    """The answer of the human, if one is asked."""
    thinks: float
    """How long the answer takes, as a part of the approval timeout."""
    end: End
    takes: float
    """Seconds in the tool's body."""

    def is_call(self, other: Step) -> bool:
        """Return whether both are the same call; the tools cannot distinguish them, so they end alike."""
        return (self.tool, self.arguments) == (other.tool, other.arguments)


@dataclass(frozen=True)
class Run:
    """One run of an agent."""

    number: int
    at: float
    """Seconds after the start of the demo."""
    agent: str
    question: str
    turns: tuple[tuple[Step, ...], ...]
    """The calls of a turn run side by side."""

    @property
    def calls(self) -> int:
        return sum(map(len, self.turns))

    def step(self, tool: str | None, arguments: dict[str, Any]) -> Step:
        """Return the step that is this call."""
        steps = [step for turn in self.turns for step in turn if step.tool == tool]
        return next((step for step in steps if step.arguments == arguments), steps[0])


Make = Callable[[Random], tuple[str, dict[str, Any]]]


def runs(seed: int, seconds: float, rate: float) -> Iterator[Run]:
    """Yield the runs of all agents in order of time, for `seconds`, with about `rate` calls a second."""
    chance = Random(seed)  # noqa: S311 - a play, not a secret
    planned, number = 0, 0
    total = max(1, round(seconds * rate))
    while planned < total:
        number += 1
        agent = chance.choice(list(AGENTS))
        question, tools = AGENTS[agent]
        turns: list[tuple[Step, ...]] = []
        wanted = min(chance.choice((1, 2, 2, 3, 4)), total - planned)
        while wanted:
            beside = min(wanted, chance.choice((1, 1, 1, 2)))
            makes = chance.choices([make for _, make in tools], [weight for weight, _ in tools], k=beside)
            turn: tuple[Step, ...] = ()
            for make in makes:
                step = _step(chance, make)
                known = [each for steps in (*turns, turn) for each in steps if each.is_call(step)]
                turn = (*turn, known[0] if known else step)
            turns.append(turn)
            wanted -= beside
        at = seconds * planned / total
        run = Run(number, at, agent, question.format(n=chance.randint(1000, 9999)), tuple(turns))
        planned += run.calls
        yield run


def _step(chance: Random, make: Make) -> Step:
    tool, arguments = make(chance)
    answer: Answer = chance.choices(("yes", "no", "late"), (66, 21, 13))[0]
    end: End = chance.choices(("returns", "raises", "hangs"), (92, 6, 2))[0]
    takes = min(1.0, chance.lognormvariate(-2.5, 0.9))
    return Step(tool, arguments, answer, chance.uniform(0.05, 0.7), end, takes)


def _order(chance: Random) -> str:
    return f"{chance.choice('ABC')}-{chance.randint(1000, 9999)}"


def _amount(chance: Random) -> float:
    return round(min(4000.0, chance.lognormvariate(3.6, 1.3)), 2)


def _mail(chance: Random) -> tuple[str, dict[str, Any]]:
    person = chance.choice(("kim", "sam", "noor", "alex"))
    secret = " Your new password: correct-horse-battery" if chance.random() < 0.3 else ""
    body = f"We looked at order {_order(chance)}.{secret}"
    return "send_email", {"to": f"{person}@example.com", "body": body}


def _sql(chance: Random) -> tuple[str, dict[str, Any]]:
    table = chance.choice(("orders", "customers", "sessions"))
    harmless = f"SELECT count(*) FROM {table} WHERE day = {chance.randint(1, 365)}"  # noqa: S608 - nobody runs it
    return "run_sql", {"query": f"DROP TABLE {table}_old" if chance.random() < 0.25 else harmless}


# What each agent is asked, and what it then does, with how often.
AGENTS: dict[str, tuple[str, list[tuple[int, Make]]]] = {
    "support": (
        "Order {n} did not arrive. Please help.",
        [
            (40, lambda c: ("search_orders", {"query": _order(c)})),
            (35, lambda c: ("refund_order", {"order": _order(c), "amount": _amount(c)})),
            (25, _mail),
            (5, lambda c: ("delete_customer", {"customer": f"C-{c.randint(1, 999)}"})),
            (4, lambda c: ("post_reply", {"thread": c.randint(1, 999), "text": "Solved, thank you."})),
        ],
    ),
    "billing": (
        "Close the books of account {n}.",
        [
            (30, lambda c: ("read_ledger", {"account": c.randint(1000, 9999)})),
            (30, lambda c: ("issue_invoice", {"order": _order(c), "amount": _amount(c)})),
            (
                25,
                lambda c: (
                    "charge_card",
                    {
                        "order": _order(c),
                        "amount": 10 * _amount(c),
                        "card_token": f"tok_demo_{c.getrandbits(64):x}",
                    },
                ),
            ),
            (10, lambda c: ("export_ledger", {"account": c.randint(1000, 9999), "to": "s3://example-books"})),
        ],
    ),
    "research": (
        "What is new on topic {n}?",
        [
            (
                50,
                lambda c: (
                    "web_search",
                    {"query": f"{c.choice(('audit', 'policy', 'agents'))} {c.randint(1, 99)}"},
                ),
            ),
            (
                35,
                lambda c: (
                    "fetch_page",
                    {
                        "url": f"https://example.com/{c.randint(1, 500)}",
                        "api_key": f"demo-{c.getrandbits(64):x}",
                    },
                ),
            ),
            (
                15,
                lambda c: ("save_report", {"title": f"Report {c.randint(1, 99)}", "text": "Findings. " * 40}),
            ),
        ],
    ),
    "ops": (
        "Alert {n} fired. Look after it.",
        [
            (
                45,
                lambda c: (
                    "read_logs",
                    {"service": c.choice(("shop", "mail", "search")), "minutes": c.randint(1, 60)},
                ),
            ),
            (25, _sql),
            (20, lambda c: ("restart_service", {"service": c.choice(("shop", "mail", "search"))})),
            (6, lambda c: ("rotate_credentials", {"service": c.choice(("shop", "mail"))})),
        ],
    ),
}
