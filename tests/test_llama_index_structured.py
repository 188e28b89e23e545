"""Structured output through `BedrockRouter`: whole, streamed, cut off, and where the model would rather talk."""

from __future__ import annotations

import pytest
from llama_index.core.indices.property_graph import SchemaLLMPathExtractor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import TextNode
from llama_index.core.types import PydanticProgramMode
from llama_index_forms import user
from pydantic import BaseModel, Field
from samples import HAIKU, LLAMA_70B
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError, StreamInterruptedError, ToolCallError
from bedrock_routing_integrations.llama_index import BedrockRouter

ROUTERS = ("anthropic.claude:1", "amazon.nova:1", "meta.llama:1")
TOPIC = PromptTemplate("Invent a song about {topic}.")
THINKER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
WITHOUT_TOOLS = "meta.llama3-8b-instruct-v1:0"


class Song(BaseModel):
    """A song."""

    title: str = Field(description="The song's title")
    year: int
    tags: list[str] = []


@pytest.fixture(params=ROUTERS)
def llm(bedrock, request):
    return BedrockRouter(model=bedrock.default_router(request.param))


async def songs_of(llm, form, **llm_kwargs):
    """Return the items of a stream of objects, and the error at its end."""
    songs, error = [], None
    try:
        if form == "sync":
            songs.extend(llm.stream_structured_predict(Song, TOPIC, llm_kwargs, topic="cats"))
        else:
            async for song in await llm.astream_structured_predict(Song, TOPIC, llm_kwargs, topic="cats"):
                songs.append(song)
    except ToolCallError as raised:
        error = raised
    return songs, error


FORMS = ("sync", "async")
CUT_OFF = "were cut off|are not a JSON object"


# --- on the models of the emulator ---


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # LlamaIndex's own StructuredLLM calls it
async def test_structured_predict_gives_the_object_on_every_family(llm):
    for song in (
        llm.structured_predict(Song, TOPIC, topic="cats"),
        await llm.astructured_predict(Song, TOPIC, topic="cats"),
    ):
        assert isinstance(song, Song)
    structured = llm.as_structured_llm(Song)
    messages = user("Invent a song about cats.")
    for response in (
        structured.chat(messages), await structured.achat(messages), structured.complete("Invent a song about cats."),
        await structured.acomplete("Invent a song about cats."), list(structured.stream_chat(messages))[-1],
        [chunk async for chunk in await structured.astream_chat(messages)][-1],
    ):  # fmt: skip
        assert isinstance(response.raw, Song)


async def test_streamed_structured_output_gives_the_object_on_every_family(llm):
    streamed = list(llm.stream_structured_predict(Song, TOPIC, topic="cats"))
    assert isinstance(streamed[-1], Song)
    streamed = [song async for song in await llm.astream_structured_predict(Song, TOPIC, topic="cats")]
    assert isinstance(streamed[-1], Song)


SONG = ['{"ti', 'tle": "Cats on ', 'the roof", "ye', 'ar": 1999, "tags": ["cat', 's", "roofs"', "]}"]


async def test_a_streamed_object_grows_as_the_model_writes_it():
    answer = stream_of(
        call_start(0, "t1", "Song"), *(call_delta(0, part) for part in SONG), block_stop(0), stop="tool_use"
    )
    with ScriptedBedrock(answer) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        for songs in (
            list(llm.stream_structured_predict(Song, TOPIC, topic="cats")),
            [song async for song in await llm.astream_structured_predict(Song, TOPIC, topic="cats")],
        ):
            titles = [song.title for song in songs]
            assert titles == [None, None, "Cats on ", *["Cats on the roof"] * (len(songs) - 3)]
            assert [song.tags for song in songs][-4:-1] == [["cat"], ["cats", "roofs"], ["cats", "roofs"]]
            assert songs[-1] == Song(title="Cats on the roof", year=1999, tags=["cats", "roofs"])


# --- the tool is forced where that is possible ---


@pytest.mark.parametrize("form", FORMS)
async def test_a_streamed_object_is_forced_where_the_models_can_be(bedrock, llm, form):
    await songs_of(llm, form)
    sent = bedrock.requests()[-1].request["toolConfig"].get("toolChoice")
    assert sent == (None if "meta.llama" in llm.model else {"any": {}}), "LlamaIndex's wish gives way"


@pytest.mark.parametrize("form", FORMS)
async def test_a_streamed_object_is_not_forced_while_claude_thinks(bedrock, form, caplog):
    llm = BedrockRouter(model=THINKER, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=4000)
    await songs_of(llm, form)
    assert "toolChoice" not in bedrock.requests()[-1].request["toolConfig"]
    assert [record for record in caplog.records if record.name == "bedrock_routing_integrations"] == []


@pytest.mark.parametrize("form", FORMS)
async def test_llm_kwargs_are_sent_and_not_changed(bedrock, router, form):
    llm_kwargs = {"temperature": 0.5, "max_tokens": 700}
    songs, error = await songs_of(BedrockRouter(model=router), form, **llm_kwargs)
    assert isinstance(songs[-1], Song)
    assert error is None
    assert bedrock.requests("ConverseStream")[-1].request["inferenceConfig"] == {"temperature": 0.5, "maxTokens": 700}
    given = dict(llm_kwargs)
    list(BedrockRouter(model=router).stream_structured_predict(Song, TOPIC, given, topic="cats"))
    assert given == llm_kwargs
    with pytest.raises(InvalidRequestError, match="did you mean 'temperature'"):
        await songs_of(BedrockRouter(model=router), form, temprature=0.5)


# --- an object that is not whole is an error at the end of the stream ---


def written(*parts, stop="tool_use"):
    deltas = [call_delta(0, part) for part in parts]
    return stream_of(call_start(0, "t1", "Song"), *deltas, block_stop(0), stop=stop)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parts", [SONG[:3], SONG[:1], ()])
@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
async def test_cut_off_object_raises_after_its_parts(form, parts, stop):
    with ScriptedBedrock(written(*parts, stop=stop)) as server:
        songs, error = await songs_of(BedrockRouter(model=HAIKU, **server.arguments), form)
    assert {getattr(song, "year", None) for song in songs} <= {None}
    advice = {"max_tokens": "raise max_tokens", "model_context_window_exceeded": "shorten the conversation"}[stop]
    with pytest.raises(ToolCallError, match=rf"call of 'Song' ({CUT_OFF}).*stop reason: {stop}.*{advice}"):
        raise error
    assert ("Cats on" in str(songs)) == (len(parts) == 3)


@pytest.mark.parametrize("form", FORMS)
async def test_missing_object_raises_without_quoting_the_answer(form):
    with ScriptedBedrock(stream_of(text(0, "I would rather not."), block_stop(0))) as server:
        _, error = await songs_of(BedrockRouter(model=HAIKU, **server.arguments), form)
    with pytest.raises(ToolCallError, match=r"called no tool \(stop reason: end_turn\)"):
        raise error
    assert "rather" not in str(error)  # error messages are logged


@pytest.mark.parametrize("form", FORMS)
async def test_an_object_that_is_whole_raises_nothing(form):
    with ScriptedBedrock(written(*SONG)) as server:
        songs, error = await songs_of(BedrockRouter(model=HAIKU, **server.arguments), form)
    assert error is None
    assert songs[-1].year == 1999


@pytest.mark.parametrize("form", FORMS)
async def test_interrupted_stream_of_objects_raises_its_error(bedrock, router, form):
    bedrock.fail("cut", frame=4)
    with pytest.raises(StreamInterruptedError):
        await songs_of(BedrockRouter(model=router), form)


def test_text_streams_may_end_without_an_object():
    with ScriptedBedrock(written(*SONG[:3], stop="max_tokens")) as server:
        chunks = list(BedrockRouter(model=HAIKU, **server.arguments).stream_chat(user("Hello")))
    assert chunks[-1].message.blocks[0].tool_kwargs == "".join(SONG[:3])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "answer",
    [
        whole_of({"text": "I would rather not."}),
        whole_of({"toolUse": {"toolUseId": "t1", "name": "Song", "input": {"title": "Ca"}}}, stop="max_tokens"),
    ],
)
async def test_family_without_streamed_tools_raises_too(form, answer):
    with ScriptedBedrock(answer) as server:
        _, error = await songs_of(BedrockRouter(model=f"us.{LLAMA_70B}", **server.arguments), form)
    assert isinstance(error, ToolCallError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "without_tools", [{"model": WITHOUT_TOOLS}, {"model": HAIKU, "pydantic_program_mode": PydanticProgramMode.LLM}]
)
async def test_objects_that_are_written_as_text_come_as_text(form, without_tools):
    answer = stream_of(text(0, '{"title": "Cats", "ye'), text(0, 'ar": 1999}'), block_stop(0))
    with ScriptedBedrock(answer) as server:
        songs, error = await songs_of(BedrockRouter(**server.arguments, **without_tools), form)
    assert error is None
    assert songs[-1] == Song(title="Cats", year=1999)


# --- what LlamaIndex does with many calls survives one without an object ---

REFUSED = whole_of({"text": "I would rather not."})


def called(name, **arguments):
    return whole_of({"toolUse": {"toolUseId": "t1", "name": name, "input": arguments}}, stop="tool_use")


async def test_a_graph_is_extracted_from_the_texts_that_gave_one():
    known = {
        "subject": {"type": "PERSON", "name": "Alice"}, "relation": {"type": "BORN_IN"},
        "object": {"type": "LOCATION", "name": "Paris"},
    }  # fmt: skip
    nodes = [TextNode(text="Nothing."), TextNode(text="Alice was born in Paris.")]
    with ScriptedBedrock(REFUSED, called("KGSchema", triplets=[known])) as server:
        extractor = SchemaLLMPathExtractor(llm=BedrockRouter(model=HAIKU, **server.arguments), num_workers=1)
        extracted = await extractor.acall(nodes)
        assert len(server.requests) == 2
    assert sorted(len(node.metadata["relations"]) for node in extracted) == [0, 1]


async def test_an_answer_is_refined_with_the_texts_that_gave_one():
    answer = called("StructuredRefineResponse", query_satisfied=True, answer="Bob")
    for asked in ([REFUSED, answer], [answer, REFUSED]):
        for awaited in (False, True):
            with ScriptedBedrock(*asked) as server:
                synthesizer = get_response_synthesizer(
                    llm=BedrockRouter(model=HAIKU, **server.arguments), response_mode="refine",
                    structured_answer_filtering=True,
                )  # fmt: skip
                given = ("Who is it?", ["Some text.", "Another text."])
                answer = await synthesizer.aget_response(*given) if awaited else synthesizer.get_response(*given)
                assert answer == "Bob"
                assert len(server.requests) == 2
