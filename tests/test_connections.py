"""Test which objects share a client, and what they never share."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import trustme
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError
from recording_server import MODEL, PROFILE, ask, key_used, recording

from bedrock_routing_integrations import RoutedClient, parse_target
from bedrock_routing_integrations.connections import Connection, UserClient, control_plane_endpoint
from bedrock_routing_integrations.errors import MissingRegionError

ROUTER = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/anthropic.claude:1"
MESSAGES = [{"role": "user", "content": [{"text": "hello"}]}]
LOGGER = "bedrock_routing_integrations"
RUNTIME = "bedrock-runtime"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def recorder(authority, monkeypatch, tmp_path):
    """Over HTTPS: botocore 1.44 sends no bearer token without it."""

    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with recording(authority) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_session_is_left():
    yield
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


# Sharing


def settings(**changes):
    return {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9", **changes}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"timeout": 7, "max_retries": 2, "max_concurrency": 5},
        {"access_key_id": "A", "secret_access_key": "B", "session_token": "C"},
        {"api_key": "K"},
    ],
)
@pytest.mark.usefixtures("credentials")
def test_equal_settings_share_one_client(given):
    one, two = Connection(**settings(**given)), Connection(**settings(**given))
    assert one.client(RUNTIME) is two.client(RUNTIME)
    assert one.client("bedrock") is two.client("bedrock")
    assert one.client("bedrock") is not one.client(RUNTIME)


@pytest.mark.parametrize(
    "change",
    [
        {"region_name": "us-west-2"},
        {"endpoint_url": "http://127.0.0.1:10"},
        {"timeout": 3},
        {"max_retries": 3},
        {"max_concurrency": 3},
        {"api_key": "key"},
        {"access_key_id": "A", "secret_access_key": "B"},
        {"access_key_id": "A", "secret_access_key": "C"},
        {"access_key_id": "A", "secret_access_key": "B", "session_token": "C"},
        {"config": Config(read_timeout=3)},
        {"config": Config(retries={"mode": "adaptive"})},
        {"config": Config(user_agent_extra="team")},
        {"config": Config(proxies={"http": "http://127.0.0.1:11"})},
    ],
)
@pytest.mark.usefixtures("credentials")
def test_any_difference_makes_another_client(change):
    assert Connection(**settings(**change)).client(RUNTIME) is not Connection(**settings()).client(RUNTIME)


@pytest.mark.usefixtures("credentials")
def test_two_api_keys_never_share_a_client():
    one, two = (Connection(**settings(api_key=key)).client(RUNTIME) for key in ("one", "two"))
    assert one is not two


@pytest.mark.usefixtures("credentials")
def test_configurations_of_equal_value_share_a_client():
    one, two = (Connection(**settings(config=Config(read_timeout=3, retries={"mode": "standard"}))) for _ in range(2))
    assert one.config is not two.config
    assert one.client(RUNTIME) is two.client(RUNTIME)


@pytest.mark.parametrize("option", [{"max_pool_connections": 10}, {"connect_timeout": 60, "read_timeout": 60}])
@pytest.mark.usefixtures("credentials")
def test_explicit_option_equal_to_a_default_is_kept(option):
    Connection(**settings(config=Config())).client(RUNTIME)
    stated = Connection(**settings(config=Config(**option))).client(RUNTIME)
    for name, value in option.items():
        assert getattr(stated.meta.config, name) == value


@pytest.mark.usefixtures("credentials")
def test_look_ups_keep_their_own_short_timeouts():
    patient = Connection(**settings(config=Config(connect_timeout=60, read_timeout=900), timeout=900)).client("bedrock")
    assert patient.meta.config.connect_timeout + patient.meta.config.read_timeout < 20


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_MAX_ATTEMPTS", "7"), ("AWS_RETRY_MODE", "adaptive"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")],
)
@pytest.mark.usefixtures("credentials")
def test_botocore_variables_of_the_environment_select_the_client(monkeypatch, name, value):
    connection = Connection(region_name="us-east-1")
    before = connection.client(RUNTIME)
    monkeypatch.setenv(name, value)
    assert connection.client(RUNTIME) is not before


@pytest.mark.usefixtures("credentials")
def test_a_profile_has_a_client_of_its_own(tmp_path):
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id=AKIATEAM\naws_secret_access_key=s\n")
    team = Connection(**settings(profile_name="team")).client(RUNTIME)
    assert team is not Connection(**settings()).client(RUNTIME)
    assert team is Connection(**settings(profile_name="team")).client(RUNTIME)


@pytest.mark.usefixtures("credentials")
def test_pool_has_the_size_of_max_concurrency_by_default():
    def pool(**given):
        return Connection(**settings(**given)).client(RUNTIME).meta.config.max_pool_connections

    assert pool() == 256
    assert pool(max_concurrency=7) == 7
    assert pool(config=Config(max_pool_connections=3)) == 3


@pytest.mark.usefixtures("credentials")
def test_a_second_object_makes_no_client():
    RoutedClient(Connection(**settings())).resolve(ROUTER, look_up="never")
    first = Connection(**settings()).client(RUNTIME)
    assert all(Connection(**settings()).client(RUNTIME) is first for _ in range(100))


@pytest.mark.usefixtures("credentials")
def test_fifty_threads_that_need_a_client_at_once_make_one():
    session = boto3.Session()
    made = []
    session.events.register("creating-client-class.bedrock-runtime", lambda **_: made.append(1))
    boto3.DEFAULT_SESSION = session
    barrier = threading.Barrier(50)

    def get(_):
        barrier.wait()
        return Connection(**settings()).client(RUNTIME)

    with ThreadPoolExecutor(50) as threads:
        clients = set(map(id, threads.map(get, range(50))))
    assert len(clients) == 1
    assert len(made) == 1


# Credentials


def test_key_rotated_in_the_environment_is_used_next(recorder, monkeypatch):
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url))
    for key in ("AKIAONE", "AKIATWO", "AKIAONE"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        ask(client)
        assert key_used(recorder) == key


def test_rotated_session_token_is_used_by_the_next_call(recorder, monkeypatch, credentials):
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url))
    for token in ("token-1", "token-2"):
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        ask(client)
        assert recorder.seen[-1][1]["x-amz-security-token"] == token


@pytest.mark.parametrize("file", ["credentials", "config"])
@pytest.mark.parametrize("profile", [None, "team"])
def test_key_rotated_in_a_file_is_used_next(recorder, tmp_path, profile, file):
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url, profile_name=profile))
    section = profile or "default"
    if file == "config" and profile:
        section = f"profile {profile}"
    for number, key in enumerate(("AKIAONE", "AKIATWO")):
        path = tmp_path / file
        path.write_text(f"[{section}]\naws_access_key_id={key}\naws_secret_access_key=s\n")
        os.utime(path, (number + 1, number + 1))
        ask(client)
        assert key_used(recorder) == key


def test_credentials_that_appear_later_are_found(recorder, monkeypatch):
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url))
    with pytest.raises(Exception, match="credentials"):
        ask(client)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALATE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ask(client)
    assert key_used(recorder) == "AKIALATE"


def test_explicit_credentials_win_over_the_environments(recorder, credentials):
    connection = Connection(
        region_name="us-east-1", endpoint_url=recorder.url, access_key_id="AKIAEXPLICIT", secret_access_key="s"
    )
    ask(RoutedClient(connection))
    assert key_used(recorder) == "AKIAEXPLICIT"


def test_explicit_credentials_win_over_an_api_key_in_the_environment(recorder, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "environment-key")
    connection = Connection(
        region_name="us-east-1", endpoint_url=recorder.url, access_key_id="AKIAEXPLICIT", secret_access_key="s"
    )
    ask(RoutedClient(connection))
    assert key_used(recorder) == "AKIAEXPLICIT"


def test_an_explicit_profile_wins_over_keys_in_the_environment(recorder, tmp_path, credentials):
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id=AKIATEAM\naws_secret_access_key=s\n")
    ask(RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url, profile_name="team")))
    assert key_used(recorder) == "AKIATEAM"


def test_api_key_is_sent_by_its_own_client_only(recorder, credentials):
    def connection(**given):
        return Connection(region_name="us-east-1", endpoint_url=recorder.url, **given)

    keyed, other = RoutedClient(connection(api_key="key-1")), RoutedClient(connection(api_key="key-2"))
    plain = RoutedClient(connection())
    for client, expected in [(keyed, "Bearer key-1"), (plain, "AKIAENVIRONMENT"), (other, "Bearer key-2")] * 2:
        ask(client)
        assert key_used(recorder) == expected
    assert "AWS_BEARER_TOKEN_BEDROCK" not in os.environ


def test_an_explicit_api_key_wins_over_the_environments(recorder, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "environment-key")
    ask(RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url, api_key="mine")))
    assert key_used(recorder) == "Bearer mine"


def test_api_key_of_the_environment_is_read_at_the_call(recorder, monkeypatch):
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url))
    for key in ("env-1", "env-2"):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        ask(client)
        assert key_used(recorder) == f"Bearer {key}"


@pytest.mark.parametrize(
    ("variable", "expected"), [("AWS_ACCESS_KEY_ID", "{}"), ("AWS_BEARER_TOKEN_BEDROCK", "Bearer {}")]
)
def test_key_rotated_in_the_environment_reaches_chat_models(recorder, monkeypatch, credentials, variable, expected):
    from bedrock_routing_integrations.langchain import ChatBedrockRouter

    monkeypatch.setenv(variable, "before")
    llm = ChatBedrockRouter(model=MODEL, region_name="us-east-1", endpoint_url=recorder.url)
    for key in ("ONE", "TWO"):
        monkeypatch.setenv(variable, key)
        llm.invoke("hello")
        assert key_used(recorder) == expected.format(key)


def test_default_session_of_boto3_provides_credentials(recorder):
    boto3.setup_default_session(aws_access_key_id="AKIASESSION", aws_secret_access_key="s", region_name="eu-north-1")
    ask(RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url)))
    assert key_used(recorder) == "AKIASESSION"


@pytest.mark.usefixtures("credentials")
def test_unsigned_requests_through_a_gateway_share_a_client_too(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    connection = Connection(**settings(config=Config(signature_version=UNSIGNED)))
    assert connection.client(RUNTIME) is connection.client(RUNTIME)


# Retries and timeouts


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_max_retries_is_how_often_a_call_is_sent_again(bedrock, retries):
    bedrock.fail("throttling", times=20)
    with pytest.raises(ClientError):
        ask(RoutedClient(Connection(max_retries=retries)))
    assert len(bedrock.requests("Converse")) == retries + 1


def test_a_timeout_ends_a_call_that_hangs(bedrock):
    bedrock.fail("hang")
    started = time.monotonic()
    with pytest.raises(Exception, match="timeout"):
        ask(RoutedClient(Connection(timeout=0.3, max_retries=0)))
    assert time.monotonic() - started < 20, "it would hang for ever"


def test_a_second_objects_timeout_is_its_own(bedrock):
    bedrock.fail("slow_first_byte", seconds=0.6, times=2)
    patient, hasty = RoutedClient(Connection()), RoutedClient(Connection(timeout=0.2, max_retries=0))
    with pytest.raises(Exception, match="timeout"):
        ask(hasty)
    assert ask(patient)["stopReason"]


@pytest.mark.usefixtures("credentials")
def test_max_retries_keeps_the_retry_mode_of_the_config():
    config = Config(retries={"mode": "adaptive"})
    client = Connection(**settings(config=config, max_retries=5)).client(RUNTIME)
    assert client.meta.config.retries["mode"] == "adaptive"
    assert client.meta.config.retries["total_max_attempts"] == 6


def test_the_users_config_is_not_changed(recorder):
    config = Config(read_timeout=33, retries={"max_attempts": 1})
    before = {name: copy.deepcopy(value) for name, value in vars(config).items()}
    where = {"region_name": "us-east-1", "endpoint_url": recorder.url}
    ask(RoutedClient(Connection(**where, config=config, timeout=5, max_retries=2, api_key="k")))
    assert vars(config) == before


# The Region


def region(target=None, **given):
    return Connection(**given).region_for(target and parse_target(target))


def test_the_region_is_looked_for_in_this_order(monkeypatch, tmp_path):
    with pytest.raises(MissingRegionError):
        region(MODEL)
    (tmp_path / "config").write_text("[default]\nregion = from-file\n[profile team]\nregion = from-profile\n")
    assert region(MODEL) == "from-file"
    assert region(MODEL, profile_name="team") == "from-profile"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "from-default")
    assert region(MODEL) == "from-default"
    monkeypatch.setenv("AWS_REGION", "from-environment")
    assert region(MODEL) == "from-environment"
    assert region(ROUTER) == "eu-west-1"
    assert region(ROUTER, region_name="us-west-2") == "us-west-2"
    assert region(MODEL, region_name="us-west-2") == "us-west-2"
    assert region() == "from-environment"


def test_region_written_to_the_file_later_is_used(tmp_path):
    with pytest.raises(MissingRegionError):
        region(MODEL)
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n")
    assert region(MODEL) == "eu-north-1"


def test_the_region_of_the_users_botocore_config_counts():
    assert region(MODEL, config=Config(region_name="eu-central-1")) == "eu-central-1"


def test_default_session_of_boto3_provides_the_region():
    boto3.setup_default_session(region_name="eu-central-1")
    assert region(MODEL) == "eu-central-1"


def test_arn_without_region_gets_the_environments_region(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert region("arn:aws:bedrock:::foundation-model/amazon.nova-lite-v1:0") == "eu-west-3"


def test_a_call_goes_to_the_region_of_the_arn(bedrock):
    client = RoutedClient(Connection(endpoint_url=bedrock.endpoint_url))
    arn = f"arn:aws:bedrock:us-west-2:{bedrock.account_id}:inference-profile/{MODEL}"
    client.converse(modelId=arn, messages=MESSAGES)
    assert bedrock.requests("Converse")[-1].region == "us-west-2"


def test_missing_region_is_an_error_before_anything_is_sent(recorder, credentials):
    client = RoutedClient(Connection(endpoint_url=recorder.url))
    with pytest.raises(MissingRegionError, match="AWS_REGION"):
        ask(client)
    assert not recorder.seen


def conflicts(caplog):
    return [r.getMessage() for r in caplog.records if r.name == LOGGER and r.levelno == logging.WARNING]


def test_a_conflict_between_region_and_arn_is_warned_about_once(caplog, recorder, credentials):
    for _ in range(3):
        client = RoutedClient(
            Connection(region_name="us-east-1", endpoint_url=recorder.url), base_models={ROUTER: [MODEL]}
        )
        client.converse(modelId=ROUTER, messages=MESSAGES)
    (warning,) = conflicts(caplog)
    assert "us-east-1" in warning
    assert "eu-west-1" in warning


def test_region_conflict_with_a_users_client_warns_once(caplog, recorder, credentials):
    given = boto3.Session().client(RUNTIME, region_name="us-east-1", endpoint_url=recorder.url)
    client = RoutedClient(given, base_models={ROUTER: [MODEL]})
    for _ in range(3):
        client.converse(modelId=ROUTER, messages=MESSAGES)
    (warning,) = conflicts(caplog)
    assert "us-east-1" in warning
    given.close()


def test_no_conflict_no_warning(caplog, recorder, credentials):
    for name in ("eu-west-1", None):
        client = RoutedClient(Connection(region_name=name, endpoint_url=recorder.url), base_models={ROUTER: [MODEL]})
        client.converse(modelId=ROUTER, messages=MESSAGES)
    assert conflicts(caplog) == []


# Secrets

SECRETS = {
    "access_key_id": "AKIAHIDDEN",
    "secret_access_key": "hidden-secret",
    "session_token": "hidden-token",
    "api_key": "hidden-api-key",
}


def hidden():
    config = Config(proxies={"https": "http://user:hidden-password@proxy"})
    return Connection(
        **SECRETS, region_name="us-east-1", endpoint_url="http://user:hidden-url-password@127.0.0.1:9", config=config
    )


def test_secrets_are_not_in_a_repr():
    client = RoutedClient(hidden(), default_headers={"X-Token": "hidden-header"})
    for text in (repr(hidden()), str(hidden()), f"{client}", repr([client])):
        assert "hidden" not in text.lower()
    assert "us-east-1" in repr(client)


def test_secrets_are_not_in_a_pickle_but_the_rest_is():
    client = RoutedClient(hidden(), default_headers={"X-Token": "hidden-header"}, base_models={ROUTER: [MODEL]})
    for thing in (hidden(), client):
        pickled = pickle.dumps(thing)
        for secret in (*SECRETS.values(), "hidden-header", "hidden-password", "hidden-url-password"):
            assert secret.encode() not in pickled
    copied = pickle.loads(pickle.dumps(client))
    assert copied._source.endpoint_url == "http://127.0.0.1:9"
    assert copied._source.client_config.proxies == {"https": "http://proxy"}
    assert copied.region(MODEL) == "us-east-1"
    assert copied.resolve(ROUTER).base_models == (MODEL.removeprefix("us."),)


def test_a_copy_in_the_same_process_keeps_its_credentials(recorder):
    client = RoutedClient(
        Connection(region_name="us-east-1", endpoint_url=recorder.url, api_key="mine"),
        default_headers={"x-team": "blue"},
    )
    for copied in (copy.copy(client), copy.deepcopy(client)):
        ask(copied)
        assert key_used(recorder) == "Bearer mine"
        assert recorder.seen[-1][1].get("x-team") == "blue"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_clients_that_were_passed_in(bedrock, copied):
    runtime, control = bedrock.client(), bedrock.client("bedrock", config=Config(user_agent_extra="my-control"))
    profile = bedrock.create_application_profile(name=copied.__name__, copy_from="amazon.nova-lite-v1:0")
    client = copied(RoutedClient(runtime, bedrock_client=control))
    assert client.converse(modelId=profile, messages=MESSAGES)["routing"]["invoked_model"] == "amazon.nova-lite-v1:0"
    assert client.meta is runtime.meta
    assert "my-control" in bedrock.requests("GetInferenceProfile")[-1].headers["user-agent"]


def test_pickled_client_uses_credentials_of_the_other_process(recorder, credentials):
    client = RoutedClient(Connection(**SECRETS, region_name="us-east-1", endpoint_url=recorder.url))
    ask(pickle.loads(pickle.dumps(client)))
    assert key_used(recorder) == "AKIAENVIRONMENT"


def test_user_client_explains_why_it_cannot_be_pickled(credentials):
    given = boto3.Session().client(RUNTIME, region_name="us-east-1")
    with pytest.raises(TypeError, match="client="):
        pickle.dumps(RoutedClient(given))


def test_no_secret_is_in_our_log(recorder, caplog):
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    connection = Connection(**{**SECRETS, "region_name": "us-east-1", "endpoint_url": recorder.url})
    client = RoutedClient(connection, default_headers={"X-Token": "hidden-header"})
    ask(client)
    with pytest.raises(ParamValidationError):
        ask(client, toolConfig={"tools": []})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(LOGGER)]
    assert ours
    assert not [message for message in ours if "hidden" in message.lower()]


# Headers


def test_headers_are_sent_by_their_own_object_only(recorder, credentials):
    connection = Connection(region_name="us-east-1", endpoint_url=recorder.url)
    teams = {f"team-{n}": RoutedClient(connection, default_headers={"x-team": f"team-{n}"}) for n in range(4)}
    teams[""] = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url))

    def call(number):
        team = list(teams)[number % len(teams)]
        ask(teams[team], text=team or "none")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(call, range(200)))
    assert len(recorder.seen) == 200
    for text, headers in recorder.seen:
        assert headers.get("x-team", "none") == text


def test_headers_are_sent_again_with_a_retry(bedrock):
    bedrock.fail("throttling")
    client = RoutedClient(Connection(), default_headers={"x-team": "blue"})
    assert ask(client)["routing"]["attempts"] == 2
    assert [entry.headers["x-team"] for entry in bedrock.requests("Converse")] == ["blue", "blue"]


def test_headers_go_with_streams(bedrock):
    client = RoutedClient(Connection(), default_headers={"x-team": "blue"})
    list(client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
    assert bedrock.requests("ConverseStream")[-1].headers["x-team"] == "blue"


def test_headers_do_not_stay_on_a_users_client(recorder, credentials):
    given = boto3.Session().client(RUNTIME, region_name="us-east-1", endpoint_url=recorder.url)
    ask(RoutedClient(given, default_headers={"x-team": "blue"}))
    ask(given)
    ask(RoutedClient(given))
    assert [headers.get("x-team") for _, headers in recorder.seen] == ["blue", None, None]
    given.close()


def test_headers_that_the_caller_changes_later_are_as_they_were(recorder, credentials):
    headers = {"x-team": "blue"}
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url=recorder.url), default_headers=headers)
    headers["x-team"] = "red"
    ask(client)
    assert recorder.seen[-1][1]["x-team"] == "blue"


def test_headers_are_not_sent_to_the_control_plane(bedrock, router):
    client = RoutedClient(Connection(), default_headers={"x-team": "blue"})
    client.converse(modelId=router, messages=MESSAGES)
    assert "x-team" in bedrock.requests("Converse")[-1].headers
    assert not [entry for entry in bedrock.requests("GetPromptRouter") if "x-team" in entry.headers]


# A client that is passed in


def test_a_given_client_is_used_as_it_is(bedrock, router):
    given = bedrock.client(config=Config(user_agent_extra="my-application", retries={"total_max_attempts": 1}))
    seen = []
    given.meta.events.register("before-call.bedrock-runtime.Converse", lambda **_: seen.append(1))
    client = RoutedClient(given)
    assert client.converse(modelId=router, messages=MESSAGES)["routing"]["invoked_model"]
    assert seen == [1]
    assert "my-application" in bedrock.requests("Converse")[-1].headers["user-agent"]
    assert client.meta is given.meta
    assert client.exceptions is given.exceptions
    with pytest.raises(AttributeError, match="nonsense"):
        client.nonsense  # noqa: B018


def test_boto3s_exceptions_are_caught_through_the_routed_client(bedrock, router):
    client = RoutedClient(bedrock.client(config=Config(retries={"total_max_attempts": 1})))
    bedrock.fail("throttling")
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(modelId=router, messages=MESSAGES)


@pytest.mark.parametrize("call", ["converse", "converse_stream"])
def test_a_missing_model_id_is_reported_as_boto3_does(bedrock, call):
    with pytest.raises(Exception, match="modelId") as ours:
        getattr(RoutedClient(bedrock.client()), call)(messages=MESSAGES)
    with pytest.raises(Exception, match="modelId") as theirs:
        getattr(bedrock.client(), call)(messages=MESSAGES)
    assert type(ours.value) is type(theirs.value)


def test_look_ups_use_a_users_clients_credentials_and_endpoint(bedrock, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_ENDPOINT") or name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.delenv(name)
    profile = bedrock.create_application_profile(name="team", copy_from="anthropic.claude-3-haiku-20240307-v1:0")
    given = bedrock.client()
    assert RoutedClient(given).resolve(profile).base_models == ("anthropic.claude-3-haiku-20240307-v1:0",)
    assert bedrock.requests("GetInferenceProfile")[-1].authorization == "sigv4"


def test_model_client_is_like_the_users_knowledge_base_client():
    changes = {
        "connect_timeout": 7, "read_timeout": 300, "max_pool_connections": 99, "proxies": {"https": "http://proxy:1"},
        "retries": {"mode": "standard", "total_max_attempts": 1},
    }  # fmt: skip
    given = boto3.client("bedrock-agent-runtime", region_name="us-east-1", config=Config(**changes))
    source = UserClient(given, "bedrock-agent-runtime")
    model, look_up = source.client(RUNTIME), source.client("bedrock")
    assert {name: getattr(model.meta.config, name) for name in changes} == changes
    assert look_up.meta.config.proxies == changes["proxies"]
    assert look_up.meta.config.read_timeout < 60, "a look-up keeps nobody waiting"


def test_look_ups_use_a_users_clients_api_key(recorder):
    given = Connection(api_key="the-key", region_name="us-east-1", endpoint_url=recorder.url).client(RUNTIME)
    assert RoutedClient(given).resolve(PROFILE).base_models == ("anthropic.claude-3-haiku-20240307-v1:0",)
    assert key_used(recorder) == "Bearer the-key"


def test_a_given_control_plane_client_is_asked(bedrock, monkeypatch):
    profile = bedrock.create_application_profile(name="given", copy_from="anthropic.claude-3-haiku-20240307-v1:0")
    runtime, control = bedrock.client(), bedrock.client("bedrock", config=Config(user_agent_extra="my-control"))
    assert RoutedClient(runtime, bedrock_client=control).resolve(profile).complete
    assert "my-control" in bedrock.requests("GetInferenceProfile")[-1].headers["user-agent"]


# Where the control plane is


@pytest.mark.parametrize(
    ("runtime", "environment", "expected"),
    [
        (None, {}, None),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", {}, None),
        ("https://BEDROCK-RUNTIME.us-east-1.AMAZONAWS.COM", {}, None),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", {}, None),
        ("https://bedrock-runtime.us-east-1.api.aws", {}, None),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", {}, None),
        ("https://vpce-0a1b-2c3d.bedrock-runtime.us-east-1.vpce.amazonaws.com", {}, None),
        ("http://127.0.0.1:8080", {}, "http://127.0.0.1:8080"),
        ("http://localhost:4566/prefix", {}, "http://localhost:4566/prefix"),
        ("https://gateway.example.com", {}, "https://gateway.example.com"),
        ("https://amazonaws.com.example.com", {}, "https://amazonaws.com.example.com"),
        ("https://notamazonaws.com", {}, "https://notamazonaws.com"),
        # An explicit endpoint wins over the environment; where the environment gave it, it gives the other one too.
        ("http://127.0.0.1:8080", {"AWS_ENDPOINT_URL_BEDROCK": "http://127.0.0.1:1"}, "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080", {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:1"}, "http://127.0.0.1:8080"),
        (
            "http://127.0.0.1:8080",
            {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:8080"},
            "http://127.0.0.1:8080",
        ),
        ("http://127.0.0.1:8080", {"AWS_ENDPOINT_URL": "http://127.0.0.1:8080"}, None),
        (
            "http://127.0.0.1:8080",
            {
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:8080/",
                "AWS_ENDPOINT_URL_BEDROCK": "http://127.0.0.1:1",
            },
            None,
        ),
    ],
)
def test_control_plane_endpoint_is_the_runtimes_unless_aws(runtime, environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert control_plane_endpoint("bedrock", runtime) == expected


AGENT_RUNTIME = "bedrock-agent-runtime"


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("endpoint", "serves"),
    [
        ("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", {RUNTIME}),
        ("https://vpce-1.bedrock-agent-runtime.us-east-1.vpce.amazonaws.com", {AGENT_RUNTIME}),
        ("https://BEDROCK-AGENT-RUNTIME.us-east-1.AMAZONAWS.COM", {AGENT_RUNTIME}),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", {RUNTIME}),
        ("https://bedrock-agent-runtime-fips.us-gov-west-1.amazonaws.com", {AGENT_RUNTIME}),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", {RUNTIME}),
        ("http://127.0.0.1:8080", {RUNTIME, AGENT_RUNTIME}),
        ("https://bedrock-runtime.gateway.example.com", {RUNTIME, AGENT_RUNTIME}),
    ],
)
@pytest.mark.usefixtures("credentials")
def test_aws_endpoint_serves_one_runtime_only(endpoint, serves):
    connection = Connection(region_name="us-east-1", endpoint_url=endpoint)
    given = {name: boto3.client(name, "us-east-1", endpoint_url=endpoint) for name in serves}
    for service in (RUNTIME, AGENT_RUNTIME):
        expected = endpoint if service in serves else f"https://{service}.us-east-1.amazonaws.com"
        assert connection.client(service).meta.endpoint_url == expected
        for name, client in given.items():
            assert UserClient(client, name).client(service).meta.endpoint_url == expected
            assert UserClient(client, name).client(name) is client


@pytest.mark.usefixtures("credentials")
def test_timeouts_and_retries_hold_for_knowledge_bases_too():
    connection = Connection(**settings(timeout=7, max_retries=2, max_concurrency=5))
    config = connection.client(AGENT_RUNTIME).meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (7, 7, 5)
    assert config.retries["total_max_attempts"] == 3
    assert connection.client("bedrock-agent").meta.config.read_timeout < 7, "a look-up keeps its own"


@pytest.mark.usefixtures("credentials")
def test_knowledge_base_endpoint_of_the_environment_selects_the_client(monkeypatch):
    connection = Connection(region_name="us-east-1")
    before = connection.client(AGENT_RUNTIME)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME", "http://127.0.0.1:9")
    assert connection.client(AGENT_RUNTIME) is not before
    assert connection.client(AGENT_RUNTIME).meta.endpoint_url == "http://127.0.0.1:9"
    assert connection.client(RUNTIME).meta.endpoint_url == "https://bedrock-runtime.us-east-1.amazonaws.com"


def test_an_endpoint_for_the_runtime_serves_look_ups_too(bedrock, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_ENDPOINT"):
            monkeypatch.delenv(name)
    profile = bedrock.create_application_profile(name="endpoint", copy_from="amazon.nova-lite-v1:0")
    client = RoutedClient(Connection(endpoint_url=bedrock.endpoint_url))
    assert client.resolve(profile).base_models == ("amazon.nova-lite-v1:0",)


def test_runtime_endpoint_of_the_environment_serves_look_ups(bedrock, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_ENDPOINT") and not name.endswith("_RUNTIME"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME", raising=False)
    assert "AWS_ENDPOINT_URL_BEDROCK_RUNTIME" in os.environ
    profile = bedrock.create_application_profile(name="environment", copy_from="amazon.nova-lite-v1:0")
    assert RoutedClient(Connection()).resolve(profile).base_models == ("amazon.nova-lite-v1:0",)


def test_slow_search_for_credentials_does_not_block_other_calls(tmp_path):
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    answer = json.dumps({"Version": 1, "AccessKeyId": "AKIASLOW", "SecretAccessKey": "s"})
    program = tmp_path / "find.sh"
    program.write_text(f"#!/bin/sh\ntouch {begun}\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\necho '{answer}'\n")
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile slow]\ncredential_process = {program}\n")
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(Connection(profile_name="slow", region_name="us-east-1").client, RUNTIME)
        other = Connection(region_name="us-east-1", access_key_id="AKIA", secret_access_key="s")
        try:
            deadline = time.monotonic() + 20
            while not begun.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert threads.submit(other.client, RUNTIME).result(timeout=20)
            assert not slow.done()
        finally:
            go_on.touch()
        assert slow.result(timeout=20)


# A process that forks


def in_child(work, seconds=6):
    """Run work in a forked child; what it returned, or None where it did not come back in time."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; that is what is tested
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(seconds)
            os.write(send, json.dumps(work()).encode())
            code = 0
        except BaseException as error:
            os.write(send, json.dumps(repr(error)).encode())
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        output = pipe.read()
    os.waitpid(child, 0)
    return json.loads(output) if output else None


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_a_forked_worker_makes_its_own_connection(bedrock, router):
    client = RoutedClient(Connection())
    mine = client.converse(modelId=router, messages=MESSAGES)["routing"]["invoked_model"]
    before = Connection().client(RUNTIME)

    def work():
        answer = client.converse(modelId=router, messages=MESSAGES)["routing"]["invoked_model"]
        return [answer, Connection().client(RUNTIME) is before]

    assert in_child(work) == [mine, False]
    assert client.converse(modelId=router, messages=MESSAGES)["routing"]["invoked_model"] == mine


@needs_fork
def test_fork_while_a_client_is_made_does_not_hang(bedrock, router):
    session = boto3.Session()
    inside, go_on = threading.Event(), threading.Event()

    def slow(**_):
        inside.set()
        go_on.wait(20)

    session.events.register("creating-client-class.bedrock-runtime", slow)
    boto3.DEFAULT_SESSION = session
    maker = threading.Thread(target=lambda: Connection().client(RUNTIME))
    maker.start()
    inside.wait(10)

    def work():
        boto3.DEFAULT_SESSION = None
        return ask(RoutedClient(Connection()))["stopReason"]

    try:
        assert in_child(work) == "end_turn"
    finally:
        go_on.set()
        maker.join()


@needs_fork
def test_fork_during_a_look_up_does_not_hang(bedrock):
    profile = bedrock.create_application_profile(name="forked", copy_from="amazon.nova-lite-v1:0")
    bedrock.fail("slow_first_byte", operation="GetInferenceProfile", seconds=1.5)
    client = RoutedClient(Connection())
    asker = threading.Thread(target=lambda: client.resolve(profile))
    asker.start()
    deadline = time.monotonic() + 10
    while not bedrock.requests("GetInferenceProfile") and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert in_child(lambda: client.resolve(profile).base_models) == ["amazon.nova-lite-v1:0"]
    finally:
        asker.join()


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_PROFILE": "no-such-profile"},
        {"AWS_BEARER_TOKEN_BEDROCK": "somebody-elses"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_clients_derived_from_a_users_client_call_alike(bedrock, monkeypatch, environment):
    given = bedrock.client(AGENT_RUNTIME)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bedrock.clear_journal()
    source = UserClient(given, AGENT_RUNTIME)
    source.client(RUNTIME).converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": "Hello"}]}])
    source.client("bedrock").list_prompt_routers()
    assert [entry.authorization for entry in bedrock.journal] == ["sigv4", "sigv4"]


@pytest.mark.usefixtures("credentials")
def test_making_a_client_does_not_change_the_config():
    config = Config(retries={"max_attempts": 3})
    first = Connection(**settings(config=config))
    clients = [first.client(service) for service in (RUNTIME, AGENT_RUNTIME, "bedrock", "bedrock-agent")]
    again = Connection(**settings(config=config))
    assert config.retries == Config(retries={"max_attempts": 3}).retries
    assert [again.client(client.meta.service_model.service_name) is client for client in clients] == [True] * 4
