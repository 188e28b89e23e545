"""Copies of `BedrockRouter`: they keep everything but secrets, and secrets are shown nowhere."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import botocore.session
import pytest
import trustme
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index_forms import FORMS, STREAMED, run, start, user
from pydantic import BaseModel, SecretStr, SerializeAsAny
from samples import HAIKU, HELLO, SONNET
from scripted_bedrock import ScriptedBedrock, stream_of, text, whole_of

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.llama_index import BedrockRouter

EVERYTHING = {
    "base_models": [HAIKU, SONNET], "context_window": 9_000, "temperature": 0.5, "max_tokens": 50, "top_p": 0.75,
    "stop_sequences": ["END"], "performance_config": {"latency": "standard"}, "service_tier": "default",
    "thinking": {"type": "disabled"}, "additional_model_request_fields": {"top_k": 5},
    "additional_model_response_field_paths": ["/stop_sequence"], "prompt_variables": {"a": "b"},
    "request_metadata": {"team": "a"}, "guardrail_identifier": "gr1", "guardrail_version": "7",
    "project_identifier": "proj_abc", "allow_local_files": False, "mid_conversation_system": "inline",
    "guardrail_stream_processing_mode": "sync", "trace": "enabled", "system_prompt_caching": True,
    "cache": CachePolicy(ttl="1h", sections=("tools", "system"), memory="own"),
    "prices": {HAIKU: {"input_mtok": 0.2, "output_mtok": 1}}, "telemetry": "off",
    "tool_caching": True, "supports_forced_tool_calls": False, "additional_kwargs": {"temperature": 0.25},
    "region_name": "eu-west-1", "profile_name": "team", "endpoint_url": "http://127.0.0.1:9", "timeout": 5.0,
    "max_retries": 1, "max_concurrency": 8, "use_ssl": False, "verify": "/etc/ca.pem", "system_prompt": "Be brief.",
    "botocore_config": Config(read_timeout=7, retries={"mode": "adaptive", "total_max_attempts": 2},
                              user_agent_extra="mine", s3={"addressing_style": "path"}),
}  # fmt: skip
SECRETS = {
    "aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "very-secret", "aws_session_token": "token-secret",
}  # fmt: skip
HEADERS = {"default_headers": {"x-gateway-key": "header-secret"}}
KEY = {"api_key": "bearer-secret"}
HIDDEN = (*SECRETS.values(), "header-secret", "bearer-secret")

COPIES = {
    "to_dict": lambda llm: BedrockRouter.from_dict(llm.to_dict()),
    "to_json": lambda llm: BedrockRouter.from_json(llm.to_json()),
    "model_dump": lambda llm: BedrockRouter(**llm.model_dump()),
    "model_validate": lambda llm: BedrockRouter.model_validate(llm.model_dump()),
    "model_dump_json": lambda llm: BedrockRouter.model_validate_json(llm.model_dump_json()),
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda llm: llm.model_copy(),
    "deep model_copy": lambda llm: llm.model_copy(deep=True),
}


def values_of(llm):
    """The arguments, with a botocore Config as what it sets."""
    values = {name: getattr(llm, name) for name in [*BedrockRouter.model_fields, "system_prompt"]}
    config = values.pop("botocore_config")
    options = {name: getattr(config, name) for name in type(config).OPTION_DEFAULTS} if config else None
    return {**{name: value for name, value in values.items() if "callback" not in name}, "options": options}


def comparable(llm):
    skipped = {"messages_to_prompt", "completion_to_prompt", "output_parser", "rate_limiter", "callback_manager"}
    return {name: value for name, value in values_of(llm).items() if name not in skipped}


@pytest.fixture
def everything():
    return BedrockRouter(model=HAIKU, **EVERYTHING)


def test_the_table_has_every_argument():
    base = {"model", *SECRETS, *HEADERS, *KEY}
    own = set(BedrockRouter.model_fields) - set(BedrockRouter.__base__.model_fields)
    assert own - base == set(EVERYTHING) - {"system_prompt"}


@pytest.mark.parametrize("how", COPIES)
def test_copies_keep_every_argument(everything, how):
    before = comparable(everything)
    twin = COPIES[how](everything)
    assert type(twin) is BedrockRouter
    assert comparable(twin) == comparable(everything) == before
    assert comparable(COPIES[how](twin)) == before, "and copies of copies"
    for name, value in EVERYTHING.items():
        if name != "botocore_config":
            assert getattr(twin, name) == value, name
    assert twin.botocore_config.read_timeout == 7
    assert twin.botocore_config.retries["mode"] == "adaptive"


@pytest.mark.parametrize("how", COPIES)
async def test_copies_answer(bedrock, router, how):
    twin = COPIES[how](BedrockRouter(model=router, temperature=0.5))
    for form in FORMS:
        assert await start(twin, form, HELLO)
    assert bedrock.requests("Converse")[-1].request["inferenceConfig"] == {"temperature": 0.5}
    assert twin.complete(HELLO).additional_kwargs["routing"]["invoked_model"] == HAIKU


def test_a_copy_with_changes_leaves_the_original_alone(bedrock, router):
    llm = BedrockRouter(model=router, temperature=0.5, stop_sequences=["END"])
    twin = llm.model_copy(update={"temperature": 0.25}, deep=True)
    twin.stop_sequences.append("STOP")
    assert (llm.temperature, llm.stop_sequences) == (0.5, ["END"])
    twin.complete(HELLO)
    assert bedrock.requests()[-1].request["inferenceConfig"] == {"temperature": 0.25, "stopSequences": ["END", "STOP"]}


def test_copies_in_this_process_keep_the_credentials(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    llm = BedrockRouter(model=HAIKU, **SECRETS, **HEADERS)
    for twin in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(), llm.model_copy(deep=True)):
        assert twin.complete(HELLO).text
        assert twin.aws_secret_access_key.get_secret_value() == "very-secret"


LEFT_OUT = {
    "credentials": lambda bedrock: SECRETS,
    "an API key": lambda bedrock: KEY,
    "headers": lambda bedrock: HEADERS,
    "several": lambda bedrock: {**SECRETS, **HEADERS, "bedrock_client": bedrock.client("bedrock")},
    "a session": lambda bedrock: {"botocore_session": botocore.session.Session()},
    "a client for look-ups": lambda bedrock: {"bedrock_client": bedrock.client("bedrock")},
    "headers of a client of ours": lambda bedrock: {"client": RoutedClient(Connection(), **HEADERS)},
    "credentials of a client of ours": lambda bedrock: {"client": RoutedClient(Connection(api_key="bearer-secret"))},
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_pickle_warns_once_of_omissions_and_copy_finds_its_own(bedrock, caplog, what):
    llm = BedrockRouter(model=HAIKU, **LEFT_OUT[what](bedrock))
    pickles = [pickle.dumps(llm) for _ in range(2)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "Explicit credentials, default_headers, a session and a bedrock_client are left out of a pickle"
    )
    for pickled in pickles:
        assert_hidden([str(pickled)])
        twin = pickle.loads(pickled)
        assert twin.aws_access_key_id is twin.api_key is twin.default_headers is None
        assert twin.complete(HELLO).text, "with the credentials of the environment"


def test_a_pickle_without_secrets_says_nothing(caplog):
    for more in ({}, {"client": RoutedClient(Connection(region_name="eu-west-1"))}, {"region_name": "eu-west-1"}):
        pickle.dumps(BedrockRouter(model=HAIKU, **more))
    assert caplog.records == []


@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy", "model_copy", "deep model_copy"])
def test_a_client_of_ours_goes_along(bedrock, how):
    router = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefghijkl"
    config = Config(user_agent_extra="my-application")
    client = RoutedClient(Connection(region_name="eu-west-1", config=config), base_models={router: [HAIKU]})
    twin = COPIES[how](COPIES[how](BedrockRouter(model=router, client=client)))
    assert twin.metadata.context_window == 200_000, "base_models are in it"
    assert twin.complete(HELLO, model=HAIKU).text
    assert bedrock.requests()[-1].region == "eu-west-1"
    assert "my-application" in bedrock.requests()[-1].headers["user-agent"]
    assert len(bedrock.requests()) == 1


def test_pickling_a_user_client_raises_with_advice(bedrock):
    for client in (bedrock.client(), RoutedClient(bedrock.client())):
        with pytest.raises(TypeError, match=r"cannot be pickled"):
            pickle.dumps(BedrockRouter(model=HAIKU, client=client))
        twin = copy.deepcopy(BedrockRouter(model=HAIKU, client=client))
        assert twin.complete(HELLO).text, "though it can be copied here"


WITH_PASSWORDS = {
    "endpoint_url": "http://user:url-secret@127.0.0.1:9/path?x=1",
    "botocore_config": {
        "proxies": {"https": "http://user:proxy-secret@proxy:8080", "http": "user:proxy-secret@proxy"},
        "read_timeout": 7, "client_cert": ("/cert.pem", "/key.pem"),
    },
}  # fmt: skip


@pytest.mark.parametrize("how", ["to_dict", "to_json", "model_dump", "model_dump_json", "pickle"])
@pytest.mark.parametrize("later", [False, True])
def test_urls_leave_the_process_without_passwords_only(how, later):
    llm = BedrockRouter(model=HAIKU, **({} if later else WITH_PASSWORDS))
    if later:
        llm = llm.model_copy(update=WITH_PASSWORDS)
    before = llm.model_dump_json()
    written = pickle.dumps(llm) if how == "pickle" else getattr(llm, how)()
    for secret in ("url-secret", "proxy-secret"):
        assert secret not in str(written)
        assert secret not in repr(llm)
    twin = COPIES[how](llm)
    assert twin.endpoint_url == "http://127.0.0.1:9/path?x=1"
    assert twin.botocore_config.proxies == {"https": "http://proxy:8080", "http": "proxy"}
    assert twin.botocore_config.client_cert == ("/cert.pem", "/key.pem")
    assert twin.botocore_config.read_timeout == 7
    assert llm.model_dump_json() == before
    assert "url-secret" in llm.endpoint_url, "here it is still needed"
    assert "proxy-secret" in copy.deepcopy(llm)._connected()._source.client_config.proxies["https"]


def test_config_dictionary_leaves_out_values_json_cannot_hold():
    llm = BedrockRouter(model=HAIKU, botocore_config=Config(signature_version=UNSIGNED, read_timeout=7))
    written = json.loads(llm.to_json())
    assert written["botocore_config"] == {"read_timeout": 7}
    assert BedrockRouter.from_dict(written).botocore_config.read_timeout == 7


def test_a_config_can_be_given_as_its_arguments(bedrock):
    llm = BedrockRouter(model=HAIKU, botocore_config={"user_agent_extra": "my-application"})
    llm.complete(HELLO)
    assert "my-application" in bedrock.requests()[-1].headers["user-agent"]


def test_it_can_be_a_field_of_a_users_own_model(router):
    class Application(BaseModel):
        llm: SerializeAsAny[BedrockRouter]

    application = Application(llm=BedrockRouter(model=router, temperature=0.5))
    again = Application.model_validate(json.loads(application.model_dump_json()))
    assert again.llm.temperature == 0.5
    assert again.llm.complete(HELLO).additional_kwargs["routing"]["invoked_model"] == HAIKU


# --- secrets ---


class Listener(BaseEventHandler):
    texts: list[str] = []  # noqa: RUF012 - a pydantic field

    def handle(self, event, **kwargs):
        self.texts += [repr(event), str(event.model_dump())]


class Callbacks(BaseCallbackHandler):
    def __init__(self):
        super().__init__([], [])
        self.texts = []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.texts.append(repr(payload))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.texts.append(repr(payload))

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


def assert_hidden(texts):
    assert texts
    for shown in texts:
        for secret in HIDDEN:
            assert secret not in shown


@pytest.mark.parametrize("secrets", [{**SECRETS, **HEADERS}, {**KEY, **HEADERS}], ids=["credentials", "api key"])
def test_secrets_are_never_shown_serialized_or_sent_elsewhere(secrets, caplog):
    for wrapped in (secrets, {name: SecretStr(v) if isinstance(v, str) else v for name, v in secrets.items()}):
        llm = BedrockRouter(model=HAIKU, **wrapped)
        written = [json.dumps(llm.to_dict()), llm.to_json(), llm.model_dump_json(), str(llm.to_payload())]
        shown = [repr(llm), str(llm), repr(llm._client), repr(llm.metadata), repr(copy.deepcopy(llm))]
        assert_hidden([*written, *shown, str(pickle.dumps(llm)), caplog.text])
    for name in (*SECRETS, *KEY, *HEADERS):
        assert name not in llm.to_dict()
        assert name not in repr(llm)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def bundle(authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
def everywhere():
    """Return the text of all events and callbacks."""
    listener, callbacks = Listener(texts=[]), Callbacks()
    get_dispatcher().add_event_handler(listener)
    yield lambda: [*listener.texts, *callbacks.texts], CallbackManager([callbacks])
    get_dispatcher().event_handlers.remove(listener)


@pytest.mark.sample(12)
@pytest.mark.parametrize("secrets", [{**SECRETS, **HEADERS}, {**KEY, **HEADERS}], ids=["credentials", "api key"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reachable", [True, False])
async def test_secrets_are_in_no_event_payload_log_or_error(
    authority, bundle, everywhere, secrets, form, reachable, caplog
):
    """Over HTTPS: botocore 1.44 sends no bearer token without it."""
    caplog.set_level(logging.DEBUG, logger="bedrock_routing_integrations")
    texts, manager = everywhere
    answer = stream_of(text(0, "Hi")) if form in STREAMED else whole_of({"text": "Hi"})
    with ScriptedBedrock(answer, authority=authority) as server:
        llm = BedrockRouter(
            model=HAIKU, max_retries=0, callback_manager=manager, region_name="us-east-1", verify=bundle,
            endpoint_url=server.url if reachable else "https://127.0.0.1:9", **secrets,
        )  # fmt: skip
        if reachable:
            shown = repr(await run(llm, form, HELLO))
            assert "Hi" in shown
        else:
            with pytest.raises(EndpointConnectionError) as caught:
                await run(llm, form, HELLO)
            shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert_hidden([shown, *texts()])
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("bedrock_routing")]
    assert_hidden([*ours, "-"])


def test_error_of_a_wrong_argument_shows_no_secrets():
    for wrong in (
        {"temperature": 5},
        {"temprature": 0},
        {"model": "nonsense"},
        {"aws_session_token": ["token-secret"]},
    ):
        with pytest.raises(Exception, match=r"\S") as caught:
            BedrockRouter(**{"model": HAIKU, **SECRETS, **HEADERS, **wrong})
        assert_hidden([str(caught.value), repr(caught.value)])


def test_objects_with_equal_connections_share_one_client(bedrock, router, monkeypatch):
    llms = [BedrockRouter(model=router, temperature=0.1 * number) for number in range(3)]
    llms += [copy.deepcopy(llms[0]), pickle.loads(pickle.dumps(llms[0])), BedrockRouter.from_dict(llms[0].to_dict())]
    clients = {id(llm._client.runtime_client(router)) for llm in llms}
    assert len(clients) == 1
    assert all(llm.chat(user(HELLO)).message.content for llm in llms)
