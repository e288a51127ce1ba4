"""What a model would do with the request, written down: the example needs no key and no network."""

from agents import set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call


def scripted_model() -> ScriptedModel:
    set_trace_processors([])  # the SDK's own export to OpenAI
    return ScriptedModel(
        [
            [function_call("find_customer", {"name": "Acme"}, call_id="call_1")],
            [function_call("delete_customer", {"number": 7}, call_id="call_2")],
            [assistant_message("I may not delete customers.")],
        ]
    )
