"""Properties of langchain-aws, langchain-core, boto3 and botocore that this package relies on.

A release that changes one of them fails here first. The failure names the property, the file that relies on it, and
what to do.
"""

from __future__ import annotations

import copy
import functools
import inspect
import struct
import zlib

import boto3
import botocore.configprovider
import botocore.session
import pytest
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch, EventStream, EventStreamBuffer, NoInitialResponseError, ParserError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EventStreamError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from langchain_aws import ChatBedrockConverse
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import ContextThreadPoolExecutor, ensure_config
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel, Field, SecretStr
from relying import relies

from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.langchain._call_arguments import ARGUMENT_NAMES
from bedrock_routing_integrations.langchain._converse_client import SYSTEM_BEGINS, SYSTEM_ENDS, Protected
from bedrock_routing_integrations.models import look_ups as look_up

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "hello"}]}]
CHAT = "bedrock_routing_integrations/langchain/chat_models.py"
WRITING = "bedrock_routing_integrations/langchain/_converse_messages.py"
TOOLS = "bedrock_routing_integrations/langchain/_call_arguments.py"
ANSWERS = "bedrock_routing_integrations/langchain/_converse_client.py"
ARGUMENTS = "bedrock_routing_integrations/langchain/_call_arguments.py"
SETTINGS = "bedrock_routing_integrations/langchain/_model_settings.py"
CONNECTIONS = "bedrock_routing_integrations/connections/"
STREAMS = "bedrock_routing_integrations/transport/streams.py"
LOOK_UPS = "bedrock_routing_integrations/models/look_ups.py"
INVOCATION = "bedrock_routing_integrations/invocation.py"


# langchain-aws: the class

FIELDS = [
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key", "default_headers", "client",
    "bedrock_client", "model_id", "base_model_id", "provider", "region_name", "credentials_profile_name",
    "endpoint_url", "config", "timeout", "max_retries", "profile", "supports_tool_choice_values",
    "additional_model_request_fields", "reasoning_effort", "raw_blocks", "performance_config", "service_tier",
    "disable_streaming",
]  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_chat_bedrock_converse_has_this_field(name):
    relies(
        name in ChatBedrockConverse.model_fields, f"ChatBedrockConverse.{name}", CHAT,
        "Find its new name in langchain-aws's changelog, and whether the old one is still taken.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "alias"),
    [
        ("bedrock_api_key", "api_key"),
        ("model_id", "model"),
        ("base_model_id", "base_model"),
        ("endpoint_url", "base_url"),
    ],
)
def test_chat_bedrock_converse_fields_have_these_aliases(field, alias):
    relies(
        ChatBedrockConverse.model_fields[field].alias == alias, f"the alias {alias!r} of {field}", CHAT,
        "A redeclared field must keep upstream's alias, or its users' arguments are refused.",
    )  # fmt: skip
    relies(
        ChatBedrockRouter.model_fields[field].alias == alias, f"the alias {alias!r} of {field}", CHAT,
        "Redeclare the field with it.",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key"])
def test_secrets_are_secret_strings_and_not_read_from_the_environment(name, monkeypatch):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(variable, "frozen")
    theirs = ChatBedrockConverse.model_fields[name]
    relies(SecretStr in theirs.annotation.__args__, f"{name} being a SecretStr", CHAT, "Redeclare it as upstream does.")
    assert getattr(ChatBedrockRouter(model=HAIKU), name) is None


def test_secret_fields_of_upstream_are_known():
    secret = {
        name
        for name, field in ChatBedrockConverse.model_fields.items()
        if SecretStr in getattr(field.annotation, "__args__", (field.annotation,))
    }
    relies(
        secret == {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key"},
        f"the list of secret fields ({secret})", CHAT, "Add it to SECRETS, redeclare it, keep it out of pickles.",
    )  # fmt: skip


def test_fields_that_read_the_environment_are_redeclared():
    reads = {
        name
        for name, field in ChatBedrockConverse.model_fields.items()
        if "env" in getattr(field.default_factory, "__qualname__", "")
    }
    still = {
        name
        for name, field in ChatBedrockRouter.model_fields.items()
        if "env" in getattr(field.default_factory, "__qualname__", "")
    }
    relies(
        reads >= {"aws_access_key_id"}, "secret_from_env as the default factory", CHAT, "See how upstream reads it now."
    )
    still -= {"output_version"}  # a format, no credential
    relies(not still, f"no field freezing the environment ({still})", CHAT, "Redeclare it with default=None.")


VALIDATORS = {"set_disable_streaming": "before", "build_extra": "before", "validate_environment": "after"}


@pytest.mark.parametrize("name", VALIDATORS)
def test_validators_are_overridden_by_name(name):
    theirs = ChatBedrockConverse.__pydantic_decorators__.model_validators
    ours = ChatBedrockRouter.__pydantic_decorators__.model_validators
    relies(
        name in theirs and theirs[name].info.mode == VALIDATORS[name],
        f"the {VALIDATORS[name]}-validator {name}", CHAT, "Ours replaces it by its name; find where its work went.",
    )  # fmt: skip
    relies(ours[name].cls_ref != theirs[name].cls_ref, f"overriding {name} by name", CHAT, "pydantic calls both now.")


def test_validators_of_upstream_are_known():
    known = {
        "_set_model_profile", "_check_profile_keys", "_resolve_gateway", "build_extra", "set_disable_streaming",
        "validate_environment",
    }  # fmt: skip
    validators = set(ChatBedrockConverse.__pydantic_decorators__.model_validators)
    relies(
        validators <= known, f"these validators only (new: {validators - known})", CHAT,
        "Read it: does it ask AWS, read the environment, or decide by the model's name? Then add its name here.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_generate", ["self", "messages", "stop", "run_manager", "kwargs"]),
        ("_stream", ["self", "messages", "stop", "run_manager", "kwargs"]),
        ("_agenerate", ["self", "messages", "stop", "run_manager", "kwargs"]),
        ("_astream", ["self", "messages", "stop", "run_manager", "kwargs"]),
        ("bind_tools", ["self", "tools", "tool_choice", "strict", "kwargs"]),
        ("batch", ["self", "inputs", "config", "return_exceptions", "kwargs"]),
        ("batch_as_completed", ["self", "inputs", "config", "return_exceptions", "kwargs"]),
        ("get_num_tokens_from_messages", ["self", "messages", "tools"]),
        ("_get_ls_params", ["self", "stop", "kwargs"]),
        ("_combine_llm_outputs", None),
    ],
)
def test_overridden_methods_have_these_signatures(name, parameters):
    theirs = getattr(ChatBedrockConverse, name, None)
    relies(theirs is not None, f"ChatBedrockConverse.{name}", CHAT, "We override it to no effect.")
    ours = [kind for kind in ChatBedrockRouter.__mro__ if kind.__module__.startswith("bedrock_routing_integrations.")]
    relies(any(name in vars(kind) for kind in ours), f"our {name}", CHAT, "Take it out of this test.")
    if parameters:
        now = list(inspect.signature(theirs).parameters)
        relies(now == parameters, f"{name}({', '.join(parameters)}), now {now}", CHAT, "Pass the new argument on.")


def test_called_helpers_exist():
    for name in ("_resolve_model_profile", "_add_version", "_get_invocation_params", "_identifying_params"):
        relies(hasattr(ChatBedrockConverse, name), f"ChatBedrockConverse.{name}", CHAT, "Find what took its place.")
    relies("_call" in LLM.__abstractmethods__, "LLM._call", "langchain/llms.py", "See LLM's new extension point.")
    assert BedrockRouterLLM.__abstractmethods__ == frozenset()


# langchain-aws: what it hands on as it is


class Answering:
    """A client that notes the request, and gives one answer, whole or streamed."""

    def __init__(self, *content, events=()):
        self.content, self.events = list(content), [*events, {"messageStop": {"stopReason": "end_turn"}}]

    def converse(self, **request):
        self.request = request
        return {"output": {"message": {"role": "assistant", "content": self.content}}, "usage": {}}

    def converse_stream(self, **request):
        return {"stream": self.events}


def upstream(*content, events=()):
    client = Answering(*content, events=events)
    return ChatBedrockConverse(model=HAIKU, client=client, bedrock_client=client), client


PROTECTED = Protected({"a_b": 1})


def test_protected_values_and_markers_reach_the_client():
    llm, client = upstream({"text": "x"})
    call = {"type": "non_standard", "value": {"toolUse": {"toolUseId": "t", "name": "n", "input": PROTECTED}}}
    llm.invoke(
        [
            HumanMessage("q"),
            AIMessage([call]),
            HumanMessage([{SYSTEM_BEGINS: True}, {"text": "s"}, {SYSTEM_ENDS: True}]),
            ToolMessage([{"json": PROTECTED}], tool_call_id="t"),
        ],
        tools=[{"toolSpec": {"name": "n", "inputSchema": {"json": {"$defs": {"a_b": {}}}}}}],
        request_metadata=PROTECTED,
    )  # fmt: skip
    _, assistant, user = client.request["messages"]
    advice = "Find another way to keep the user's keys; see what converse_turns unwraps."
    relies(
        assistant["content"][0]["toolUse"]["input"] is PROTECTED, "non_standard blocks being handed on", WRITING, advice
    )
    relies(SYSTEM_BEGINS in user["content"][0], "untyped blocks being handed on", WRITING, advice)
    (result,) = user["content"][3]["toolResult"]["content"]
    relies(result["json"] is PROTECTED, "what is no dictionary being left alone", WRITING, advice)
    relies(
        client.request["requestMetadata"] is PROTECTED, "arguments that are no dictionary left alone", WRITING, advice
    )
    (spec,) = client.request["toolConfig"]["tools"]
    schema = spec["toolSpec"]["inputSchema"]["json"]
    relies(schema == {"$defs": {"a_b": {}}}, "the schema of a toolSpec being left alone", TOOLS, "Wrap the schema.")


def test_json_blocks_pass_through():
    delta = {"contentBlockDelta": {"contentBlockIndex": 3, "delta": {"json": PROTECTED}}}
    llm, _ = upstream({"json": PROTECTED}, events=[delta])
    advice = "Carry what langchain-aws would lose in another kind of block."
    relies(
        llm.invoke("x").content == [{"type": "json", "json": PROTECTED}], "json blocks being handed on", ANSWERS, advice
    )
    streamed = next(chunk for chunk in llm.stream("x") if chunk.content)
    expected = [{"type": "json", "json": PROTECTED, "index": 3}]
    relies(streamed.content == expected, "json blocks of a stream being handed on", ANSWERS, advice)


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "prompt_prefill"])
def test_structured_output_is_one_binding_then_a_parser(method):
    class City(BaseModel):
        name: str

    llm, _ = upstream()
    *steps, parser = llm.with_structured_output(City, method=method).steps
    bindings = [step for step in steps if isinstance(step, RunnableBinding)]
    relies(
        len(bindings) == 1 and bindings[0].bound is llm and isinstance(parser, BaseOutputParser),
        f"the steps of with_structured_output, now {steps}, {parser}",
        "bedrock_routing_integrations/langchain/_structured_output.py", "See build_structured_output.",
    )  # fmt: skip


def test_arguments_of_a_call_are_known():
    taken = set(inspect.signature(ChatBedrockConverse._converse_params).parameters)
    known = {_snake_to_camel(name) for name in ARGUMENT_NAMES.values()} | {"modelId", "self"}
    new = taken - known
    relies(not new, f"these arguments of a call only (new: {new})", ARGUMENTS, "Add them to ARGUMENT_NAMES.")


def test_mismatched_bracket_ends_partial_json():
    parsed = parse_partial_json('{"a": "b" (cut off) ]')
    relies(parsed is None, "parse_partial_json giving up at a mismatched bracket", ANSWERS, "See invalid_ending.")


def _snake_to_camel(name):
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


# langchain-aws: how it uses its client


class Watched:
    """boto3's client, noting how it is used, and adding a key as RoutedClient does."""

    def __init__(self, client):
        self.client, self.calls, self.closed = client, [], 0

    def converse(self, *args, **kwargs):
        self.calls.append(("converse", args, kwargs))
        return {**self.client.converse(**kwargs), "routing": {"invoked_model": "x"}}

    def converse_stream(self, *args, **kwargs):
        self.calls.append(("converse_stream", args, kwargs))
        return {"stream": WatchedStream(self.client.converse_stream(**kwargs)["stream"], self)}

    def __getattr__(self, name):
        return getattr(self.client, name)


class WatchedStream:
    def __init__(self, stream, watched):
        self.stream, self.watched = stream, watched

    def __iter__(self):
        for event in self.stream:
            if "metadata" in event:
                yield {"metadata": {**event["metadata"], "routing": {"invoked_model": "x"}}}
            else:
                yield event

    def close(self):
        self.watched.closed += 1
        self.stream.close()


@pytest.fixture
def watched(bedrock):
    return Watched(bedrock.client())


@pytest.fixture
def theirs(bedrock, watched):
    return ChatBedrockConverse(
        model=HAIKU, client=watched, bedrock_client=bedrock.client("bedrock"), region_name="us-east-1"
    )


def test_converse_is_called_with_keywords(theirs, watched):
    message = theirs.invoke("hello")
    ((name, args, kwargs),) = watched.calls
    relies(
        (name, args) == ("converse", ()) and {"messages", "modelId"} <= set(kwargs), "client.converse(**request)", CHAT,
        "RoutedClient is handed to langchain-aws as its boto3 client; see how it calls it now.",
    )  # fmt: skip
    relies(
        message.response_metadata.get("routing") == {"invoked_model": "x"},
        "response_metadata being the response with all its keys", CHAT, "Put 'routing' into the message ourselves.",
    )  # fmt: skip
    for name in ("model_name", "ResponseMetadata", "stopReason"):
        relies(name in message.response_metadata, f"response_metadata[{name!r}]", CHAT, "Set it ourselves.")


def test_converse_stream_is_called_with_keywords_and_closed(theirs, watched):
    merged = None
    for chunk in theirs.stream("hello"):
        merged = chunk if merged is None else merged + chunk
    ((name, args, kwargs),) = watched.calls
    relies(
        (name, args) == ("converse_stream", ()) and "messages" in kwargs,
        "client.converse_stream(**r)",
        CHAT,
        "See above.",
    )
    relies(
        merged.response_metadata.get("routing") == {"invoked_model": "x"},
        "the metadata event becoming response_metadata", CHAT, "Put 'routing' into the chunk ourselves.",
    )  # fmt: skip
    relies(watched.closed == 1, "stream.close() when the stream is read", CHAT, "Close the stream ourselves.")


def test_stream_left_early_is_closed(theirs, watched):
    stream = theirs.stream("hello")
    next(stream)
    stream.close()
    relies(watched.closed == 1, "stream.close() when the consumer stops", CHAT, "Close the stream ourselves.")


def test_given_client_is_kept_without_requests(theirs, watched, bedrock):
    relies(theirs.client is watched, "client= being used as it is", CHAT, "RoutedClient is replaced: see how.")
    relies(
        bedrock.journal == [],
        "no request when constructing with clients",
        CHAT,
        f"See what is asked: {bedrock.journal}",
    )


def test_validator_infers_these_settings_on_a_copy(theirs):
    """`_infer_settings` in chat_models runs upstream's validator on copies, one for each model of a router."""
    probe = theirs.model_copy(
        update={"model_id": "meta.llama3-1-8b-instruct-v1:0", "supports_tool_choice_values": None}
    )
    ChatBedrockConverse.validate_environment(probe)
    relies(
        probe.supports_tool_choice_values == ("auto",),
        "validate_environment deriving tool choices",
        SETTINGS,
        "See it.",
    )
    relies(theirs.supports_tool_choice_values == ("auto", "any", "tool"), "a shallow model_copy", SETTINGS, "See it.")


# langchain-core


class Parrot(BaseChatModel):
    """Shows what langchain-core does with what a chat model returns."""

    combined: list = Field(default_factory=list)

    @property
    def _llm_type(self):
        return "parrot"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        from langchain_core.messages import AIMessage

        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        message = AIMessage("hi", usage_metadata=usage, response_metadata={"model_name": "who-answered"})
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": "who-answered"})

    def _combine_llm_outputs(self, llm_outputs, /):
        self.combined.append(llm_outputs)
        return {"combined": True}


def test_llm_output_is_combined_by_this_method():
    parrot = Parrot()
    result = parrot.generate([[HumanMessage("a")], [HumanMessage("b")]])
    relies(
        result.llm_output == {"combined": True} and parrot.combined[-1] == [{"model_name": "who-answered"}] * 2,
        "BaseChatModel._combine_llm_outputs(list of llm_output)", CHAT, "on_llm_end's llm_output loses the model.",
    )  # fmt: skip


def test_usage_is_counted_by_model_name():
    with get_usage_metadata_callback() as usage:
        Parrot().invoke("a")
    relies(
        set(usage.usage_metadata) == {"who-answered"}, "response_metadata['model_name'] naming the usage",
        "langchain/_messages.py", "Find by which key usage is counted now.",
    )  # fmt: skip


def test_config_without_concurrency_has_none():
    relies(
        ensure_config(None).get("max_concurrency") is None, "ensure_config({})['max_concurrency'] being None", CHAT,
        "limit_concurrency takes every config for one with a bound of its own.",
    )  # fmt: skip
    assert ensure_config({"max_concurrency": 3})["max_concurrency"] == 3


def test_batch_takes_its_threads_from_the_config():
    import threading

    together = threading.Barrier(40)

    class Waiting(Parrot):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            together.wait(timeout=30)  # until all are here
            return super()._generate(messages, stop, run_manager, **kwargs)

    try:
        ran = len(Waiting().batch(["x"] * 40, {"max_concurrency": 40}))
    except threading.BrokenBarrierError:
        ran = 0
    relies(ran == 40, "batch running config['max_concurrency'] threads", CHAT, "See how batch bounds itself now.")


def test_binding_can_be_moved_to_another_model():
    bound = Parrot().bind(stop=["x"])
    other = Parrot()
    relies(
        isinstance(bound, RunnableBinding) and bound.model_copy(update={"bound": other}).bound is other,
        "RunnableBinding.bound", CHAT, "bind_tools puts its binding around the router itself.",
    )  # fmt: skip


def test_executor_of_langchain_core_carries_context():
    import contextvars

    variable = contextvars.ContextVar("variable", default="lost")
    variable.set("kept")
    with ContextThreadPoolExecutor(2) as threads:
        relies(
            list(threads.map(lambda _: variable.get(), [1, 2])) == ["kept"] * 2,
            "its context",
            "langchain/llms.py",
            "See it.",
        )


# botocore: clients and sessions


def test_client_has_its_credentials_here(bedrock):
    credentials = getattr(getattr(bedrock.client(), "_request_signer", None), "_credentials", None)
    relies(
        getattr(credentials, "access_key", None) == "emulated", "client._request_signer._credentials", CONNECTIONS,
        "Look-ups for a client that was passed in use the default credentials instead; find them elsewhere.",
    )  # fmt: skip


def test_config_merge_prefers_its_argument():
    base = Config(read_timeout=1, connect_timeout=2, max_pool_connections=256)
    merged = base.merge(Config(read_timeout=3))
    relies(
        (merged.read_timeout, merged.connect_timeout, merged.max_pool_connections) == (3, 2, 256), "Config.merge",
        CONNECTIONS, "The user's config must win over our defaults and leave the others.",
    )  # fmt: skip
    relies(
        (base.read_timeout, base.connect_timeout) == (1, 2), "Config.merge making a new Config", CONNECTIONS, "Copy it."
    )


def test_config_values_are_attributes():
    """Two configs of equal value share a client: connections.py compares vars(config)."""
    one, other = vars(Config(read_timeout=3)), vars(Config(read_timeout=4))
    relies(one["read_timeout"] == 3, "vars(Config)", CONNECTIONS, "Configs of different value would share a client.")
    relies(one != other, "vars(Config)", CONNECTIONS, "Configs of different value would share a client.")
    missing = [name for name in Config.OPTION_DEFAULTS if name not in one and name != "inject_host_prefix"]
    relies(not missing, f"vars(Config) having every option (missing: {missing})", CONNECTIONS, "Compare these too.")


@pytest.mark.parametrize("component", ["token_provider", "credential_provider", "data_loader"])
def test_session_takes_these_components(component):
    session = botocore.session.Session()
    relies(
        session.get_component(component) is not None, f"the component {component!r}", CONNECTIONS, "Find its new name."
    )
    marker = object()
    session.register_component(component, marker)
    assert session.get_component(component) is marker


def test_token_and_credential_chains_take_a_list_of_providers():
    from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
    from botocore.tokens import FrozenAuthToken, TokenProviderChain

    class Given(CredentialProvider):
        METHOD = "given"

        def load(self):
            return Credentials("a", "b")

        def load_token(self, **_):
            return FrozenAuthToken("key")

    relies(
        CredentialResolver([Given()]).load_credentials().access_key == "a", "CredentialResolver", CONNECTIONS, "See it."
    )
    relies(TokenProviderChain([Given()]).load_token().token == "key", "TokenProviderChain", CONNECTIONS, "See it.")
    parameters = inspect.signature(botocore.session.Session().get_auth_token).parameters
    relies("kwargs" in parameters or len(parameters) <= 1, "Session.get_auth_token", CONNECTIONS, "See it.")


def test_bearer_tokens_are_preferred_by_this_option():
    relies(
        "auth_scheme_preference" in Config.OPTION_DEFAULTS, "Config(auth_scheme_preference=)", CONNECTIONS,
        "An API key is not used where there are credentials too.",
    )  # fmt: skip
    service = botocore.session.Session().get_service_model("bedrock-runtime")
    relies(
        "smithy.api#httpBearerAuth" in service.metadata.get("auth", []),
        "bearer tokens in its model",
        CONNECTIONS,
        "See it.",
    )


def test_headers_are_added_in_this_event(bedrock):
    client = bedrock.client()
    seen = []

    def add(request, **_):
        seen.append(request.headers["Authorization"])
        request.headers["x-added"] = "yes"

    for _ in range(2):
        client.meta.events.register("before-send.bedrock-runtime", add, unique_id="once")
    client.converse(modelId=HAIKU, messages=MESSAGES)
    relies(
        len(seen) == 1 and bedrock.requests("Converse")[-1].headers.get("x-added") == "yes",
        "before-send.bedrock-runtime with request.headers, registered once by unique_id", CONNECTIONS,
        "default_headers are not sent, or sent twice.",
    )  # fmt: skip
    relies(
        b"AWS4-HMAC" in bytes(seen[0]) if isinstance(seen[0], bytes) else "AWS4-HMAC" in seen[0],
        "before-send coming after the signature", CONNECTIONS,
        "A gateway's own Authorization header is overwritten by the signature.",
    )  # fmt: skip


def test_default_session_of_boto3_has_this_name():
    relies(hasattr(boto3, "DEFAULT_SESSION"), "boto3.DEFAULT_SESSION", CONNECTIONS, "Find the session the user set up.")


def test_client_meta_has_region_and_endpoint(bedrock):
    meta = bedrock.client().meta
    relies(
        (meta.region_name, meta.endpoint_url) == ("us-east-1", bedrock.endpoint_url), "client.meta", CONNECTIONS,
        "See it.",
    )  # fmt: skip


# Environment variables that botocore reads for a client. "key": part of the key by which clients are shared. Otherwise:
# why not.
ENVIRONMENT = {
    "AWS_DEFAULT_PROFILE": "key", "AWS_PROFILE": "key", "AWS_CONFIG_FILE": "key", "AWS_CA_BUNDLE": "key",
    "AWS_SHARED_CREDENTIALS_FILE": "key", "AWS_USE_FIPS_ENDPOINT": "key",
    "AWS_USE_DUALSTACK_ENDPOINT": "key", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "key", "AWS_RETRY_MODE": "key",
    "AWS_MAX_ATTEMPTS": "key", "AWS_DEFAULTS_MODE": "key", "AWS_AUTH_SCHEME_PREFERENCE": "key",
    "AWS_DEFAULT_REGION": "the Region is stated for every client",
    "AWS_DATA_PATH": "set before a program starts", "AWS_SDK_UA_APP_ID": "a label",
    "BOTOCORE_TCP_KEEPALIVE": "set before a program starts",
    "AWS_METADATA_SERVICE_TIMEOUT": "instance metadata", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "instance metadata",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "instance metadata", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "same",
    "AWS_EC2_METADATA_V1_DISABLED": "instance metadata", "AWS_IMDS_USE_IPV6": "instance metadata",
    "AWS_CSM_ENABLED": "monitoring", "AWS_CSM_HOST": "monitoring", "AWS_CSM_PORT": "monitoring",
    "AWS_CSM_CLIENT_ID": "monitoring", "AWS_ENDPOINT_DISCOVERY_ENABLED": "Bedrock has none",
    "AWS_STS_REGIONAL_ENDPOINTS": "STS", "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "Bedrock compresses nothing",
    "AWS_DISABLE_REQUEST_COMPRESSION": "Bedrock compresses nothing", "AWS_SIGV4A_SIGNING_REGION_SET": "not SigV4a",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "no checksums here", "AWS_RESPONSE_CHECKSUM_VALIDATION": "no checksums here",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "no such endpoints here", "AWS_DISABLE_HOST_PREFIX_INJECTION": "no host prefixes",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "S3",
}  # fmt: skip


def test_environment_variables_of_botocore_are_known():
    variables = set()
    for _, names, *_ in botocore.configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        variables |= {names} if isinstance(names, str) else set(names or ())
    relies(
        variables <= set(ENVIRONMENT), f"these variables only (new: {variables - set(ENVIRONMENT)})", CONNECTIONS,
        "Does it change a client? Then it belongs to the key by which clients are shared. Add it here.",
    )  # fmt: skip


# botocore: event streams


def event_frame(name, payload):
    headers = b""
    for key, value in ((":event-type", name), (":content-type", "application/json"), (":message-type", "event")):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def test_bad_checksum_is_a_parser_error():
    relies(
        issubclass(ChecksumMismatch, ParserError), "ChecksumMismatch being a ParserError", STREAMS, "Catch it by name."
    )
    buffer = EventStreamBuffer()
    good = event_frame("messageStop", b"{}")
    buffer.add_data(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ParserError):
        next(buffer)


def test_cut_message_ends_the_stream():
    """The client waits for messageStop and metadata because botocore does not report missing bytes."""
    buffer = EventStreamBuffer()
    buffer.add_data(event_frame("messageStop", b"{}")[:-3])
    relies(
        list(buffer) == [],
        "an incomplete message raising nothing",
        STREAMS,
        "Perhaps botocore reports it now: use that.",
    )


def test_connection_errors_have_these_families():
    for error, family in [
        (EventStreamError, ClientError),
        (ResponseStreamingError, HTTPClientError),
        (ReadTimeoutError, HTTPClientError),
        (HTTPClientError, BotoCoreError),
    ]:
        relies(
            issubclass(error, family), f"{error.__name__} being a {family.__name__}", STREAMS, "See broken_connection."
        )
    from urllib3.exceptions import HTTPError, ProtocolError
    from urllib3.exceptions import ReadTimeoutError as Stalled

    relies(
        issubclass(ProtocolError, HTTPError), "urllib3's ProtocolError being an HTTPError", STREAMS, "Catch it by name."
    )
    relies(
        issubclass(Stalled, HTTPError), "urllib3's ReadTimeoutError being an HTTPError", STREAMS, "Catch it by name."
    )
    assert issubclass(NoInitialResponseError, Exception)


def test_event_stream_continues_and_closes(bedrock):
    stream = bedrock.client().converse_stream(modelId=HAIKU, messages=MESSAGES)["stream"]
    relies(isinstance(stream, EventStream), "converse_stream giving an EventStream", STREAMS, "See what it gives.")
    generator = getattr(stream, "_event_generator", None)
    relies(
        inspect.isgenerator(generator),
        "EventStream._event_generator being what reads",
        STREAMS,
        "See close_stream: what is left suspended there can lock a thread up when it is collected.",
    )
    first = next(iter(stream))
    rest = list(stream)
    relies(
        "messageStart" in first and rest and "messageStart" not in rest[0],
        "going on where it stopped",
        STREAMS,
        "See it.",
    )
    stream.close()


def test_exception_event_has_a_lower_camel_code(bedrock):
    bedrock.fail("exception_event", name="throttlingException", frame=1)
    stream = bedrock.client().converse_stream(modelId=HAIKU, messages=MESSAGES)["stream"]
    with pytest.raises(EventStreamError) as error:
        list(stream)
    stream.close()
    relies(error.value.response["Error"]["Code"] == "throttlingException", "its code", STREAMS, "See it.")


# botocore's service models: what we ask and read


@functools.cache
def service_model(service):
    return botocore.session.Session().get_service_model(service)


def shape(service, operation, member):
    """Return the shape at a dotted path of an operation's output (or input), `[]` for the members of a list."""
    model = service_model(service).operation_model(operation)
    at_path = {"in": model.input_shape, "out": model.output_shape}[member.partition(":")[0]]
    for part in member.partition(":")[2].split("."):
        at_path = at_path.member if part == "[]" else at_path.members[part]
    return at_path


@pytest.mark.parametrize(
    ("service", "operation", "member"),
    [
        ("bedrock", "GetPromptRouter", "in:promptRouterArn"),
        ("bedrock", "GetPromptRouter", "out:models.[].modelArn"),
        ("bedrock", "GetPromptRouter", "out:fallbackModel.modelArn"),
        ("bedrock", "GetInferenceProfile", "in:inferenceProfileIdentifier"),
        ("bedrock", "GetInferenceProfile", "out:models.[].modelArn"),
        ("bedrock", "GetProvisionedModelThroughput", "in:provisionedModelId"),
        ("bedrock", "GetProvisionedModelThroughput", "out:modelArn"),
        ("bedrock", "GetProvisionedModelThroughput", "out:foundationModelArn"),
        ("bedrock", "GetCustomModelDeployment", "in:customModelDeploymentIdentifier"),
        ("bedrock", "GetCustomModelDeployment", "out:modelArn"),
        ("bedrock", "GetCustomModel", "in:modelIdentifier"),
        ("bedrock", "GetCustomModel", "out:baseModelArn"),
        ("bedrock-agent", "GetPrompt", "in:promptIdentifier"),
        ("bedrock-agent", "GetPrompt", "in:promptVersion"),
        ("bedrock-agent", "GetPrompt", "out:defaultVariant"),
        ("bedrock-agent", "GetPrompt", "out:variants.[].name"),
        ("bedrock-agent", "GetPrompt", "out:variants.[].modelId"),
        ("bedrock-runtime", "Converse", "in:modelId"),
        ("bedrock-runtime", "Converse", "in:performanceConfig.latency"),
        ("bedrock-runtime", "Converse", "in:serviceTier.type"),
        ("bedrock-runtime", "Converse", "out:trace.promptRouter.invokedModelId"),
        ("bedrock-runtime", "Converse", "out:performanceConfig.latency"),
        ("bedrock-runtime", "Converse", "out:serviceTier.type"),
        ("bedrock-runtime", "Converse", "out:metrics.latencyMs"),
        ("bedrock-runtime", "Converse", "out:usage.inputTokens"),
        ("bedrock-runtime", "Converse", "out:usage.outputTokens"),
        ("bedrock-runtime", "Converse", "out:usage.cacheReadInputTokens"),
        ("bedrock-runtime", "Converse", "out:usage.cacheWriteInputTokens"),
        ("bedrock-runtime", "Converse", "out:usage.cacheDetails.[].ttl"),
        ("bedrock-runtime", "Converse", "out:usage.cacheDetails.[].inputTokens"),
        ("bedrock-runtime", "ConverseStream", "out:stream.messageStop.stopReason"),
        ("bedrock-runtime", "ConverseStream", "out:stream.metadata.trace.promptRouter.invokedModelId"),
        ("bedrock-runtime", "ConverseStream", "out:stream.metadata.performanceConfig.latency"),
        ("bedrock-runtime", "ConverseStream", "out:stream.metadata.serviceTier.type"),
        ("bedrock-runtime", "ConverseStream", "out:stream.metadata.metrics.latencyMs"),
        ("bedrock-runtime", "ConverseStream", "out:stream.metadata.usage.cacheDetails.[].ttl"),
    ],
)
def test_service_model_has_this_member(service, operation, member):
    try:
        shape(service, operation, member)
        exists = True
    except (KeyError, AttributeError, botocore.model.OperationNotFoundError):
        exists = False
    where = INVOCATION if service == "bedrock-runtime" else LOOK_UPS
    relies(exists, f"{service} {operation} {member}", where, "Read the new service model.")


def test_look_ups_have_one_required_member():
    for kind, (service, operation) in look_up._LOOK_UPS.items():
        model = botocore.session.Session().get_service_model(service)
        input_shape = model.operation_model(look_up._api_name(operation)).input_shape
        relies(
            input_shape.required_members == [look_up._IDENTIFIERS[operation]], f"{operation} for {kind}", LOOK_UPS,
            f"It requires {input_shape.required_members} now.",
        )  # fmt: skip


def test_cache_ttls_are_known():
    relies(
        set(shape("bedrock-runtime", "Converse", "out:usage.cacheDetails.[].ttl").enum) == {"5m", "1h"},
        "cache lifetimes of 5m and 1h", INVOCATION, "Usage needs a field for the new one.",
    )  # fmt: skip


STREAM_EVENTS = {
    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
    "internalServerException", "modelStreamErrorException", "validationException", "throttlingException",
    "serviceUnavailableException",
}  # fmt: skip
DELTAS = {"text", "toolUse", "toolResult", "reasoningContent", "citation", "image"}


def test_stream_events_and_deltas_are_known():
    events = set(shape("bedrock-runtime", "ConverseStream", "out:stream").members)
    deltas = set(shape("bedrock-runtime", "ConverseStream", "out:stream.contentBlockDelta.delta").members)
    advice = "Teach _Block in partial.py what it means."
    relies(events == STREAM_EVENTS, f"these events (differ: {events ^ STREAM_EVENTS})", STREAMS, advice)
    relies(deltas <= DELTAS, f"these deltas (new: {deltas - DELTAS})", STREAMS, advice)


def test_latency_and_tier_types_are_known():
    assert set(shape("bedrock-runtime", "Converse", "in:performanceConfig.latency").enum) == {"standard", "optimized"}
    tiers = set(shape("bedrock-runtime", "Converse", "in:serviceTier.type").enum)
    assert tiers >= {"priority", "default", "flex", "reserved"}


def test_tests_change_nothing_upstream():
    before = copy.copy(ChatBedrockConverse.model_fields)
    ChatBedrockRouter(model=HAIKU)
    assert before == ChatBedrockConverse.model_fields
