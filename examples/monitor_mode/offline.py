"""What a model would do with the requests, written down: the example needs no key and no network."""

from typing import Any

from agents import set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call


def scripted_model() -> ScriptedModel:
    set_trace_processors([])  # the SDK's own export to OpenAI
    done = [assistant_message("Done.")]
    return ScriptedModel(
        [
            [_refund("1041", 12)],
            done,
            [_refund("1042", 240)],
            done,
            [_refund("1040", 9000)],
            [function_call("send_mail", {"to": "me@example.net", "text": "Here it is."}, call_id="mail")],
            done,
        ]
    )


def _refund(order: str, amount: float) -> Any:
    return function_call("refund", {"order": order, "amount": amount}, call_id=order)
