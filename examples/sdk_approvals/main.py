"""A payment that waits for a human on disk: one process asks, another goes on when there is an answer."""

import argparse
import asyncio
from pathlib import Path

from agents import Agent, Runner, RunResult, RunState, function_tool
from offline import scripted_model

import aegis_otel
from aegis_otel.adapters.openai_agents import answered_by

STATE = Path("state.json")
AUDIT = """
    select right(decision_id, 8) as id, result_status, human_decision, approver, approval_reason as reason
    from audit order by timestamp
"""

aegis_otel.instrument(policy=Path(__file__).with_name("policy.yaml"), approvals="sdk")


@function_tool
def pay_invoice(invoice: str, amount: float) -> str:
    """Pay an invoice, in euros."""
    return f"Invoice {invoice} is paid: {amount:g} euros."


clerk = Agent(
    name="Clerk",
    instructions="You pay invoices.",
    tools=[pay_invoice],
    model=scripted_model(),  # leave this out to use a real one
)


async def start() -> RunResult:
    return await Runner.run(clerk, "Pay invoice 2041.")


async def resume(approved: bool, by: str, reason: str | None) -> RunResult:
    state = await RunState.from_string(clerk, STATE.read_text())
    with answered_by(by, reason=reason):
        for question in state.get_interruptions():
            if approved:
                state.approve(question)
            else:
                state.reject(question)
    return await Runner.run(clerk, state)


def show(result: RunResult) -> None:
    if result.interruptions:
        STATE.write_text(result.to_state().to_string())
        for question in result.interruptions:
            print(f"Waiting for an answer: {question.name} {question.arguments}")
    else:
        STATE.unlink(missing_ok=True)
        print(result.final_output)
    print(aegis_otel.connect().sql(AUDIT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="run until somebody has to be asked")
    for name in ("approve", "reject"):
        command = commands.add_parser(name, help=f"{name} what is asked, and go on")
        command.add_argument("--by", required=True, metavar="NAME", help="who answers")
        command.add_argument("--reason", help="why")
    options = parser.parse_args()
    if options.command == "start":
        show(asyncio.run(start()))
    elif not STATE.exists():
        parser.error("nothing waits for an answer: `main.py start` first")
    else:
        show(asyncio.run(resume(options.command == "approve", options.by, options.reason)))


if __name__ == "__main__":
    main()
