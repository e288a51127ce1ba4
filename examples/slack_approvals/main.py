"""The whole way on one machine: an agent asks, the page tells the service, Slack shows it, people click."""

import asyncio
import base64
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import slack_stand_in
import standardwebhooks  # noqa: F401 - service.py needs it, and would end without it unseen
from agents import Agent, Runner, function_tool
from offline import scripted_model

import aegis_otel

HERE = Path(__file__).parent
AUDIT = """
    select right(decision_id, 8) as id, result_status, human_decision, approver
    from audit order by timestamp
"""


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


def run_agent() -> None:
    with aegis_otel.acting_for(user="carl@example.com"):  # who may not approve what is done for him
        result = asyncio.run(Runner.run(clerk, "Pay invoice 2041."))
    print(f"Agent: {result.final_output}")


def main() -> None:
    with TemporaryDirectory() as inbox:  # without the questions of a run that was interrupted
        ask_and_answer(Path(inbox))


def ask_and_answer(inbox: Path) -> None:
    settings = {
        "AEGIS_STATE": f"sqlite:///{inbox}/state.sqlite3",
        "AEGIS_NOTIFY_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "SLACK_SIGNING_SECRET": secrets.token_hex(16),
        "SLACK_BOT_TOKEN": "xoxb-stand-in",
        "SLACK_CHANNEL": "C0PAYMENTS",
        "SLACK_TEAM": "T0COMPANY",
    }
    os.environ.update(settings)
    aegis_otel.instrument(policy=HERE / "policy.yaml", approvals="inbox")
    service, page = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    with slack_stand_in.running(
        *(settings[f"SLACK_{name}"] for name in ("SIGNING_SECRET", "BOT_TOKEN", "TEAM"))
    ) as slack:
        os.environ["SLACK_API"] = slack.address
        with (
            program(
                "uvicorn", "--factory", "service:make_app", "--port", service.rpartition(":")[2], at=service
            ),
            program(
                *("aegis_otel", "approvals", "serve", "--port", page.rpartition(":")[2]),
                *("--notify-url", f"{service}/notifications"),
                at=page,
            ),
        ):
            agent = Thread(target=run_agent)
            agent.start()
            message = slack.wait_for("chat.postMessage")
            print(f"Slack: {message['text']}. {' '.join(labels(message))}")
            slack.click(service, "U0BOB", message, "approve")
            print(f"Bob clicks on Approve, and reads: {slack.wait_for('chat.postEphemeral')['text']}")
            slack.click(service, "U0ANN", message, "approve")
            print(f"Ann clicks on Approve, and reads: {slack.wait_for('chat.postEphemeral', 2)['text']}")
            agent.join()
            print(f"Slack: {slack.wait_for('chat.update')['text']}.")
    print(aegis_otel.connect().sql(AUDIT))


def labels(message: dict) -> list[str]:
    return [f"[{button['text']['text']}]" for button in message["blocks"][-1]["elements"]]


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def program(module: str, *arguments: str, at: str) -> Iterator[None]:
    """Run a Python program until it listens, and as long as this lasts."""
    host, port = at.removeprefix("http://").split(":")
    with subprocess.Popen(  # noqa: S603 - a program of this example
        [sys.executable, "-m", module, *arguments],
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{module} has ended with {process.returncode}: run it alone to see why")
            time.sleep(0.05)
        try:
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
