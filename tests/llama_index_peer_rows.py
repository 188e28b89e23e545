"""Run the feature table's rows with LlamaIndex's own retriever, in an interpreter that has it. Prints JSON.

It cannot be installed together with this package (0.7 pins botocore 1.40): see `test_knowledge_base_llama_peer.py`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import sys

from llama_index.retrievers.bedrock import AmazonKnowledgeBasesRetriever

VECTOR, MANAGED = "vectorSearchConfiguration", "managedSearchConfiguration"
SECRETS = {"aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "very-secret"}
BASES = json.loads(sys.argv[1])


def made(base="numbered", section=VECTOR, results=5, **arguments):
    config = {"retrieval_config": {section: {"numberOfResults": results}}}
    return AmazonKnowledgeBasesRetriever(knowledge_base_id=BASES[base], **{**config, **arguments})


def without_a_region():
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        os.environ.pop(name, None)
    return made() is not None


def deep():
    return len(copy.deepcopy(made()).retrieve("krill"))


ROWS = {
    "k in the constructor": lambda: len(made(k=2).retrieve("krill")),
    "k in a call": lambda: len(made().retrieve("krill", k=2)),
    "no configuration": lambda: len(
        AmazonKnowledgeBasesRetriever(knowledge_base_id=BASES["numbered"]).retrieve("krill")
    ),
    "further pages": lambda: len(made(retrieval_config={VECTOR: {}, "nextToken": "a"}).retrieve("krill")),
    "guardrail": lambda: made(guardrail_config={}) is not None,
    "mixed content": lambda: len(made("library", results=100).retrieve("moons orbit spacecraft recording diagram")),
    "async of its own": lambda: len(asyncio.run(made().aretrieve("krill"))),
    "managed, found out": lambda: len(made("managed").retrieve("krill")),
    "managed, stated": lambda: len(made("managed", MANAGED).retrieve("krill")),
    "source": lambda: made("library", results=1).retrieve("ocean")[0].metadata.get("source"),
    "hidden from the LLM": lambda: made("library", results=1).retrieve("ocean")[0].node.excluded_llm_metadata_keys,
    "credentials as strings": lambda: made(**SECRETS) is not None,
    "a pickle": lambda: b"very-secret" in pickle.dumps(made(**SECRETS)),
    "a deep copy": deep,
    "secrets in repr": lambda: "very-secret" in repr(made(**SECRETS)),
    "endpoint_url": lambda: made(endpoint_url="http://127.0.0.1") is not None,
    "a misspelt argument": lambda: made(min_score=0.5) is not None,
    "without a Region": without_a_region,  # the last: it takes the Region away
}


def outcome(row):
    try:
        return row()
    except Exception as error:
        return f"raises {type(error).__name__}"


print(json.dumps({name: outcome(row) for name, row in ROWS.items()}))
