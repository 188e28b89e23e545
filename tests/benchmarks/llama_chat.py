"""LlamaIndex: one chat after another on one connection."""

from __future__ import annotations

from .contenders import HAIKU, MESSAGES, ROUTER, raw
from .fixed_server import fixed_server
from .llama_models import ASKED, CHAT, INFERENCE, PEER, ours, peer
from .measuring import RAW, compared, interleaved, repeated

TITLE = "llama_chat: sequential calls on one connection, to a server that answers at once"
ROUNDS = 300
_CALLS = 5
_AT_MOST = 1.0


def run(rounds=ROUNDS, *, alone=False):
    """Compare equal requests; rows "by default" show our defaults, without temperature and token limit."""
    with fixed_server() as url:
        client = raw(url)
        models = {
            "same": ours(url, **ASKED),
            "default": ours(url),
            "router": ours(url, ROUTER, **ASKED),
            **({} if alone else {"peer": peer(url)}),
        }
        contenders = {
            "raw": lambda: client.converse(modelId=HAIKU, messages=MESSAGES, inferenceConfig=INFERENCE),
            "raw router": lambda: client.converse(modelId=ROUTER, messages=MESSAGES, inferenceConfig=INFERENCE),
            **{name: lambda model=model: model.chat(CHAT) for name, model in models.items()},
        }
        times = interleaved({name: repeated(_CALLS, call) for name, call in contenders.items()}, rounds)
    return list(_rows(times))


def _rows(times):
    theirs = times.get("peer")
    on_model = {"peer": theirs, "raw": times["raw"], "calls": _CALLS}
    yield compared(f"{RAW} converse, on a model", times["raw"], **on_model)
    if theirs:
        yield compared(f"{PEER}.chat, on a model", theirs, **on_model)
    yield compared("BedrockRouter.chat, on a model", times["same"], **on_model, at_most=_AT_MOST)
    yield compared("BedrockRouter.chat, on a model, its defaults", times["default"], **on_model, at_most=_AT_MOST)
    # The peer cannot call a router, so there is only raw boto3 to compare with.
    on_router = {"peer": None, "raw": times["raw router"], "calls": _CALLS}
    yield compared(f"{RAW} converse, on a router", times["raw router"], **on_router)
    yield compared("BedrockRouter.chat, on a router", times["router"], **on_router)
