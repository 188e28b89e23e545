"""Ten passages from a knowledge base: a retriever against langchain-aws's, both against boto3."""

from __future__ import annotations

import boto3
from langchain_aws.retrievers import AmazonKnowledgeBasesRetriever
from pydantic import SecretStr

from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever

from .contenders import CREDENTIALS, REGION
from .fixed_server import KNOWLEDGE_BASE, fixed_server
from .measuring import RAW, compared, interleaved, repeated

TITLE = "retrieve: ten passages, sequential calls on one connection, to a server that answers at once"
ROUNDS = 200
PEER = "AmazonKnowledgeBasesRetriever"
_CALLS = 5
_AT_MOST = 1.25
_QUERY = "Which moon has an ocean under its ice?"
_CONFIG = {"vectorSearchConfiguration": {"numberOfResults": 10}}


def run(rounds=ROUNDS):
    with fixed_server() as url:
        where = {"region_name": REGION, "endpoint_url": url}
        client = boto3.Session(**CREDENTIALS, region_name=REGION).client("bedrock-agent-runtime", endpoint_url=url)
        secrets = {name: SecretStr(value) for name, value in CREDENTIALS.items()}
        peer = AmazonKnowledgeBasesRetriever(
            knowledge_base_id=KNOWLEDGE_BASE, retrieval_config=_CONFIG, **where, **secrets
        )
        ours = KnowledgeBaseRetriever(knowledge_base_id=KNOWLEDGE_BASE, k=10, **where, **CREDENTIALS)
        times = interleaved(
            {
                "raw": repeated(
                    _CALLS,
                    lambda: client.retrieve(
                        knowledgeBaseId=KNOWLEDGE_BASE,
                        retrievalQuery={"text": _QUERY},
                        retrievalConfiguration=_CONFIG,
                    ),
                ),
                "peer": repeated(_CALLS, lambda: peer.invoke(_QUERY)),
                "ours": repeated(_CALLS, lambda: ours.invoke(_QUERY)),
            },
            rounds,
        )
    raw, theirs, own = (times[name] for name in ("raw", "peer", "ours"))
    return [
        compared(f"{RAW} retrieve", raw, peer=theirs, raw=raw, calls=_CALLS),
        compared(f"{PEER}.invoke", theirs, peer=theirs, raw=raw, calls=_CALLS),
        compared("KnowledgeBaseRetriever.invoke", own, peer=theirs, raw=raw, calls=_CALLS, at_most=_AT_MOST),
    ]
