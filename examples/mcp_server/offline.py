"""What a model would do with the questions, written down: the example needs no key and no network."""

from agents import set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call


def scripted_model() -> ScriptedModel:
    set_tracing_disabled(True)  # the SDK's own export to OpenAI; governance does not depend on it
    done = [assistant_message("Done.")]
    return ScriptedModel(
        [
            [function_call("count_stock", {"item": "bolts"}, call_id="call_1")],
            done,
            [function_call("write_off", {"item": "nuts"}, call_id="call_2")],
            done,
            [function_call("count_stock", {"item": "nuts"}, call_id="call_3")],
            done,
        ]
    )
