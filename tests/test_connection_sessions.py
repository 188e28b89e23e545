"""Test users' sessions and the verification of TLS: `Connection(session=, verify=, use_ssl=)`."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import boto3
import botocore.session
import pytest
import trustme
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, RefreshableCredentials
from botocore.exceptions import NoCredentialsError, SSLError
from llama_index_forms import FORMS, run
from recording_server import MODEL, PROFILE, ask, key_used, recording

from bedrock_routing_integrations import RoutedClient, parse_target
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.connections.clients import ClientStore
from bedrock_routing_integrations.errors import InvalidRequestError, MissingRegionError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME, Runtime

RUNTIME = "bedrock-runtime"
ONCE = {"max_retries": 0}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def recorder(authority):
    """A server whose certificate is trusted only with the right CA bundle."""
    with recording(authority) as server:
        yield server


@pytest.fixture
def bundle(authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def botocore_session(key="AKIASESSION", region=None):
    session = botocore.session.Session()
    if key:
        session.set_credentials(key, "secret")
    if region:
        session.set_config_variable("region", region)
    return session


def boto3_session(key="AKIASESSION", region=None):
    return boto3.Session(aws_access_key_id=key, aws_secret_access_key=key and "secret", region_name=region)


both_kinds = pytest.mark.parametrize("session_of", [botocore_session, boto3_session])


# --- sessions ---


@both_kinds
def test_a_sessions_credentials_are_used_and_not_the_environments(recorder, bundle, environment, session_of):
    where = {"region_name": "us-east-1", "endpoint_url": recorder.url, "verify": bundle}
    ask(RoutedClient(Connection(session=session_of(), **where)))
    assert key_used(recorder) == "AKIASESSION"
    ask(RoutedClient(Connection(**where)))
    assert key_used(recorder) == "AKIAENVIRONMENT"


@both_kinds
def test_look_ups_use_the_session_too(recorder, bundle, environment, session_of):
    connection = Connection(
        session=session_of(), region_name="us-east-1", endpoint_url=recorder.url, verify=bundle
    )  # fmt: skip
    assert RoutedClient(connection).resolve(PROFILE).complete
    assert recorder.seen[-1][0].startswith("/inference-profiles/")
    assert key_used(recorder) == "AKIASESSION"


@both_kinds
def test_key_rotated_in_the_environment_does_not_affect_sessions(environment, monkeypatch, session_of):
    connection = Connection(session=session_of(), region_name="us-east-1")
    before = connection.client(RUNTIME)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    assert connection.client(RUNTIME) is before


def test_credentials_that_refresh_themselves_are_fresh_at_each_call(recorder, bundle):
    """As those of an assumed role: the client is kept, and asks for them anew when their time is over."""
    now, keys = [datetime(2026, 1, 1, tzinfo=timezone.utc)], iter(["AKIAONE", "AKIATWO"])

    def refresh():
        expires = now[0] + timedelta(hours=1)
        return {"access_key": next(keys), "secret_key": "s", "token": "t", "expiry_time": expires.isoformat()}

    class Assumed(CredentialProvider):
        METHOD = "assumed"

        def load(self):
            first = refresh()
            expires = datetime.fromisoformat(first["expiry_time"])
            return RefreshableCredentials(first["access_key"], "s", "t", expires, refresh, "assumed", lambda: now[0])

    session = botocore.session.Session()
    session.register_component("credential_provider", CredentialResolver([Assumed()]))
    connection = Connection(session=session, region_name="us-east-1", endpoint_url=recorder.url, verify=bundle)
    client = RoutedClient(connection)
    ask(client)
    now[0] += timedelta(hours=2)
    ask(client)
    assert (key_used(recorder, 0), key_used(recorder, 1)) == ("AKIAONE", "AKIATWO")


@both_kinds
def test_session_region_is_between_targets_and_environments(monkeypatch, session_of):
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    connection = Connection(session=session_of(region="eu-north-1"))
    arn = parse_target("arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/anthropic.claude:1")
    assert connection.region_for(arn) == "eu-west-1"
    assert connection.region_for(parse_target(MODEL)) == "eu-north-1"
    assert Connection(session=session_of(region="eu-north-1"), region_name="us-west-2").region_for(None) == "us-west-2"


@both_kinds
def test_a_session_without_a_region_leaves_it_to_the_environment(monkeypatch, session_of):
    connection = Connection(session=session_of())
    with pytest.raises(MissingRegionError):
        connection.region_for(None)
    assert connection.known_region() is None
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert connection.region_for(None) == "ap-south-1"


@both_kinds
def test_only_connections_with_one_session_share_a_client(session_of):
    session = session_of()
    one, two = (Connection(session=session, region_name="us-east-1") for _ in range(2))
    other = Connection(session=session_of(), region_name="us-east-1")
    assert one.client(RUNTIME) is two.client(RUNTIME)
    assert one.client(RUNTIME) is not other.client(RUNTIME), "another session may have handlers of its own"
    assert one.client(RUNTIME) is not Connection(region_name="us-east-1").client(RUNTIME)


def test_event_handlers_of_a_session_run(bedrock):
    """Tracers hook into sessions."""
    session, seen = botocore_session(), []
    session.register("before-send.bedrock-runtime.Converse", lambda **_: seen.append("sent"))
    ask(RoutedClient(Connection(session=session)))
    assert seen == ["sent"]


def test_fifty_threads_make_one_client_of_a_session():
    session, made = boto3_session(), []
    session.events.register("creating-client-class.bedrock-runtime", lambda **_: made.append(1))
    connection = Connection(session=session, region_name="us-east-1")
    barrier = threading.Barrier(50)

    def get(_):
        barrier.wait()
        return connection.client(RUNTIME)

    with ThreadPoolExecutor(50) as threads:
        clients = set(map(id, threads.map(get, range(50))))
    assert (len(clients), len(made)) == (1, 1)


def test_credentials_that_a_session_finds_later_are_used(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    session = botocore.session.Session()
    client = RoutedClient(Connection(session=session))
    with pytest.raises(NoCredentialsError):
        ask(client)
    session.set_credentials("AKIALATER", "secret")
    assert ask(client)["stopReason"]


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"profile_name": "team"}, "profile_name"),
        ({"access_key_id": "A", "secret_access_key": "B"}, "credentials"),
        ({"api_key": "K"}, "api_key"),
    ],
)
def test_session_together_with_other_credentials_is_refused(beside, named):
    with pytest.raises(InvalidRequestError, match=rf"session has credentials of its own. Leave out {named}"):
        Connection(session=botocore_session(), **beside)


def test_pickle_leaves_out_the_session_only():
    connection = Connection(session=botocore_session(), region_name="us-east-1", verify="/ca.pem", use_ssl=False)
    loaded = pickle.loads(pickle.dumps(connection))
    assert (loaded.session, loaded.region_name, loaded.verify, loaded.use_ssl) == (None, "us-east-1", "/ca.pem", False)
    assert b"AKIASESSION" not in pickle.dumps(connection)
    assert "AKIASESSION" not in repr(connection)


def gone(*references):
    """Whether nothing holds them any more. A thread of the pool may hold what it did last for a moment longer."""
    deadline = time.monotonic() + 20
    while any(reference() is not None for reference in references) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return all(reference() is None for reference in references)


def used_by_a_llm(session, form):
    llm = BedrockRouter(model=MODEL, botocore_session=session)
    asyncio.run(run(llm, form, "hello"))
    return llm._client.runtime_client(MODEL), llm.model_copy(deep=True)


def used_by_a_connection(session, form):
    client = RoutedClient(Connection(session=session))
    assert client.resolve(form).complete
    ask(client)
    return client.runtime_client(MODEL), client


@pytest.mark.sample(2)
@both_kinds
@pytest.mark.parametrize("form", [*FORMS, "look-up"])
def test_unreferenced_session_is_freed_with_its_clients(bedrock, session_of, form):
    """A server for many tenants makes a session for each."""
    session = session_of()
    if form == "look-up":
        client, user = used_by_a_connection(session, bedrock.default_router("anthropic.claude:1"))
    else:
        client, user = used_by_a_llm(session, form)
    store = DEFAULT_RUNTIME.shared(ClientStore)
    before, references = len(store._slots), (weakref.ref(session), weakref.ref(client))
    del session, client
    gc.collect()
    assert [reference() is not None for reference in references] == [True, True], "while the object lives"
    del user
    assert gone(*references)
    assert len(store._slots) < before


# --- TLS ---


@pytest.fixture
def reach(recorder, environment):
    def reach(**given):
        return Connection(region_name="us-east-1", endpoint_url=recorder.url, **ONCE, **given)

    return reach


def test_certificate_of_an_unknown_authority_is_not_trusted(reach, recorder):
    with pytest.raises(SSLError):
        ask(RoutedClient(reach()))
    assert recorder.seen == []


def test_ca_bundle_decides_which_certificates_are_trusted(reach, recorder, bundle):
    assert ask(RoutedClient(reach(verify=bundle)))["stopReason"] == "end_turn"
    with pytest.raises(SSLError):  # what one object trusts, another does not
        ask(RoutedClient(reach()))
    assert len(recorder.seen) == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3 warns, as it does for every boto3 user
def test_false_trusts_everybody(reach):
    assert ask(RoutedClient(reach(verify=False)))["stopReason"] == "end_turn"


def test_a_bundle_wins_over_the_environments(reach, recorder, bundle, tmp_path, monkeypatch):
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    with pytest.raises(SSLError):
        ask(RoutedClient(reach()))
    assert ask(RoutedClient(reach(verify=bundle)))["stopReason"] == "end_turn"


def test_look_ups_trust_the_same(reach, recorder, bundle):
    assert not RoutedClient(reach()).resolve(PROFILE).complete
    assert RoutedClient(reach(verify=bundle), runtime=Runtime(clock=lambda: 0.0)).resolve(PROFILE).complete


@both_kinds
def test_a_session_and_a_bundle_go_together(recorder, bundle, session_of):
    where = {"region_name": "us-east-1", "endpoint_url": recorder.url}
    with pytest.raises(SSLError):
        ask(RoutedClient(Connection(session=session_of(), **where, **ONCE)))
    assert ask(RoutedClient(Connection(session=session_of(), verify=bundle, **where)))["stopReason"] == "end_turn"


def test_without_tls_awss_endpoints_are_plain_http(environment):
    for service in (RUNTIME, "bedrock", "bedrock-agent"):
        with_tls, without = (Connection(region_name="us-east-1", use_ssl=use).client(service) for use in (True, False))
        assert with_tls.meta.endpoint_url == f"https://{service}.us-east-1.amazonaws.com"
        assert without.meta.endpoint_url == f"http://{service}.us-east-1.amazonaws.com"


@pytest.mark.parametrize("change", [{"verify": False}, {"verify": "/ca.pem"}, {"use_ssl": False}], ids=str)
def test_clients_differ_by_their_trust_settings(environment, change):
    one, two = (Connection(region_name="us-east-1", **change) for _ in range(2))
    assert one.client(RUNTIME) is two.client(RUNTIME)
    assert one.client(RUNTIME) is not Connection(region_name="us-east-1").client(RUNTIME)


# --- through the frameworks ---


@both_kinds
def test_a_llm_takes_all_three(recorder, bundle, environment, session_of):
    llm = BedrockRouter(
        model=MODEL, botocore_session=session_of(region="us-east-1"), endpoint_url=recorder.url, verify=bundle
    )  # fmt: skip
    assert llm.complete("hello").text == "hello"
    assert key_used(recorder) == "AKIASESSION"
    plain = BedrockRouter(model=MODEL, region_name="us-east-1", use_ssl=False, botocore_config=Config())
    assert plain._client.runtime_client(MODEL).meta.endpoint_url.startswith("http://")


def test_a_credentials_object_is_not_copied_into_the_key():
    """The key is kept forever: it must hold only what distinguishes clients."""
    connection = Connection(session=botocore_session(), region_name="us-east-1")
    assert not any(isinstance(part, Credentials) for part in connection.key())
    assert "AKIASESSION" not in repr(connection.key())
