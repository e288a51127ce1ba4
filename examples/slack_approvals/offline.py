"""What a model would do with the request, written down: the example needs no key and no network."""

import uuid
from typing import Any

from agents import set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.testing.model import ModelCall


def scripted_model() -> ScriptedModel:
    set_tracing_disabled(True)  # the SDK's own export to OpenAI; governance does not depend on it
    return ScriptedModel([ModelStep.respond(_next), ModelStep.respond(_next)])


def _next(call: ModelCall) -> Any:
    """Call the tool, or say what it answered."""
    for item in call.input:
        if item.get("type") == "function_call_output":
            return [assistant_message(f"The tool answered: {item['output']}")]
    arguments = {"invoice": "2041", "amount": 1900}
    return [function_call("pay_invoice", arguments, call_id=f"call_{uuid.uuid4().hex}")]
