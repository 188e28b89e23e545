"""Make one call after another on one connection."""

from __future__ import annotations

from .contenders import HAIKU, MESSAGES, PROMPT, ROUTER, raw
from .fixed_server import fixed_server
from .langchain_models import PEER, ours, peer
from .measuring import RAW, compared, interleaved, repeated

TITLE = "invoke: sequential calls on one connection, to a server that answers at once"
ROUNDS = 300
_CALLS = 5
_AT_MOST = 1.10


def run(rounds=ROUNDS):
    with fixed_server() as url:
        client = raw(url)
        models = {
            (kind, name): make(url, target)
            for kind, target in (("model", HAIKU), ("router", ROUTER))
            for name, make in (("peer", peer), ("ours", ours))
        }
        contenders = {
            ("model", "raw"): repeated(_CALLS, lambda: client.converse(modelId=HAIKU, messages=MESSAGES)),
            ("router", "raw"): repeated(_CALLS, lambda: client.converse(modelId=ROUTER, messages=MESSAGES)),
            **{key: repeated(_CALLS, lambda model=model: model.invoke(PROMPT)) for key, model in models.items()},
        }
        times = interleaved(contenders, rounds)
    rows = []
    for kind in ("model", "router"):
        of = {name: times[kind, name] for name in ("raw", "peer", "ours")}
        on = f"on a {kind}"
        rows += [
            compared(f"{RAW} converse, {on}", of["raw"], peer=of["peer"], raw=of["raw"], calls=_CALLS),
            compared(f"{PEER}.invoke, {on}", of["peer"], peer=of["peer"], raw=of["raw"], calls=_CALLS),
            compared(
                f"ChatBedrockRouter.invoke, {on}",
                of["ours"], peer=of["peer"], raw=of["raw"], calls=_CALLS, at_most=_AT_MOST,
            ),
        ]  # fmt: skip
    return rows
