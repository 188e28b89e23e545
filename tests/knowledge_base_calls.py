"""Small knowledge bases, and requests to them as boto3 takes them."""

from contextlib import closing

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from bedrock_routing_integrations.emulator.service.documents import Chunk, Collection

# Without botocore's own checks, so that the emulator's are seen.
UNCHECKED = Config(parameter_validation=False, retries={"total_max_attempts": 1})
SORRY = "Sorry, I am unable to assist you with this request."
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
FAST = "us.amazon.nova-pro-v1:0"  # through a profile it is offered with optimized latency
OPTIMIZED = {"performanceConfig": {"latency": "optimized"}}
DECOMPOSED = {"queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"}}
DAY = 24 * 3600

FACTS = (
    "Ann \N{GRINNING FACE} Huygens found Titan in 1655. Titan is larger than Mercury.",
    "Galileo \N{GRINNING FACE}\N{GRINNING FACE} Galilei discovered Io in 1610. Io has 400 volcanoes.",
    "Triton was found by William Lassell.",
    # Twice in the collection, so that an answer has two references.
    "Io has 400 volcanoes.",
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def chunk(text, number=0, content=None, **metadata):
    uri = f"s3://bucket/{number}.md"
    return Chunk(
        content=content or {"type": "TEXT", "text": text},
        location={"type": "S3", "s3Location": {"uri": uri}},
        metadata={"x-amz-bedrock-kb-source-uri": uri, **metadata},
        document_id=f"document-{number}",
        text=text,
    )


def collection(*chunks):
    made = Collection()
    for each in chunks:
        made.add(each)
    return made


def retrieve(client, knowledge_base_id, text="krill", *, managed=False, token=None, user=None, **search):
    kind = "managedSearchConfiguration" if managed else "vectorSearchConfiguration"
    return client.retrieve(
        knowledgeBaseId=knowledge_base_id,
        retrievalQuery={"text": text},
        **({"retrievalConfiguration": {kind: search}} if search else {}),
        **({"nextToken": token} if token else {}),
        **({"userContext": {"userId": user}} if user else {}),
    )


def texts(answer):
    return [result["content"]["text"] for result in answer["retrievalResults"]]


def refused(call, *arguments, code="ValidationException", **keywords):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **keywords)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


def request(base, question="Who found Titan?", model=HAIKU, **settings):
    named = {
        name: settings.pop(name) for name in ("sessionId", "sessionConfiguration", "userContext") if name in settings
    }
    configuration = {"knowledgeBaseId": base, "modelArn": model, **settings}
    return {
        "input": {"text": question},
        "retrieveAndGenerateConfiguration": {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": configuration},
        **named,
    }


def external(source, question="Who found Titan?", model=HAIKU, **settings):
    configuration = {"modelArn": model, "sources": [source], **settings}
    return {
        "input": {"text": question},
        "retrieveAndGenerateConfiguration": {"type": "EXTERNAL_SOURCES", "externalSourcesConfiguration": configuration},
    }


def in_bytes(data, kind="text/plain"):
    return {"sourceType": "BYTE_CONTENT", "byteContent": {"identifier": "f", "contentType": kind, "data": data}}


def generation(**settings):
    return {"generationConfiguration": settings}


def template(text):
    return {"promptTemplate": {"textPromptTemplate": text}}


def ask(client, *arguments, **settings):
    return client.retrieve_and_generate(**request(*arguments, **settings))


def stream(client, asked):
    """The session and the events of a streamed answer."""
    answer = client.retrieve_and_generate_stream(**asked)
    with closing(answer["stream"]) as events:
        return answer["sessionId"], list(events)


def streamed_text(events):
    return "".join(event["output"]["text"] for event in events if "output" in event)


def spans(citations):
    places = [citation["generatedResponsePart"]["textResponsePart"] for citation in citations]
    return [(place["text"], place["span"]["start"], place["span"]["end"]) for place in places]
