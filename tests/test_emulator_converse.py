"""Test the emulator's Converse and ConverseStream on every kind of target, through boto3."""

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from bedrock_routing_integrations.emulator import BedrockEmulator

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
SONNET_4 = "anthropic.claude-sonnet-4-20250514-v1:0"
LITE, PRO = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
SMALL_LLAMA, LARGE_LLAMA = "meta.llama3-1-8b-instruct-v1:0", "meta.llama3-1-70b-instruct-v1:0"
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"

ALICE = "Alice has {n} brothers and she also has {m} sisters. How many sisters does Alice's brothers have?"
HELLO = "Describe the purpose of a 'hello world' program in one line."


@pytest.fixture
def bedrock():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def runtime(bedrock):
    return bedrock.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))


def user(text):
    return [{"role": "user", "content": [{"text": text}]}]


def invoked(answer):
    return answer["trace"]["promptRouter"]["invokedModelId"]


def refusal(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


# --- routers


@pytest.mark.parametrize("n", ["N", 4, 11])
@pytest.mark.parametrize("m", ["M", 1, 7])
@pytest.mark.parametrize(
    ("router", "large"),
    [("anthropic.claude:1", SONNET), ("meta.llama:1", LARGE_LLAMA), ("amazon.nova:1", PRO)],
)
def test_the_reasoning_prompt_goes_to_the_large_model(bedrock, runtime, router, large, n, m):
    answer = runtime.converse(modelId=bedrock.default_router(router), messages=user(ALICE.format(n=n, m=m)))
    assert invoked(answer) == f"{PROFILE}us.{large}"


@pytest.mark.parametrize(
    ("router", "small"),
    [("anthropic.claude:1", HAIKU), ("meta.llama:1", SMALL_LLAMA), ("amazon.nova:1", LITE)],
)
def test_the_simple_prompt_goes_to_the_small_model(bedrock, runtime, router, small):
    answer = runtime.converse(modelId=bedrock.default_router(router), messages=user(HELLO))
    assert invoked(answer) == f"{PROFILE}us.{small}"


def test_small_fallback_yields_only_above_the_response_quality_difference(bedrock, runtime):
    cheap = bedrock.create_prompt_router(
        name="cheap", models=[LITE, PRO], fallback=LITE, response_quality_difference=25
    )
    cheapest = bedrock.create_prompt_router(
        name="cheapest", models=[LITE, PRO], fallback=LITE, response_quality_difference=100
    )
    assert invoked(runtime.converse(modelId=cheap, messages=user(HELLO))) == MODEL + LITE
    assert invoked(runtime.converse(modelId=cheap, messages=user(ALICE.format(n=2, m=3)))) == MODEL + PRO
    assert invoked(runtime.converse(modelId=cheapest, messages=user(ALICE.format(n=2, m=3)))) == MODEL + LITE


def test_a_larger_difference_sends_more_to_the_small_model(bedrock, runtime):
    question = "Why is the sky blue?"
    strict, loose = (
        bedrock.create_prompt_router(
            name=f"r{difference}", models=[LITE, PRO], fallback=PRO, response_quality_difference=difference
        )
        for difference in (0, 25)
    )
    assert invoked(runtime.converse(modelId=strict, messages=user(question))) == MODEL + PRO
    assert invoked(runtime.converse(modelId=loose, messages=user(question))) == MODEL + LITE


def test_a_router_over_application_profiles_names_what_is_underneath(bedrock, runtime):
    targets = [
        bedrock.create_application_profile(name="lite", copy_from=f"us.{LITE}"),
        bedrock.create_application_profile(name="pro", copy_from=PRO),
    ]
    router = bedrock.create_prompt_router(name="nested", models=targets, fallback=targets[1])
    assert invoked(runtime.converse(modelId=router, messages=user(HELLO))) == f"{PROFILE}us.{LITE}"
    assert invoked(runtime.converse(modelId=router, messages=user(ALICE.format(n=2, m=3)))) == MODEL + PRO


def test_a_test_can_dictate_the_choice(bedrock, runtime):
    router = bedrock.default_router()
    bedrock.choose(SONNET, times=2)
    bedrock.choose(lambda prompt: HAIKU if "brothers" in prompt else SONNET)
    chosen = [invoked(runtime.converse(modelId=router, messages=user(HELLO))) for _ in range(2)]
    chosen += [invoked(runtime.converse(modelId=router, messages=user(ALICE.format(n=1, m=1)))) for _ in range(2)]
    assert [arn.rpartition("us.")[2] for arn in chosen] == [SONNET, SONNET, HAIKU, SONNET]


def test_a_dictated_choice_waits_for_its_router(bedrock, runtime):
    bedrock.choose(LARGE_LLAMA, router=bedrock.default_router("meta.llama:1"))
    assert HAIKU in invoked(runtime.converse(modelId=bedrock.default_router(), messages=user(HELLO)))
    llama = bedrock.default_router("meta.llama:1")
    assert LARGE_LLAMA in invoked(runtime.converse(modelId=llama, messages=user(HELLO)))


def test_a_choice_that_no_router_has_is_refused(bedrock):
    with pytest.raises(ValueError, match="No router can choose 'claude'"):
        bedrock.choose("claude")


def test_a_router_of_another_region_names_models_of_that_region(bedrock, runtime):
    router = "arn:aws:bedrock:us-west-2:123456789012:default-prompt-router/anthropic.claude:1"
    answer = runtime.converse(modelId=router, messages=user(HELLO))
    assert invoked(answer).startswith("arn:aws:bedrock:us-west-2:123456789012:inference-profile/us.")


# --- every other kind of target


def targets(bedrock):
    return {
        "foundation id": LITE,
        "foundation arn": MODEL + LITE,
        "region-less foundation arn": f"arn:aws:bedrock:::foundation-model/{LITE}",
        "system profile id": f"us.{LITE}",
        "system profile arn": f"{PROFILE}us.{LITE}",
        "system profile of another region": f"arn:aws:bedrock:eu-west-1:1{'0' * 11}:inference-profile/eu.{LITE}",
        "global profile": f"global.{SONNET_4}",
        "application profile": bedrock.create_application_profile(name="app", copy_from=f"us.{LITE}"),
        "provisioned": bedrock.add_provisioned_model(LITE),
        "deployment": bedrock.add_custom_model_deployment(LITE),
        "custom model": bedrock.add_custom_model(LITE),
        "imported model": bedrock.add_imported_model("mine"),
        "sagemaker endpoint": bedrock.add_sagemaker_endpoint("mine"),
    }


def test_only_routers_among_targets_have_a_trace(bedrock, runtime):
    for kind, target in targets(bedrock).items():
        answer = runtime.converse(modelId=target, messages=user("hello"))
        assert answer["output"]["message"]["content"], kind
        assert "trace" not in answer, kind
        events = list(runtime.converse_stream(modelId=target, messages=user("hello"))["stream"])
        assert "metadata" in events[-1], kind
        assert "trace" not in events[-1]["metadata"], kind


def test_a_managed_prompt_is_filled_in(bedrock, runtime):
    arn = bedrock.add_prompt("repeat", "Please repeat the word {{word}}.", LITE, version="1")
    runtime.converse(modelId=arn, promptVariables={"word": {"text": "banana"}})
    answer = runtime.converse(
        modelId=arn, promptVariables={"word": {"text": "banana"}}, messages=user("And say it again.")
    )
    assert answer["output"]["message"]["content"]
    code, message = refusal(runtime.converse, modelId=arn)
    assert (code, "word" in message) == ("ValidationException", True)


@pytest.mark.parametrize(
    "member",
    [
        {"system": [{"text": "Be brief"}]},
        {"inferenceConfig": {"maxTokens": 5}},
        {"additionalModelRequestFields": {"k": 1}},
        {"toolConfig": {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {}}}}]}},
    ],
)
def test_a_managed_prompt_refuses_what_it_decides_itself(bedrock, runtime, member):
    arn = bedrock.add_prompt("plain", "Say hello.", LITE)
    code, message = refusal(runtime.converse, modelId=arn, **member)
    assert code == "ValidationException"
    assert next(iter(member)) in message


def test_a_managed_prompt_may_run_on_a_router(bedrock, runtime):
    arn = bedrock.add_prompt("routed", HELLO, bedrock.default_router())
    assert HAIKU in invoked(runtime.converse(modelId=arn))


def test_messages_are_needed_without_a_prompt(runtime):
    code, message = refusal(runtime.converse, modelId=LITE)
    assert (code, "'messages'" in message) == ("ValidationException", True)


def test_unknown_models_are_refused_with_bedrocks_message(runtime):
    for target in ("amazon.unknown-v1:0", "xx." + LITE, MODEL + "amazon.unknown-v1:0"):
        assert refusal(runtime.converse, modelId=target, messages=user("hi")) == (
            "ValidationException",
            "The provided model identifier is invalid.",
        )


def test_missing_resources_are_not_found(runtime):
    start = "arn:aws:bedrock:us-east-1:123456789012:"
    for target in ("prompt-router/aaaaaaaaaaaa", "application-inference-profile/aaaaaaaaaaaa", "prompt/AAAAAAAAAA"):
        code, _ = refusal(runtime.converse, modelId=start + target, messages=user("hi"))
        assert code == "ResourceNotFoundException"


def test_model_without_on_demand_throughput_is_refused(runtime):
    code, message = refusal(runtime.converse, modelId=SONNET_4, messages=user("hi"))
    assert code == "ValidationException"
    assert message == (
        f"Invocation of model ID {SONNET_4} with on-demand throughput isn't supported. Retry your request with "
        "the ID or ARN of an inference profile that contains this model."
    )


def test_a_retired_model_is_not_found(runtime):
    code, message = refusal(runtime.converse, modelId="anthropic.claude-3-sonnet-20240229-v1:0", messages=user("hi"))
    assert code == "ResourceNotFoundException"
    assert "end of its life" in message


# --- usage, latency and tier of the answer


def test_the_answer_counts_tokens_and_simulates_time(runtime):
    answer = runtime.converse(modelId=LITE, messages=user("hello"))
    usage = answer["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"] > 1
    assert answer["metrics"]["latencyMs"] > 300
    assert answer["stopReason"] == "end_turn"
    assert "performanceConfig" not in answer
    assert "serviceTier" not in answer


def test_optimized_latency_is_faster_and_echoed(runtime):
    ask = {"modelId": f"us.{PRO}", "messages": user(HELLO)}
    standard = runtime.converse(**ask, performanceConfig={"latency": "standard"})
    optimized = runtime.converse(**ask, performanceConfig={"latency": "optimized"})
    assert standard["performanceConfig"] == {"latency": "standard"}
    assert optimized["performanceConfig"] == {"latency": "optimized"}
    assert optimized["metrics"]["latencyMs"] < 0.7 * standard["metrics"]["latencyMs"]


@pytest.mark.parametrize("target", [LITE, PRO, f"us.{LITE}"])
def test_optimized_latency_is_refused_elsewhere(runtime, target):
    code, message = refusal(
        runtime.converse, modelId=target, messages=user("hi"), performanceConfig={"latency": "optimized"}
    )
    model_id = target.removeprefix("us.")
    assert code == "ValidationException"
    assert message == f"Latency performance configuration is not supported for {model_id} in us-east-1"


def test_over_quota_standard_is_served():
    with BedrockEmulator(optimized_quota=2) as bedrock:
        runtime = bedrock.client()
        served = [
            runtime.converse(modelId=f"us.{PRO}", messages=user("hi"), performanceConfig={"latency": "optimized"})[
                "performanceConfig"
            ]["latency"]
            for _ in range(3)
        ]
        stream = runtime.converse_stream(
            modelId=f"us.{PRO}", messages=user("hi"), performanceConfig={"latency": "optimized"}
        )["stream"]
        metadata = list(stream)[-1]["metadata"]
    assert served == ["optimized", "optimized", "standard"]
    assert metadata["performanceConfig"] == {"latency": "standard"}


@pytest.mark.parametrize(
    ("requested", "served"),
    [("priority", "priority"), ("flex", "flex"), ("default", "default"), ("reserved", "default")],
)
def test_the_served_tier_is_given_when_a_tier_is_asked(runtime, requested, served):
    answer = runtime.converse(modelId=LITE, messages=user("hi"), serviceTier={"type": requested})
    assert answer["serviceTier"] == {"type": served}


def test_malformed_json_pointers_are_refused(runtime):
    for pointer in ("stop_sequence", "/a~2"):
        code, _ = refusal(
            runtime.converse, modelId=LITE, messages=user("hi"), additionalModelResponseFieldPaths=[pointer]
        )
        assert code == "ValidationException"
    runtime.converse(modelId=LITE, messages=user("hi"), additionalModelResponseFieldPaths=["/stop_sequence"])


def test_cache_points_are_accepted(runtime):
    content = [{"text": "hello"}, {"cachePoint": {"type": "default"}}]
    runtime.converse(modelId=f"us.{SONNET_4}", messages=[{"role": "user", "content": content}])


# --- streams


def test_a_stream_has_the_services_order_of_events(bedrock, runtime):
    answer = runtime.converse_stream(modelId=bedrock.default_router(), messages=user(HELLO))
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/vnd.amazon.eventstream"
    names = [next(iter(event)) for event in answer["stream"]]
    assert names[0] == "messageStart"
    assert names[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    assert set(names[1:-3]) == {"contentBlockDelta"}
    assert len(names) > 6


def test_stream_has_the_content_of_converse(bedrock, runtime):
    ask = {"modelId": bedrock.default_router(), "messages": user(ALICE.format(n=3, m=2))}
    whole = runtime.converse(**ask)
    events = list(runtime.converse_stream(**ask)["stream"])
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
    assert text == whole["output"]["message"]["content"][0]["text"]
    metadata = events[-1]["metadata"]
    assert metadata["usage"] == whole["usage"]
    assert metadata["metrics"] == whole["metrics"]
    assert metadata["trace"] == whole["trace"]


def test_a_tool_use_announces_its_block(runtime):
    tool = {
        "toolSpec": {
            "name": "get_weather",
            "description": "Get the weather of a city",
            "inputSchema": {
                "json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
            },
        }
    }
    stream = runtime.converse_stream(
        modelId=f"us.{SONNET_4}",
        messages=user("What is the weather in Paris?"),
        toolConfig={"tools": [tool], "toolChoice": {"any": {}}},
    )["stream"]
    events = list(stream)
    starts = [event["contentBlockStart"] for event in events if "contentBlockStart" in event]
    assert starts[0]["start"]["toolUse"]["name"] == "get_weather"
    stop = next(event["messageStop"] for event in events if "messageStop" in event)
    assert stop["stopReason"] == "tool_use"


def test_a_prompt_can_ask_for_a_number_of_chunks(runtime):
    stream = runtime.converse_stream(modelId=LITE, messages=user("[[emulator: chunks=2000]]"))["stream"]
    assert sum("contentBlockDelta" in event for event in stream) == 2000


def test_answers_fit_the_service_model(bedrock, runtime):
    ask = {
        "modelId": bedrock.default_router(),
        "messages": user(HELLO),
        "performanceConfig": {"latency": "standard"},
        "serviceTier": {"type": "flex"},
    }
    validator = ParamValidator()
    model = runtime.meta.service_model
    answer = runtime.converse(**ask)
    del answer["ResponseMetadata"]
    report = validator.validate(answer, model.operation_model("Converse").output_shape)
    assert not report.has_errors(), report.generate_report()
    events = model.operation_model("ConverseStream").output_shape.members["stream"]
    for event in runtime.converse_stream(**ask)["stream"]:
        report = validator.validate(event, events)
        assert not report.has_errors(), report.generate_report()


def test_any_text_survives_the_way(runtime):
    for text in ('héllo 你好 🚀 \u0000 "quoted" \\ \n', "half a pair: \ud83d"):
        runtime.converse(modelId=LITE, messages=user(text))
        assert list(runtime.converse_stream(modelId=LITE, messages=user(text))["stream"])
