"""Two agents and one tool: the agent at the front desk may not do what the specialist may."""

from pathlib import Path

from agents import Agent, Runner, function_tool
from offline import scripted_model

import aegis_otel

aegis_otel.instrument(policy=Path(__file__).with_name("policy.yaml"))


@function_tool
def refund(order: str, amount: float) -> str:
    """Pay back an order, in euros."""
    return f"{amount:g} euros for order {order} are on their way."


model = scripted_model()  # leave it out to use a real one
billing = Agent(name="Billing", instructions="You settle payments.", tools=[refund], model=model)
front_desk = Agent(
    name="Front desk",
    instructions="You greet customers, and hand over to Billing what is about money.",
    tools=[refund],
    handoffs=[billing],
    model=model,
)

request = "The chair of order 1042 never came. I want my 240 euros back."
print(f"> {request}")
for item in Runner.run_sync(front_desk, request).new_items:
    if item.type == "tool_call_output_item":
        print(f"  {item.agent.name}, refund: {item.output}")
    elif item.type == "handoff_output_item":
        print(f"  {item.source_agent.name} hands over to {item.target_agent.name}.")
    elif item.type == "message_output_item":
        print(f"  {item.agent.name}: {item.raw_item.content[0].text}")
