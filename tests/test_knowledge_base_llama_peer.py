"""LlamaIndex's column of the feature table, where there is an interpreter that has its retriever.

python -m venv peer && peer/bin/python -m pip install llama-index-retrievers-bedrock==0.7.0
LLAMA_INDEX_PEER=peer/bin/python python -m pytest tests/test_knowledge_base_llama_peer.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from knowledge_base_calls import chunk, collection

PEER = os.environ.get("LLAMA_INDEX_PEER")
pytestmark = pytest.mark.skipif(PEER is None, reason="LLAMA_INDEX_PEER names no interpreter")

ROWS = {
    "k in the constructor": "raises TypeError",
    "k in a call": "raises TypeError",
    "no configuration": "raises ParamValidationError",
    "further pages": "raises ParamValidationError",
    "guardrail": "raises TypeError",
    "mixed content": "raises KeyError",
    "async of its own": 5,
    "managed, found out": "raises ValidationException",
    "managed, stated": "raises ParamValidationError",
    "source": None,
    "hidden from the LLM": [],
    "credentials as strings": True,
    "a pickle": "raises PicklingError",
    "a deep copy": "raises TypeError",
    "secrets in repr": False,
    "endpoint_url": "raises TypeError",
    "a misspelt argument": "raises TypeError",
    "without a Region": "raises ValueError",
}


@pytest.fixture
def done(bedrock):
    def numbered(**settings):
        return bedrock.add_knowledge_base(collection(*(chunk(f"krill {n}", n) for n in range(12))), **settings)

    bases = {"numbered": numbered(), "managed": numbered(type="MANAGED"), "library": bedrock.default_knowledge_base()}
    script = Path(__file__).with_name("llama_index_peer_rows.py")
    environment = {**os.environ, **bedrock.environment()}
    command = [PEER or sys.executable, str(script), json.dumps(bases)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(ran.stdout)


def test_each_row_of_llama_indexs_retriever(done):
    assert done == ROWS
