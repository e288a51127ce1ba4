"""Another instrumentation makes the spans of the run; governance adds its own inside of them."""

import sys
from pathlib import Path

from agents import Agent, Runner, function_tool
from offline import scripted_model
from opentelemetry import trace
from spans import collect_spans, show_spans

import aegis_otel

try:
    from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor
except ModuleNotFoundError:
    sys.exit("first: pip install opentelemetry-instrumentation-genai-openai-agents==1.3b0")

tracer = trace.get_tracer("shop")


@function_tool
def find_customer(name: str) -> str:
    """Look a customer up."""
    with tracer.start_as_current_span("SELECT customers"):
        return f"{name} is customer 7."


@function_tool
def delete_customer(number: int) -> str:
    """Delete a customer."""
    with tracer.start_as_current_span("DELETE customers"):
        return f"Customer {number} is deleted."


support = Agent(
    name="Support",
    instructions="You keep the list of customers.",
    tools=[find_customer, delete_customer],
    model=scripted_model(),  # leave this out to use a real one
)

spans = collect_spans()  # in place of an exporter
OpenAIAgentsInstrumentor().instrument()
aegis_otel.instrument(policy=Path(__file__).with_name("policy.yaml"))

request = "Delete the customer Acme."
print(f"> {request}")
print(f"  {Runner.run_sync(support, request).final_output}")
show_spans(spans)
