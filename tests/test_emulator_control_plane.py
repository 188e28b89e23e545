"""Test the emulator's control plane through boto3."""

import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from bedrock_routing_integrations.emulator import BedrockEmulator

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
LITE, PRO = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"


@pytest.fixture
def bedrock():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def control(bedrock):
    return bedrock.client("bedrock")


def refusal(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def router_request(**changes):
    return {
        "promptRouterName": "mine",
        "models": [{"modelArn": MODEL + LITE}, {"modelArn": MODEL + PRO}],
        "fallbackModel": {"modelArn": MODEL + PRO},
        "routingCriteria": {"responseQualityDifference": 25},
        **changes,
    }


def assert_fits_service_model(client, operation, answer):
    shape = client.meta.service_model.operation_model(operation).output_shape
    body = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    report = ParamValidator().validate(body, shape)
    assert not report.has_errors(), report.generate_report()


def test_default_routers_are_those_of_the_launch(control, bedrock):
    router = control.get_prompt_router(promptRouterArn=bedrock.default_router("anthropic.claude:1"))
    assert [model["modelArn"] for model in router["models"]] == [
        f"{PROFILE}us.{HAIKU}",
        f"{PROFILE}us.{SONNET}",
    ]
    assert router["fallbackModel"]["modelArn"] == f"{PROFILE}us.{SONNET}"
    assert router["routingCriteria"] == {"responseQualityDifference": 0.26}
    assert (router["type"], router["status"]) == ("default", "AVAILABLE")
    assert router["createdAt"].tzinfo is not None
    listed = control.list_prompt_routers(type="default")["promptRouterSummaries"]
    assert [one["promptRouterArn"].rpartition("/")[2] for one in listed] == [
        "anthropic.claude:1",
        "meta.llama:1",
        "amazon.nova:1",
    ]


def test_a_router_is_seen_from_the_region_of_its_arn(bedrock):
    west = bedrock.client("bedrock", region_name="us-west-2")
    arns = [one["promptRouterArn"] for one in west.list_prompt_routers()["promptRouterSummaries"]]
    assert {arn.split(":")[3] for arn in arns} == {"us-west-2"}
    ireland = "arn:aws:bedrock:eu-west-1:999999999999:default-prompt-router/anthropic.claude:1"
    models = west.get_prompt_router(promptRouterArn=ireland)["models"]
    start = "arn:aws:bedrock:eu-west-1:999999999999:inference-profile/eu."
    assert all(model["modelArn"].startswith(start) for model in models)


def test_a_custom_router_lives_from_create_to_delete(control):
    arn = control.create_prompt_router(**router_request(description="Two Novas"))["promptRouterArn"]
    assert ":prompt-router/" in arn
    router = control.get_prompt_router(promptRouterArn=arn)
    assert (router["promptRouterName"], router["type"], router["description"]) == ("mine", "custom", "Two Novas")
    assert router["routingCriteria"] == {"responseQualityDifference": 25}
    customs = control.list_prompt_routers(type="custom")["promptRouterSummaries"]
    assert [one["promptRouterArn"] for one in customs] == [arn]
    control.delete_prompt_router(promptRouterArn=arn)
    code, _ = refusal(control.get_prompt_router, promptRouterArn=arn)
    assert code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("changes", "expected_message"),
    [
        ({"routingCriteria": {"responseQualityDifference": 12}}, "multiple of 5"),
        ({"routingCriteria": {"responseQualityDifference": 0.26}}, "multiple of 5"),
        ({"routingCriteria": {"responseQualityDifference": 105}}, "less than or equal to 100"),
        ({"fallbackModel": {"modelArn": MODEL + HAIKU}}, "fallback model must be one of the models"),
        ({"models": [{"modelArn": MODEL + PRO}]}, "two different models"),
        (
            {"models": [{"modelArn": MODEL + PRO}, {"modelArn": MODEL + HAIKU}]},
            "same model family",
        ),
        (
            {"models": [{"modelArn": MODEL + PRO}, {"modelArn": MODEL + "amazon.unknown-v1:0"}]},
            "model identifier is invalid",
        ),
        ({"promptRouterName": "x" * 65}, "length less than or equal to 64"),
        ({"promptRouterName": "no/slash"}, "regular expression pattern"),
        ({"description": "d" * 201}, "length less than or equal to 200"),
    ],
)
def test_invalid_router_is_refused_with_a_reason(control, changes, expected_message):
    code, message = refusal(control.create_prompt_router, **router_request(**changes))
    assert code == "ValidationException"
    assert expected_message in message


def test_taken_name_conflicts_unless_the_request_is_repeated(control):
    first = control.create_prompt_router(**router_request(clientRequestToken="again"))
    assert (
        control.create_prompt_router(**router_request(clientRequestToken="again"))["promptRouterArn"]
        == (first["promptRouterArn"])
    )
    assert refusal(control.create_prompt_router, **router_request())[0] == "ConflictException"


def test_default_routers_cannot_be_deleted(control, bedrock):
    code, _ = refusal(control.delete_prompt_router, promptRouterArn=bedrock.default_router())
    assert code == "ValidationException"


def test_routers_come_in_pages(control):
    for number in range(5):
        control.create_prompt_router(**router_request(promptRouterName=f"router {number}"))
    pages = list(control.get_paginator("list_prompt_routers").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["promptRouterSummaries"]) for page in pages] == [3, 3, 2]
    code, message = refusal(control.list_prompt_routers, nextToken="made-up")
    assert (code, "token" in message) == ("ValidationException", True)


def test_system_profiles_name_a_model_per_region(control):
    profile = control.get_inference_profile(inferenceProfileIdentifier=f"us.{LITE}")
    assert profile["inferenceProfileArn"] == f"{PROFILE}us.{LITE}"
    assert profile["type"] == "SYSTEM_DEFINED"
    regions = [model["modelArn"].split(":")[3] for model in profile["models"]]
    assert regions == ["us-east-1", "us-east-2", "us-west-2"]
    assert (
        control.get_inference_profile(inferenceProfileIdentifier=f"{PROFILE}us.{LITE}")["models"] == (profile["models"])
    )


def test_a_global_profile_lists_a_region_less_model(control):
    profile = control.get_inference_profile(inferenceProfileIdentifier="global.anthropic.claude-sonnet-4-20250514-v1:0")
    assert "arn:aws:bedrock:::foundation-model/anthropic.claude-sonnet-4-20250514-v1:0" in [
        model["modelArn"] for model in profile["models"]
    ]


def test_an_application_profile_copies_what_it_is_made_from(control):
    created = control.create_inference_profile(
        inferenceProfileName="billing",
        modelSource={"copyFrom": f"{PROFILE}us.{PRO}"},
        tags=[{"key": "team", "value": "search"}],
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    arn = created["inferenceProfileArn"]
    profile = control.get_inference_profile(inferenceProfileIdentifier=arn)
    assert (profile["type"], profile["inferenceProfileName"]) == ("APPLICATION", "billing")
    assert len(profile["models"]) == 3
    listed = control.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"]
    assert [one["inferenceProfileArn"] for one in listed] == [arn]
    code, _ = refusal(
        control.create_inference_profile,
        inferenceProfileName="billing",
        modelSource={"copyFrom": f"{PROFILE}us.{PRO}"},
    )
    assert code == "ConflictException"
    control.delete_inference_profile(inferenceProfileIdentifier=arn)
    code, _ = refusal(control.get_inference_profile, inferenceProfileIdentifier=arn)
    assert code == "ResourceNotFoundException"


def test_system_profiles_cannot_be_deleted(control):
    code, _ = refusal(control.delete_inference_profile, inferenceProfileIdentifier=f"us.{LITE}")
    assert code == "ValidationException"
    code, _ = refusal(control.get_inference_profile, inferenceProfileIdentifier="us.nothing")
    assert code == "ResourceNotFoundException"


def test_profiles_are_filtered_and_paged(control, bedrock):
    bedrock.create_application_profile(name="one", copy_from=LITE)
    pages = control.get_paginator("list_inference_profiles").paginate(
        typeEquals="SYSTEM_DEFINED", PaginationConfig={"PageSize": 4}
    )
    summaries = [one for page in pages for one in page["inferenceProfileSummaries"]]
    assert len(summaries) > 8
    assert {one["type"] for one in summaries} == {"SYSTEM_DEFINED"}
    assert len(control.list_inference_profiles(maxResults=1000)["inferenceProfileSummaries"]) == len(summaries) + 1
    code, message = refusal(control.list_inference_profiles, typeEquals="MINE")
    assert (code, "enum value set" in message) == ("ValidationException", True)


def test_foundation_models_are_listed_by_provider_modality_and_inference_type(control):
    meta = control.list_foundation_models(byProvider="meta")["modelSummaries"]
    assert {one["providerName"] for one in meta} == {"Meta"}
    on_demand = control.list_foundation_models(byInferenceType="ON_DEMAND", byOutputModality="TEXT")
    ids = [one["modelId"] for one in on_demand["modelSummaries"]]
    assert HAIKU in ids
    assert "anthropic.claude-sonnet-4-20250514-v1:0" not in ids
    assert control.list_foundation_models(byOutputModality="IMAGE")["modelSummaries"] == []


def test_one_foundation_model_is_found_by_id_and_arn(control):
    by_id = control.get_foundation_model(modelIdentifier=HAIKU)["modelDetails"]
    assert by_id["modelArn"] == MODEL + HAIKU
    assert control.get_foundation_model(modelIdentifier=MODEL + HAIKU)["modelDetails"] == by_id
    code, _ = refusal(control.get_foundation_model, modelIdentifier="amazon.unknown-v1:0")
    assert code == "ResourceNotFoundException"


def test_hosted_models_name_their_base_model(control, bedrock):
    provisioned = bedrock.add_provisioned_model(PRO)
    throughput = control.get_provisioned_model_throughput(provisionedModelId=provisioned)
    assert throughput["foundationModelArn"] == MODEL + PRO
    deployment = bedrock.add_custom_model_deployment(PRO)
    deployed = control.get_custom_model_deployment(customModelDeploymentIdentifier=deployment)
    custom = control.get_custom_model(modelIdentifier=deployed["modelArn"])
    assert custom["baseModelArn"] == MODEL + PRO
    imported = control.get_imported_model(modelIdentifier=bedrock.add_imported_model("mine", architecture="llama3"))
    assert imported["modelArchitecture"] == "llama3"
    code, _ = refusal(
        control.get_imported_model,
        modelIdentifier="arn:aws:bedrock:us-east-1:123456789012:imported-model/aaaaaaaaaaaa",
    )
    assert code == "ResourceNotFoundException"


def test_a_managed_prompt_gives_its_template_and_model(bedrock):
    agent = bedrock.client("bedrock-agent")
    draft = bedrock.add_prompt("greeting", "Say hello to {{name}} in {{language}}.", LITE)
    version = bedrock.add_prompt("greeting", "Say hi to {{name}}.", PRO, version="1")
    prompt = agent.get_prompt(promptIdentifier=draft, promptVersion="1")
    assert prompt["arn"] == version
    assert prompt["variants"][0]["modelId"] == PRO
    template = prompt["variants"][0]["templateConfiguration"]["text"]
    assert template == {"text": "Say hi to {{name}}.", "inputVariables": [{"name": "name"}]}
    assert "variants" not in agent.get_prompt(promptIdentifier=version, includedData="METADATA_ONLY")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        agent.get_prompt(promptIdentifier="AAAAAAAAAA")


def test_answers_fit_the_service_model(control, bedrock):
    arn = bedrock.create_prompt_router(name="r", models=[LITE, PRO], fallback=PRO)
    assert_fits_service_model(control, "ListPromptRouters", control.list_prompt_routers())
    assert_fits_service_model(control, "GetPromptRouter", control.get_prompt_router(promptRouterArn=arn))
    profiles = control.list_inference_profiles()
    assert_fits_service_model(control, "ListInferenceProfiles", profiles)
    assert_fits_service_model(control, "ListFoundationModels", control.list_foundation_models())


def test_shortcuts_check_what_the_api_checks(bedrock):
    with pytest.raises(Exception, match="multiple of 5"):
        bedrock.create_prompt_router(name="r", models=[LITE, PRO], fallback=PRO, response_quality_difference=7)
    with pytest.raises(ValueError, match="knows no model"):
        bedrock.create_application_profile(name="p", copy_from="amazon.unknown-v1:0")
