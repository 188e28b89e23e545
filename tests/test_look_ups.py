"""Test the candidate models of a target, and how often the control plane is called."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from samples import ALICE, HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET

from bedrock_routing_integrations import RoutedClient, parse_target
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.models.candidates import base_model_of_id
from bedrock_routing_integrations.models.look_ups import (
    KEEP_FAILED_SECONDS,
    KEEP_REFUSED_SECONDS,
    KEEP_SECONDS,
    Resolver,
)
from bedrock_routing_integrations.runtime import Runtime

PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def client(bedrock):
    return RoutedClient(Connection())


def say(client, target, prompt="Hello"):
    return client.converse(modelId=target, messages=[{"role": "user", "content": [{"text": prompt}]}])["routing"]


def learned(resolved):
    return [(candidate.base_model, candidate.source) for candidate in resolved.candidates]


# --- candidates of each kind of target ---


def test_ids_that_name_their_model_are_not_looked_up(bedrock, client):
    for target in (HAIKU, f"us.{HAIKU}", f"arn:aws:bedrock:::foundation-model/{HAIKU}", f"global.{HAIKU}"):
        resolved = client.resolve(target)
        assert learned(resolved) == [(HAIKU, "id")]
        assert resolved.only_model == HAIKU
    for target in ("imported-model/abcdefghijkl",):
        assert client.resolve(f"arn:aws:bedrock:us-east-1:123456789012:{target}").base_models == ()
    assert bedrock.requests() == []


def test_a_default_router(client, router):
    resolved = client.resolve(router)
    assert learned(resolved) == [(HAIKU, "GetPromptRouter"), (SONNET, "GetPromptRouter")]
    assert resolved.fallback == SONNET
    assert resolved.complete
    assert resolved.only_model is None
    assert resolved.facts.provider == "anthropic"


def test_a_router_over_application_profiles_is_followed_down(bedrock, client):
    small = bedrock.create_application_profile(name="small", copy_from=f"us.{LLAMA_8B}")
    router = bedrock.create_prompt_router(name="mine", models=[small, f"us.{LLAMA_70B}"], fallback=small)
    resolved = client.resolve(router)
    assert resolved.base_models == (LLAMA_8B, LLAMA_70B)
    assert resolved.fallback == LLAMA_8B
    assert resolved.base_model_of(small) == LLAMA_8B
    assert [entry.operation for entry in bedrock.requests()] == ["GetPromptRouter", "GetInferenceProfile"]
    assert say(client, router)["invoked_model"] in (LLAMA_8B, LLAMA_70B)


def test_profiles_throughput_deployments_and_custom_models(bedrock, client):
    custom = bedrock.add_custom_model(NOVA_LITE)
    targets = {
        bedrock.create_application_profile(name="team", copy_from=f"us.{HAIKU}"): (HAIKU, "GetInferenceProfile"),
        bedrock.add_provisioned_model(NOVA_PRO): (NOVA_PRO, "GetProvisionedModelThroughput"),
        bedrock.add_custom_model_deployment(NOVA_LITE): (NOVA_LITE, "GetCustomModelDeployment"),
        custom: (NOVA_LITE, "GetCustomModel"),
    }
    for target, (model, source) in targets.items():
        resolved = client.resolve(target)
        assert resolved.base_models == (model,), target
        assert resolved.candidates[0].source == source
        assert resolved.only_model == model
        assert say(client, target)["invoked_model"] == model
        assert say(client, target)["is_fallback"] is False


def test_managed_prompts(bedrock, client, router):
    plain = bedrock.add_prompt("plain", "Say {{what}}", model_id=HAIKU, version="1")
    routed = bedrock.add_prompt("routed", "Say {{what}}", model_id=router)
    assert client.resolve(plain).base_models == (HAIKU,)
    resolved = client.resolve(routed)
    assert resolved.base_models == (HAIKU, SONNET)
    assert resolved.fallback == SONNET
    assert resolved.only_model is None


def test_ids_found_in_traces_are_read():
    assert base_model_of_id(f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU}") == HAIKU
    assert base_model_of_id(f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}") == HAIKU
    assert base_model_of_id(f"{NOVA_PRO}:300k") == NOVA_PRO
    assert base_model_of_id(PROFILE) is None
    assert base_model_of_id("no such thing") is None


# --- how often the control plane is called ---


def test_many_threads_ask_once(bedrock, client, router):
    bedrock.fail("slow_first_byte", seconds=0.2, operation="GetPromptRouter", rate=1.0)
    barrier = threading.Barrier(32)

    def resolve(_):
        barrier.wait()
        return client.resolve(router)

    with ThreadPoolExecutor(32) as threads:
        resolved = list(threads.map(resolve, range(32)))
    assert {r.base_models for r in resolved} == {(HAIKU, SONNET)}
    assert len(bedrock.requests("GetPromptRouter")) == 1


def test_an_answer_is_kept_for_an_hour(bedrock, router):
    clock = Clock()
    client = RoutedClient(Connection(), runtime=Runtime(clock=clock))
    client.resolve(router)
    clock.now += KEEP_SECONDS - 1
    client.resolve(router)
    assert len(bedrock.requests("GetPromptRouter")) == 1
    clock.now += 2
    client.resolve(router)
    assert len(bedrock.requests("GetPromptRouter")) == 2


def test_a_refusal_is_remembered_for_five_minutes(bedrock, router, caplog):
    fault = bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    clock = Clock()
    client = RoutedClient(Connection(), runtime=Runtime(clock=clock))
    assert not client.resolve(router).complete
    assert client.resolve(router).refused == "GetPromptRouter: AccessDeniedException"
    assert len(bedrock.requests("GetPromptRouter")) == 1
    fault.cancel()
    clock.now += KEEP_REFUSED_SECONDS + 1
    assert client.resolve(router).base_models == (HAIKU, SONNET)
    assert [record.levelno for record in caplog.records if record.levelno >= logging.WARNING] == [logging.WARNING]


def test_forget_asks_again(bedrock, router):
    resolver = Resolver()
    for _ in range(2):
        resolver.resolve(parse_target(router), Connection())
        resolver.reset()
    assert len(bedrock.requests("GetPromptRouter")) == 2


# --- failed look-ups ---


def test_a_refused_profile_inside_a_router_leaves_the_rest(bedrock, client, caplog):
    small = bedrock.create_application_profile(name="small", copy_from=f"us.{LLAMA_8B}")
    router = bedrock.create_prompt_router(name="mine", models=[small, f"us.{LLAMA_70B}"], fallback=f"us.{LLAMA_70B}")
    bedrock.fail("access_denied", operation="GetInferenceProfile", rate=1.0)
    resolved = client.resolve(router)
    assert resolved.base_models == (LLAMA_70B,)
    assert resolved.fallback == LLAMA_70B
    assert not resolved.complete
    assert resolved.only_model is None, "the router has another model that is not known"
    assert "bedrock:GetInferenceProfile" in caplog.text


def test_models_named_in_the_arn_are_used(bedrock, client, router):
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    resolved = client.resolve(router)
    assert resolved.facts.provider == "anthropic"
    assert resolved.facts.streaming


def test_the_first_traces_teach_the_rest(bedrock, client, router):
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    assert say(client, router, HELLO)["candidates"] == []
    assert client.resolve(router, look_up="never").base_models == (HAIKU,)
    say(client, router, ALICE)
    resolved = client.resolve(router, look_up="never")
    assert learned(resolved) == [(HAIKU, "trace"), (SONNET, "trace")]


def test_missing_target_is_reported_by_the_call(bedrock, client):
    with pytest.raises(Exception, match=r"ValidationException|ResourceNotFoundException"):
        say(client, PROFILE)


@pytest.mark.parametrize("kind", ["throttling", "internal", "reset"])
def test_a_broken_control_plane_does_not_stop_the_call(bedrock, client, router, kind):
    bedrock.fail(kind, operation="GetPromptRouter", rate=1.0)
    assert say(client, router, HELLO)["invoked_model"] == HAIKU


def test_control_plane_nonsense_does_not_stop_the_call(bedrock, router):
    class Nonsense:
        def get_prompt_router(self, **_):
            raise ValueError("<html>proxy</html>")

    client = RoutedClient(bedrock.client(), bedrock_client=Nonsense())
    assert say(client, router, HELLO)["invoked_model"] == HAIKU


def test_later_credentials_are_soon_used_for_look_ups(bedrock, router, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    clock = Clock()
    client = RoutedClient(Connection(), runtime=Runtime(clock=clock))
    assert not client.resolve(router).complete
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    clock.now += KEEP_FAILED_SECONDS + 1
    assert client.resolve(router).complete


def test_stated_base_models_are_believed(bedrock, router):
    client = RoutedClient(Connection(), base_models={router: [HAIKU, f"us.{SONNET}"]})
    assert learned(client.resolve(router)) == [(HAIKU, "base_models"), (SONNET, "base_models")]
    assert say(client, router, HELLO)["is_fallback"] is None, "which one is the fallback was not said"
    assert bedrock.requests("GetPromptRouter") == []


# --- results of earlier look-ups ---


def test_recalling_looks_up_once_and_never_again(bedrock, router):
    clock = Clock()
    client = RoutedClient(Connection(), runtime=Runtime(clock=clock))
    first = client.resolve(router, look_up="missing")
    assert first.base_models == (HAIKU, SONNET)
    clock.now += 100 * KEEP_SECONDS
    assert client.resolve(router, look_up="missing") == first
    assert len(bedrock.requests("GetPromptRouter")) == 1
    client.resolve(router)
    assert len(bedrock.requests("GetPromptRouter")) == 2, "who needs the latest candidates asks again"


@pytest.mark.parametrize("kind", ["access_denied", "throttling"])
def test_recalling_does_not_repeat_a_failed_look_up(bedrock, router, kind):
    fault = bedrock.fail(kind, operation="GetPromptRouter", rate=1.0)
    clock = Clock()
    client = RoutedClient(Connection(), runtime=Runtime(clock=clock))
    assert not client.resolve(router, look_up="missing").complete
    requests_before = len(bedrock.requests("GetPromptRouter"))
    fault.cancel()
    clock.now += KEEP_REFUSED_SECONDS + KEEP_FAILED_SECONDS
    assert client.resolve(router, look_up="missing").base_models == ()
    assert len(bedrock.requests("GetPromptRouter")) == requests_before
    assert client.resolve(router).complete
    assert client.resolve(router, look_up="missing").complete, "what a call has found out since is recalled"


def test_models_learned_from_traces_are_recalled(bedrock, client, router):
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    assert client.resolve(router, look_up="missing").base_models == ()
    say(client, router, HELLO)
    assert learned(client.resolve(router, look_up="missing")) == [(HAIKU, "trace")]


def test_look_up_of_one_object_is_recalled_by_another(bedrock, router):
    RoutedClient(Connection()).resolve(router)
    assert RoutedClient(Connection()).resolve(router, look_up="missing").complete
    assert len(bedrock.requests("GetPromptRouter")) == 1


def test_many_threads_that_recall_ask_once(bedrock, client, router):
    barrier = threading.Barrier(16)

    def recall(_):
        barrier.wait()
        return client.resolve(router, look_up="missing")

    with ThreadPoolExecutor(16) as threads:
        assert {known.base_models for known in threads.map(recall, range(16))} == {(HAIKU, SONNET)}
    assert len(bedrock.requests("GetPromptRouter")) == 1


def test_recalling_a_plain_model_id_sends_no_request(bedrock, router):
    client = RoutedClient(Connection(), base_models={router: [HAIKU]})
    assert client.resolve(router, look_up="missing").base_models == (HAIKU,)
    assert client.resolve(f"us.{NOVA_PRO}", look_up="missing").base_models == (NOVA_PRO,)
    assert (
        client.resolve(
            f"arn:aws:bedrock:us-east-1:123456789012:imported-model/{'a' * 12}", look_up="missing"
        ).base_models
        == ()
    )
    assert bedrock.requests() == []


def test_a_prepared_resolver_can_be_asked_without_a_client(bedrock, router):
    resolver, target = Resolver(), parse_target(router)
    assert resolver.resolve(target, Connection(), look_up="missing") == resolver.resolve(target, Connection())
    resolver.reset()
    assert resolver.resolve(target, Connection(), look_up="missing").complete
    assert len(bedrock.requests("GetPromptRouter")) == 2


class Slow:
    """A control plane that answers its first request at once, and the next when `go` is set."""

    def __init__(self, answers):
        self.answers, self.asked, self.go = answers, threading.Event(), threading.Event()
        self.first = True

    def get_prompt_router(self, **arguments):
        if not self.first:
            self.asked.set()
            assert self.go.wait(60)
        self.first = False
        return self.answers.get_prompt_router(**arguments)


def test_recalling_does_not_wait_for_another_threads_look_up(bedrock, router):
    clock, slow = Clock(), Slow(bedrock.client("bedrock"))
    client = RoutedClient(bedrock.client(), bedrock_client=slow, runtime=Runtime(clock=clock))
    known = client.resolve(router)
    clock.now += KEEP_SECONDS + 1
    with ThreadPoolExecutor(2) as threads:
        again = threads.submit(client.resolve, router)
        try:
            assert slow.asked.wait(60)
            recalled = threads.submit(client.resolve, router, look_up="missing")
            assert recalled.result(timeout=5) == known
        finally:
            slow.go.set()
            again.result()
