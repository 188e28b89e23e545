"""`BedrockRouterLLM` as a LangChain user calls it."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.prompts import PromptTemplate
from samples import ALICE, HAIKU, HELLO, SONNET

from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError, StreamInterruptedError
from bedrock_routing_integrations.langchain import BedrockRouterLLM


class Recorder(BaseCallbackHandler):
    def __init__(self):
        self.tokens, self.results = [], []

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.results.append(response)


def invoked(generation):
    return generation.generation_info["routing"]["invoked_model"]


def test_strings_in_strings_out(router):
    llm = BedrockRouterLLM(model=router)
    assert "hello world" in llm.invoke(HELLO)
    assert "hello world" in (PromptTemplate.from_template("{q}") | llm).invoke({"q": HELLO})


def test_generation_names_the_invoked_model(router):
    result = BedrockRouterLLM(model=router, temperature=0).generate([ALICE, HELLO])
    assert [invoked(generations[0]) for generations in result.generations] == [SONNET, HAIKU]
    assert result.generations[0][0].generation_info["usage_metadata"]["output_tokens"] > 0
    assert [routing["invoked_model"] for routing in result.llm_output["routing"]] == [SONNET, HAIKU]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_stream_names_the_invoked_model(router, asynchronous):
    seen = Recorder()
    llm = BedrockRouterLLM(model=router, callbacks=[seen])
    if asynchronous:
        parts = [part async for part in llm.astream(HELLO)]
    else:
        parts = list(llm.stream(HELLO))
    assert "".join(parts) == BedrockRouterLLM(model=router).invoke(HELLO)
    assert "".join(seen.tokens) == "".join(parts)
    assert invoked(seen.results[0].generations[0][0]) == HAIKU


async def test_async_calls_and_batches_answer(bedrock, router):
    llm = BedrockRouterLLM(model=router)
    assert await llm.ainvoke(HELLO) == llm.invoke(HELLO)
    for batch in (asyncio.to_thread(llm.batch, ["Hello"] * 40), llm.abatch(["Hello"] * 40)):
        bedrock.clear_journal()
        bedrock.fail("slow_first_byte", operation="Converse", times=17, seconds=5, in_flight=17)
        assert len(await batch) == 40
        assert bedrock.peak_in_flight > 16


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failed_prompt_of_a_batch_keeps_the_other_answers(bedrock, router, asynchronous):
    llm = BedrockRouterLLM(model=router)
    bedrock.fail("validation", times=1, after=1)
    batch = llm.abatch if asynchronous else llm.batch
    answers = batch([HELLO] * 3, return_exceptions=True)
    answers = await answers if asynchronous else answers
    assert sorted(type(answer).__name__ for answer in answers) == ["ValidationException", "str", "str"]


def test_call_may_name_stop_sequence_and_target(router):
    llm = BedrockRouterLLM(model=router)
    assert " " not in llm.invoke(HELLO, stop=[" "])
    assert "hello world" in llm.invoke(HELLO, model=HAIKU)


def test_cut_stream_raises(bedrock, router):
    bedrock.fail("cut", frame=3)
    with pytest.raises(StreamInterruptedError):
        list(BedrockRouterLLM(model=router).stream(HELLO))


def test_constructor_takes_only_the_chat_models_arguments():
    llm = BedrockRouterLLM(
        model=HAIKU, temperature=0.5, max_tokens=7, aws_access_key_id="AKIA", aws_secret_access_key="not-to-be-seen"
    )
    assert llm.chat_model.temperature == 0.5
    assert llm.model == HAIKU
    assert "not-to-be-seen" not in repr(llm) + str(dumpd(llm)) + str(llm.asdict()) + str(pickle.dumps(llm))
    with pytest.raises(InvalidTargetError):
        BedrockRouterLLM(model="nonsense")
    with pytest.raises(InvalidRequestError, match=r"no argument no_such_argument\. .*additional_model_request_fields="):
        BedrockRouterLLM(model=HAIKU, no_such_argument=1)
