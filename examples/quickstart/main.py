"""A research assistant whose searches run, whose writes are approved and whose deletes are blocked.

    python examples/quickstart/main.py [--ask] [--show-signals]

With OPENAI_API_KEY set it talks to the model; without, the same agent runs on the SDK's ScriptedModel,
offline, and says so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from agents import Agent, Model, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from signals import show_signals

from aegis_otel import Policy, Runtime, configure_otlp
from aegis_otel.adapters.openai_agents import governed_tool
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.approval import AutoApprovalHandler, CLIApprovalHandler

QUESTIONS = [
    "Search for 'AI governance best practices'.",
    "Save what you found as a report.",
    "Delete document ID 42 from storage.",
]


def build_agent(runtime: Runtime, model: Model | None) -> Agent:
    """The agent of the tutorial, with its three tools under the policy of `runtime`."""

    @governed_tool(runtime=runtime, action_type="search", action_target="web")
    async def web_search(query: str) -> str:
        """Search the web for information."""
        return f"Search results for '{query}': NIST AI RMF, EU AI Act, ISO/IEC 42001"

    @governed_tool(runtime=runtime, action_type="write_report", action_target="storage")
    async def write_report(title: str, content: str) -> str:
        """Write a report to storage."""
        return f"Report '{title}' saved ({len(content)} characters)."

    @governed_tool(runtime=runtime, action_type="delete_document", action_target="storage")
    async def delete_document(document_id: str) -> str:
        """Delete a document from storage."""
        raise AssertionError(f"document {document_id} must never be deleted")

    return Agent(
        name="Research Assistant",
        instructions=(
            "You are a research assistant. Use web_search to find information, write_report to save "
            "findings, and delete_document to clean up. If a tool call is blocked, explain why."
        ),
        model=model,
        tools=[web_search, write_report, delete_document],
    )


def scripted_model() -> ScriptedModel:
    """What a model would do with the three questions, written down."""
    return ScriptedModel(
        [
            [function_call("web_search", {"query": "AI governance best practices"}, call_id="call_1")],
            [assistant_message("Found: NIST AI RMF, EU AI Act, ISO/IEC 42001.")],
            [
                function_call(
                    "write_report",
                    {"title": "AI governance", "content": "NIST AI RMF, EU AI Act, ISO/IEC 42001"},
                    call_id="call_2",
                )
            ],
            [assistant_message("That is what the storage answered.")],
            [function_call("delete_document", {"document_id": "42"}, call_id="call_3")],
            [assistant_message("I may not delete documents: the policy blocks it (block_deletes).")],
        ]
    )


async def run(runtime: Runtime, model: Model | None) -> None:
    agent = build_agent(runtime, model)
    for question in QUESTIONS:
        print(f"\n> {question}")
        result = await Runner.run(agent, question)
        for item in result.new_items:
            if item.type == "tool_call_output_item":
                print(f"  tool:  {item.output}")
        print(f"  agent: {result.final_output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ask", action="store_true", help="ask you at the terminal before a write")
    parser.add_argument("--show-signals", action="store_true", help="print spans, events and metrics")
    options = parser.parse_args()

    model = None
    if not os.environ.get("OPENAI_API_KEY"):
        print("OPENAI_API_KEY is not set: the agent runs on a scripted model, offline.")
        set_tracing_disabled(True)  # the SDK's own export to OpenAI; governance does not depend on it
        model = scripted_model()

    print_signals = None
    if options.show_signals:
        print_signals = show_signals()
    else:
        configure_otlp()  # to a collector, when OTEL_EXPORTER_OTLP_ENDPOINT names one
    runtime = Runtime(
        policy=Policy.from_yaml(Path(__file__).with_name("policy.yaml")),
        approval_handler=CLIApprovalHandler() if options.ask else AutoApprovalHandler(),
    )
    if not options.ask:
        print("Writes are approved automatically; with --ask you are asked.")
    asyncio.run(run(runtime, model))

    print(f"\nThe audit of this run, in aegis_audit/ (aegis audit --session {runtime.session_id}):\n")
    aegis(["audit", "--session", runtime.session_id], standalone_mode=False)
    if print_signals is not None:
        print_signals()


if __name__ == "__main__":
    main()
