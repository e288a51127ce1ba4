"""What a model would do with the questions, written down: the example needs no key and no network."""

from typing import Any

from agents import set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.testing.model import ModelCall


def scripted_model() -> ScriptedModel:
    set_tracing_disabled(True)  # the SDK's own export to OpenAI; governance does not depend on it
    return ScriptedModel(
        [
            [function_call("read_file", {"name": "minutes.md"}, call_id="call_1")],
            ModelStep.respond(_say_what_the_tool_said),
            [function_call("delete_file", {"name": "budget.xlsx"}, call_id="call_2")],
            ModelStep.respond(_say_what_the_tool_said),
        ]
    )


def _say_what_the_tool_said(call: ModelCall) -> Any:
    return [assistant_message(f"The tool answered: {call.input[-1]['output']}")]
