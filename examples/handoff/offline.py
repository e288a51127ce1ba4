"""What a model would do with the request, written down: the example needs no key and no network."""

from agents import set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

ORDER = {"order": "1042", "amount": 240}


def scripted_model() -> ScriptedModel:
    set_tracing_disabled(True)  # the SDK's own export to OpenAI; governance does not depend on it
    return ScriptedModel(
        [
            [function_call("refund", ORDER, call_id="call_1")],
            [function_call("transfer_to_billing", {}, call_id="call_2")],
            [function_call("refund", ORDER, call_id="call_3")],
            [assistant_message("You have it back in three days.")],
        ]
    )
