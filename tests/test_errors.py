"""Test the error classes, their messages, public names, and imports without extras."""

from __future__ import annotations

import copy
import importlib.resources
import inspect
import pickle
import subprocess
import sys
import textwrap

import pytest

import bedrock_routing_integrations as package
from bedrock_routing_integrations import BedrockRoutingError, RoutedClient, errors, parse_target
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import (
    InvalidRequestError,
    InvalidTargetError,
    MissingRegionError,
    SessionExpiredError,
    StreamInterruptedError,
    ToolCallError,
)

ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
PARTIAL = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "Half an "},
                {"toolUse": {"toolUseId": "t1", "name": "look", "input": '{"a": '}},
                {"text": "ans"},
            ],
        }
    }
}


# The tree


def all_errors():
    return [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, BaseException)]


def test_everything_that_we_raise_is_caught_by_one_name():
    assert {error.__name__ for error in all_errors()} >= {
        "BedrockRoutingError", "InvalidTargetError", "InvalidRequestError", "MissingRegionError",
        "SessionExpiredError", "StreamInterruptedError", "ToolCallError",
    }  # fmt: skip
    assert all(issubclass(error, BedrockRoutingError) for error in all_errors())


@pytest.mark.parametrize("error", all_errors())
def test_no_error_is_a_value_error_which_pydantic_would_wrap(error):
    assert error.__doc__
    if error is ToolCallError:  # no constructor raises it, and LlamaIndex recovers from a ValueError
        assert issubclass(error, ValueError)
        return
    assert not issubclass(error, (ValueError, AssertionError, TypeError))


def test_the_tree_in_the_docstring_is_the_tree():
    for error in all_errors():
        assert error.__name__ in errors.__doc__


def test_code_that_expects_a_connection_error_catches_an_interrupted_stream():
    assert issubclass(StreamInterruptedError, ConnectionError)


# A session that is over


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_expired_session_keeps_its_id_in_another_process(copied):
    error = copied(SessionExpiredError("It is over.", session_id="s-1"))
    assert type(error) is SessionExpiredError
    assert (str(error), error.session_id) == ("It is over.", "s-1")


# An interrupted stream


def interrupted():
    return StreamInterruptedError("It broke off.", partial=PARTIAL)


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_interrupted_stream_keeps_what_had_arrived_in_another_process(copied):
    error = copied(interrupted())
    assert type(error) is StreamInterruptedError
    assert (str(error), error.partial, error.text) == ("It broke off.", PARTIAL, "Half an ans")


@pytest.mark.parametrize("partial", [{}, {"output": {}}, {"output": {"message": {"role": "assistant", "content": []}}}])
def test_nothing_had_arrived_is_an_empty_text(partial):
    assert StreamInterruptedError("x", partial=partial).text == ""


@pytest.mark.parametrize("error", [InvalidTargetError, InvalidRequestError, MissingRegionError, ToolCallError])
def test_errors_cross_a_process(error):
    assert str(pickle.loads(pickle.dumps(error("what to do")))) == "what to do"


# Messages give advice


def test_a_missing_region_names_every_way_to_give_one():
    with pytest.raises(MissingRegionError) as missing:
        Connection().region_for(parse_target("us.amazon.nova-lite-v1:0"))
    for way in ("region_name=", "ARN", "AWS_REGION", "configuration file"):
        assert way in str(missing.value)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"access_key_id": "AKIAEXAMPLE"}, "aws_secret_access_key"),
        ({"secret_access_key": "SECRET"}, "aws_access_key_id"),
        ({"session_token": "TOKEN"}, "aws_access_key_id"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": -3}, "-3"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once_by_name(arguments, names):
    with pytest.raises(InvalidRequestError) as refused:
        Connection(**arguments)
    assert names in str(refused.value)
    assert "AKIAEXAMPLE" not in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_a_wrong_target_is_refused_before_anything_is_sent():
    client = RoutedClient(Connection(region_name="us-east-1", endpoint_url="http://127.0.0.1:9"))
    for call in (client.converse, client.converse_stream):
        with pytest.raises(InvalidTargetError, match="prompt-router"):
            call(modelId=ROUTER.replace("default-prompt-router", "promptrouter"), messages=[])


def test_chat_model_constructor_raises_our_error_not_pydantics():
    from bedrock_routing_integrations.langchain import ChatBedrockRouter

    with pytest.raises(InvalidTargetError, match="did you mean 'prompt-router'"):
        ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:promptrouter/x")
    with pytest.raises(InvalidRequestError, match="model="):
        ChatBedrockRouter()


def test_llama_index_constructor_raises_our_error_not_pydantics():
    from bedrock_routing_integrations.llama_index import BedrockRouter

    with pytest.raises(InvalidTargetError, match="did you mean 'prompt-router'"):
        BedrockRouter("arn:aws:bedrock:us-east-1:123456789012:promptrouter/x")
    with pytest.raises(InvalidRequestError, match="model="):
        BedrockRouter()
    with pytest.raises(InvalidRequestError, match="did you mean 'temperature'"):
        BedrockRouter("us.amazon.nova-lite-v1:0", temprature=0.5)


# Names

PUBLIC = [
    "BedrockRoutingError", "CachePolicy", "Invocation", "RoutedClient", "RoutingReport", "Target", "TargetKind",
    "parse_target", "plan_cache_points",
]  # fmt: skip
LANGCHAIN = [
    "BedrockRouterLLM", "ChatBedrockRouter", "KnowledgeBaseChain", "KnowledgeBaseRetriever", "RoutingCallbackHandler",
]  # fmt: skip
LLAMA_INDEX = [
    "BedrockRouter", "KnowledgeBaseQueryEngine", "KnowledgeBaseRetriever", "ModelCallFailedEvent", "ModelRoutedEvent",
    "RoutingEventHandler",
]  # fmt: skip
EMULATOR = ["BedrockEmulator"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("bedrock_routing_integrations", PUBLIC),
        ("bedrock_routing_integrations.langchain", LANGCHAIN),
        ("bedrock_routing_integrations.llama_index", LLAMA_INDEX),
        ("bedrock_routing_integrations.emulator", EMULATOR),
    ],
)
def test_these_names_and_no_others_are_public(module, names):
    module = importlib.import_module(module)
    assert sorted(module.__all__) == names
    assert set(names) <= set(dir(module))
    for name in names:
        value = getattr(module, name)
        assert value is getattr(module, name)
        assert value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        module.Nonsense  # noqa: B018
    namespace = {}
    exec(f"from {module.__name__} import *", namespace)
    assert set(names) <= set(namespace)


def test_package_is_marked_as_typed():
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


# Imports

FOREIGN = [
    "boto3",
    "botocore",
    "langchain",
    "langchain_core",
    "langchain_aws",
    "langchain_classic",
    "llama_index",
    "llama_index_instrumentation",
    "aiobotocore",
    "aiohttp",
    "typer",
    "rich",
    "pydantic",
    "genai_prices",
    "opentelemetry",
    "numpy",
]


def python(code, *arguments):
    """Run code in a fresh interpreter; warnings are errors there too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "statement",
    [
        "import bedrock_routing_integrations",
        "import bedrock_routing_integrations.langchain",
        "import bedrock_routing_integrations.llama_index",
        "import bedrock_routing_integrations.emulator",
        "from bedrock_routing_integrations import parse_target; parse_target('us.amazon.nova-lite-v1:0')",
        "from bedrock_routing_integrations import BedrockRoutingError, Invocation, RoutedClient, Target, TargetKind",
        "from bedrock_routing_integrations import CachePolicy; CachePolicy(ttl='1h')",
        "from bedrock_routing_integrations import plan_cache_points as plan; plan({'modelId': 'a.b', 'messages': []})",
        "from bedrock_routing_integrations.connections import Connection; Connection(region_name='us-east-1')",
        "import bedrock_routing_integrations.models, bedrock_routing_integrations.transport.threads",
        "from bedrock_routing_integrations.knowledge_base import where; where('year') > 2020",
        "from bedrock_routing_integrations.client import KnowledgeBaseClient",
        "dir(__import__('bedrock_routing_integrations'))",
    ],
)
def test_an_import_loads_neither_boto3_nor_a_framework(statement):
    loaded = python(f"""
        {statement}
        import sys
        print(*{{name.partition('.')[0] for name in sys.modules}} & set({FOREIGN!r}))
    """)
    assert loaded.split() == []


def test_the_pytest_plugin_loads_nothing_into_a_users_test_run():
    loaded = python(f"""
        import bedrock_routing_integrations.emulator.pytest_plugin
        import sys
        print(*{{name.partition('.')[0] for name in sys.modules}} & set({FOREIGN!r}))
    """)
    assert loaded.split() == []


HIDE = """
    import sys

    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {hidden!r}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Hide())
    try:
        {statement}
    except ImportError as error:
        print(error)
"""


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("hidden", "statement", "extra"),
    [
        (["langchain_aws"], "from bedrock_routing_integrations.langchain import ChatBedrockRouter", "langchain"),
        (["langchain_aws"], "from bedrock_routing_integrations.langchain import BedrockRouterLLM", "langchain"),
        (
            ["langchain_aws", "langchain_core"],
            "from bedrock_routing_integrations.langchain import BedrockRouterLLM",
            "langchain",
        ),
        (["llama_index"], "from bedrock_routing_integrations.llama_index import BedrockRouter", "llama-index"),
        (["llama_index"], "from bedrock_routing_integrations.llama_index import ModelRoutedEvent", "llama-index"),
        (["aiohttp"], "from bedrock_routing_integrations.emulator import BedrockEmulator", "emulator"),
    ],
)
def test_missing_extra_is_named_with_its_install_command(hidden, statement, extra):
    output = python(HIDE.format(hidden=hidden, statement=statement))
    assert f'pip install "bedrock-routing-integrations[{extra}]"' in output


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "statement",
    [
        "from bedrock_routing_integrations.langchain import ChatBedrockRouter",
        "from bedrock_routing_integrations.llama_index import BedrockRouter; BedrockRouter('x.y').complete('z')",
    ],
)
def test_framework_import_error_is_not_a_missing_extra(statement):
    output = python(HIDE.format(hidden=["botocore"], statement=statement))
    assert "botocore" in output
    assert "pip install" not in output


def test_the_core_works_where_no_framework_is_installed():
    hidden = ["langchain_aws", "langchain_core", "llama_index", "aiohttp", "typer", "rich", "aiobotocore"]
    output = python(
        HIDE.format(
            hidden=hidden,
            statement="import bedrock_routing_integrations as b; "
            "print(b.RoutedClient(__import__('boto3').client('bedrock-runtime', 'us-east-1')))",
        )
    )
    assert output.startswith("<RoutedClient")
