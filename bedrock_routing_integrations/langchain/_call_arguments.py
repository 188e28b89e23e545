"""Check the arguments of a call, and of a constructor, and prepare them for langchain-aws.

langchain-aws raises a ``TypeError`` about a function of its own for an argument of a call that it does not know, and
puts one of a constructor into the fields that the model is sent. Both are refused here by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough, RunnableSequence
from langchain_core.runnables.config import ensure_config
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, RootModel

from bedrock_routing_integrations.caching import CachePolicy, policy_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import ROOT, object_schema
from bedrock_routing_integrations.requests.preparation import NEUTRAL_VALUES, is_neutral, without_neutral
from bedrock_routing_integrations.requests.tool_choice import converse_tool_choice, is_thinking, settle_tool_choice
from bedrock_routing_integrations.stop_reasons import CUT_OFF, NEVER_COMPLETE
from bedrock_routing_integrations.targets import TargetKind

from ._answer_blocks import opaque

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig

    from bedrock_routing_integrations.models.candidates import ResolvedTarget


# --- Tools and tool choices of LangChain's calls as Converse has them. ---

_MOST_UNIONS = 16
# Keywords of JSON Schema that hold a schema, several by name, or several in a list. What the others hold is data.
_SCHEMA = frozenset([
    "items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
])  # fmt: skip
_NAMED_SCHEMAS = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_LISTED_SCHEMAS = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])


def tool_specs(tools: Sequence[Any]) -> list[Any]:
    """Return tools as Converse has them: ``toolSpec``, ``systemTool`` and ``cachePoint``.

    Args:
        tools: Tools in any form that langchain-aws takes; not changed.

    Returns:
        The tools, with schemas whose root is an object: the arguments of LangChain's tool calls are dictionaries.
    """
    specs = [_tool_spec(tool) for tool in tools]
    if sum(_unions(spec) for spec in specs) <= _MOST_UNIONS:
        return specs
    return [_without_null(spec) for spec in specs]


def _tool_spec(tool: Any) -> Any:
    if isinstance(tool, str):  # the name of a system tool, as `bind_tools` takes it
        return {"systemTool": {"name": tool}}
    if hasattr(tool, "to_bedrock_format"):  # langchain-aws's NovaSystemTool
        return tool.to_bedrock_format()
    if isinstance(tool, Mapping) and ("cachePoint" in tool or "systemTool" in tool):
        return tool
    if isinstance(tool, Mapping) and "toolSpec" in tool:
        spec = dict(tool["toolSpec"])
        schema = (spec.get("inputSchema") or {}).get("json")
    else:
        function = convert_to_openai_tool(tool)["function"]
        spec = {name: value for name, value in function.items() if name != "parameters"}
        schema = function.get("parameters") or {"type": "object", "properties": {}}
    if schema is not None:
        spec["inputSchema"] = {"json": object_schema(schema)[0]}
    return {"toolSpec": spec}


def _unions(value: Any) -> int:
    """Return how many parameters of several types a schema has."""
    if isinstance(value, list):
        return sum(_unions(each) for each in value)
    if not isinstance(value, dict):
        return 0
    is_union = isinstance(value.get("anyOf"), list) or isinstance(value.get("type"), list)
    return is_union + sum(_unions(each) for each in value.values())


def _without_null(spec: Any) -> Any:
    if "toolSpec" not in spec or "inputSchema" not in spec["toolSpec"]:
        return spec
    schema = without_null(spec["toolSpec"]["inputSchema"]["json"])
    return {**spec, "toolSpec": {**spec["toolSpec"], "inputSchema": {"json": schema}}}


def without_null(schema: Any) -> Any:
    """Return a JSON schema without ``null`` among alternatives.

    langchain-aws takes it out of all schemas, as Claude takes no more than 16 parameters of several types in a request.
    With fewer the schema stays as the user wrote it (recorded: Nova 2 takes ``anyOf`` with null). With more, an
    optional parameter need not be null: the model leaves it out.
    """
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "anyOf" and isinstance(value, list):
            others = [without_null(each) for each in value if not _is_null(each)]
            if len(others) == 1 and isinstance(others[0], dict):
                result.update(others[0])
            else:
                result[name] = others or value
        elif name == "type" and isinstance(value, list):
            kinds = [kind for kind in value if kind != "null"]
            result[name] = kinds[0] if len(kinds) == 1 else kinds or value
        elif name in _NAMED_SCHEMAS and isinstance(value, dict):
            result[name] = {key: without_null(each) for key, each in value.items()}
        elif name in _LISTED_SCHEMAS and isinstance(value, list):
            result[name] = [without_null(each) for each in value]
        else:
            result[name] = without_null(value) if name in _SCHEMA else value
    return result


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def with_choice(bound: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that langchain-aws bound with tools, with a tool choice."""
    config = bound.get("toolConfig")
    if config is not None:
        return {**bound, "toolConfig": {**config, "toolChoice": choice}}
    return {**bound, "tool_choice": choice}


# Arguments of a call → the name by which langchain-aws takes them: its own and Converse's are taken.
NAMES = {
    "stop": "stop", "stop_sequences": "stop_sequences", "max_tokens": "max_tokens", "temperature": "temperature",
    "top_p": "top_p", "tools": "tools", "tool_choice": "tool_choice", "inference_config": "inference_config",
    "tool_config": "toolConfig", "additional_model_request_fields": "additional_model_request_fields",
    "additional_model_response_field_paths": "additional_model_response_field_paths",
    "guardrail_config": "guardrail_config", "performance_config": "performance_config", "service_tier": "service_tier",
    "request_metadata": "request_metadata", "output_config": "output_config", "response_format": "response_format",
    "reasoning_effort": "reasoning_effort", "cache_control": "cache_control", "stream": "stream",
    "disable_streaming": "disable_streaming", "project_identifier": "project_identifier",
    "guardrails": "guardrail_config",
    "stopSequences": "stop_sequences", "maxTokens": "max_tokens", "topP": "top_p", "toolChoice": "tool_choice",
    "inferenceConfig": "inference_config", "toolConfig": "toolConfig",
    "additionalModelRequestFields": "additional_model_request_fields",
    "additionalModelResponseFieldPaths": "additional_model_response_field_paths",
    "guardrailConfig": "guardrail_config", "performanceConfig": "performance_config", "serviceTier": "service_tier",
    "requestMetadata": "request_metadata", "outputConfig": "output_config", "projectIdentifier": "project_identifier",
}  # fmt: skip


def checked_call(call: Mapping[str, Any], ours: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a call by the names of langchain-aws, without those that ask for nothing.

    Args:
        call: The arguments.
        ours: Names that are handed from one part of this package to another.

    Raises:
        InvalidRequestError: An argument that a call does not take.
    """
    checked: dict[str, Any] = {}
    for name, value in call.items():
        if name in ours:
            checked[name] = value
        elif value is None:
            continue
        elif name in NAMES:
            if name not in NEUTRAL_VALUES or not is_neutral(name, value):
                checked[NAMES[name]] = value
        elif not is_neutral(name, value):
            raise InvalidRequestError(_unknown_argument(name, value))
    return checked


def _unknown_argument(name: str, value: Any) -> str:
    if name == "n":
        return f"n={value!r} is not valid: Bedrock gives one answer to a request. Call batch with as many prompts."
    known = [each for each in NAMES if "_" in each or each.islower()]
    return f"{name} is not an argument of a call. {_advice(name, value, known)}"


def known_arguments(model: type[BaseModel]) -> set[str]:
    """Return what the constructor of a chat model takes."""
    aliases = [field.alias for field in model.model_fields.values() if field.alias]
    return {*model.model_fields, *aliases, "model_kwargs"}


def checked_constructor(class_name: str, values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the arguments of a constructor, without those that are no field and ask for nothing.

    Raises:
        InvalidRequestError: One is no field, and asks for something.
    """
    checked = without_neutral(values, known)
    for name, value in checked.items():
        if name not in known:
            raise InvalidRequestError(f"{class_name} has no argument {name}. {_advice(name, value, sorted(known))}")
    return checked


def _advice(name: str, value: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    shown = repr(value) if isinstance(value, (int, float, bool)) else "…"
    return (f"Did you mean {near[0]}? " if near else "") + (
        f"A field of the model's own belongs into additional_model_request_fields={{{name!r}: {shown}}}."
    )


def converse_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with the user's data kept from renaming, and tools as Converse has them."""
    prepared = dict(call)
    if "request_metadata" in call:
        prepared["request_metadata"] = opaque(call["request_metadata"])
    if call.get("additional_model_request_fields"):
        prepared["additional_model_request_fields"] = opaque_fields(call["additional_model_request_fields"])
    config = call.get("toolConfig")
    if call.get("tools"):
        specs = tool_specs(call["tools"])
        if config is None and any("systemTool" in spec for spec in specs):  # langchain-aws takes those there only
            del prepared["tools"]
            config = {"tools": specs, "toolChoice": prepared.pop("tool_choice", None)}
        else:
            prepared["tools"] = specs
    if config:
        choice = converse_tool_choice(config.get("toolChoice"))
        rest = {name: value for name, value in config.items() if name not in ("tools", "toolChoice")}
        # A list of its own: langchain-aws appends cache points to it.
        prepared["toolConfig"] = {**rest, "tools": tool_specs(config.get("tools") or ())}
        if choice:
            prepared["toolConfig"]["toolChoice"] = choice
    return prepared


def opaque_fields(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return additional model request fields of which langchain-aws drops nothing.

    It looks into ``reasoningConfig`` itself.
    """
    if not fields:
        return None
    return {name: value if name == "reasoningConfig" else opaque(value) for name, value in fields.items()}


# --- What is done to the arguments of a call before langchain-aws sees them. ---

# Says, between `bind_tools` and the call, that a forced tool choice was our idea and may be given up.
PREFERRED = "tool_choice_preferred"
_MODEL_NAMES = ("model", "model_id", "modelId")


def split_model(call: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The target that a call names, by any of its spellings, and the call without it.

    Raises:
        InvalidRequestError: The call says what is said when a chat model is made.
    """
    for name in ("cache", "cache_policy"):
        if name in call:
            raise InvalidRequestError(
                f"{name} is set where the chat model is made, ChatBedrockRouter(model=…, cache=…), and not in a call."
            )
    named = [call[name] for name in _MODEL_NAMES if call.get(name)]
    return (named[0] if named else None), {name: value for name, value in call.items() if name not in _MODEL_NAMES}


def check_kind(resolved: ResolvedTarget) -> None:
    """Refuse what a chat model cannot call.

    Raises:
        InvalidRequestError: A managed prompt: Converse takes it with ``promptVariables``, and without ``system``,
            ``inferenceConfig`` and tools, which a chat model always sends.
    """
    if resolved.target.kind is TargetKind.PROMPT:
        raise InvalidRequestError(
            f"{resolved.target} is a managed prompt, which takes promptVariables and refuses what a chat model sends. "
            "Call it with RoutedClient(boto3.client('bedrock-runtime')).converse(modelId=…, promptVariables={…})."
        )


def with_settled_choice(
    call: dict[str, Any], supported: Sequence[str], constructed: Mapping[str, Any] | None, resolved: ResolvedTarget
) -> dict[str, Any]:
    """The call with a tool choice that all models of the target take.

    Args:
        call: The call's arguments; not changed.
        supported: The kinds of choice that all models take.
        constructed: The model request fields that the chat model was constructed with; the call's own come on top.
        resolved: The target.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced.
    """
    asked = call.get("tool_choice")
    choice = converse_tool_choice(asked)
    kind = next(iter(choice), None) if choice else None
    if choice is None or kind is None or not call.get("tools"):
        return {name: value for name, value in call.items() if name != "tool_choice"}
    if kind == "none":
        return {**call, "tool_choice": choice}
    settled = settle_tool_choice(
        kind,
        asked,
        supported,
        resolved,
        preferred=bool(call.get(PREFERRED)),
        thinking=is_thinking({**(constructed or {}), **(call.get("additional_model_request_fields") or {})}),
    )
    settled_choice = choice if settled == kind else {settled: {}} if settled else None
    return {**call, "tool_choice": settled_choice}


def with_cache_policy(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, with what `cache` says of cachePoints under the name of our own field.

    Raises:
        InvalidRequestError: It says nothing that we or LangChain know.
    """
    if is_policy(values.get("cache")):
        values = {**{name: v for name, v in values.items() if name != "cache"}, "cache_policy": values["cache"]}
    given = values.get("cache_policy", "auto")
    policy = policy_of(given)
    return {**values, "cache_policy": policy} if isinstance(given, dict) else values  # as `dumps` writes it


def is_policy(cache: Any) -> bool:
    """Whether `cache` is to say something of cachePoints. LangChain's own: a cache of responses, True, False, None."""
    return not isinstance(cache, (BaseCache, bool, type(None)))


def written_policy(cache: Any) -> Any:
    """A `cache_policy` as JSON has it."""
    return cache.as_dict() if isinstance(cache, CachePolicy) else cache


def with_concurrency(config: Any, max_concurrency: int) -> Any:
    """The config with our bound where nobody set one; LangChain's own is ``cpu_count + 4`` threads."""
    if config is not None and not isinstance(config, dict):
        return [with_concurrency(each, max_concurrency) for each in config]
    if ensure_config(config).get("max_concurrency") is not None:  # type: ignore[arg-type]  # a RunnableConfig is a dict
        return config
    return {**(config or {}), "max_concurrency": max_concurrency}


# --- Structured output whose schema is not of an object ---

# Where the known forms of a tool, other than a JSON schema itself, keep the schema.
_SCHEMA_MEMBERS = ("parameters", "input_schema")


def with_object_root(schema: Any) -> tuple[Any, bool]:
    """Return a schema, or a tool, as a dictionary whose root is an object, and whether it had to be wrapped.

    Args:
        schema: What LangChain takes as schema or tool; what is no dictionary is returned as it is.
    """
    if not isinstance(schema, Mapping) or "toolSpec" in schema:
        return schema, False
    if isinstance(schema.get("function"), Mapping):
        function, is_wrapped = with_object_root(schema["function"])
        return {**schema, "function": function}, is_wrapped
    for member in _SCHEMA_MEMBERS:
        if isinstance(schema.get(member), dict):
            inner, is_wrapped = object_schema(schema[member])
            return ({**schema, member: inner}, True) if is_wrapped else (schema, False)
    if "title" not in schema or "name" in schema:
        return schema, False
    head = {name: schema[name] for name in ("title", "description") if name in schema}
    root, is_wrapped = object_schema({name: value for name, value in schema.items() if name not in head})
    return ({**head, **root}, True) if is_wrapped else (schema, False)


def planned_schema(schema: Any, method: str) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the schema to ask for, and a function from the answer to the caller's value; None where they are equal."""
    if isinstance(schema, type) and issubclass(schema, RootModel) and method != "function_calling":
        # As a tool's arguments, pydantic takes the one property itself.
        described = {"title": schema.__name__, "description": schema.__doc__ or schema.__name__}
        wrapped, is_wrapped = with_object_root({**schema.model_json_schema(), **described})
        model: type[BaseModel] = schema
        return (wrapped, lambda value: model.model_validate(value[ROOT])) if is_wrapped else (schema, None)
    wrapped, is_wrapped = with_object_root(schema)
    return (wrapped, lambda value: value[ROOT]) if is_wrapped else (schema, None)


def taking_out(chain: Runnable[Any, Any], restore: Callable[[Any], Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a chain that gives the caller's value. A stream gives it once it is whole."""

    def value_of(parsed: Any) -> Any:
        return None if parsed is None else restore(parsed)

    def of_raw(answer: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**answer, "parsed": value_of(answer.get("parsed"))}
        except Exception as error:  # noqa: BLE001 - with include_raw=True no error of parsing is raised
            return {**answer, "parsed": None, "parsing_error": error}

    return chain | RunnableLambda(of_raw if include_raw else value_of)


class _WholeAnswer(RunnablePassthrough):  # type: ignore[type-arg]  # of messages
    """Hands messages on; raises at the end of a stream whose answer was cut off.

    LangChain's parsers complete what has arrived of an object: without the error the half of one looks finished.
    """

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002 - its name
        """Hand the chunks on."""
        reason = None
        for chunk in input:
            reason = _stop_reason(chunk) or reason
            yield chunk
        _check_whole(reason)

    async def atransform(
        self,
        input: AsyncIterator[Any],  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Hand the chunks on."""
        reason = None
        async for chunk in input:
            reason = _stop_reason(chunk) or reason
            yield chunk
        _check_whole(reason)


def _stop_reason(chunk: Any) -> str | None:
    reason = (getattr(chunk, "response_metadata", None) or {}).get("stopReason")
    return reason if isinstance(reason, str) else None


def _check_whole(reason: str | None) -> None:
    if reason in NEVER_COMPLETE:
        raise OutputParserException(
            f"The object is not complete (stop reason {reason}): {CUT_OFF[reason]} What was yielded is a part of it."
        )


def checked_to_its_end(chain: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a chain of a model and a parser whose streams raise where the answer was cut off."""
    if not isinstance(chain, RunnableSequence) or len(chain.steps) < 2:
        return chain
    *before, parser = chain.steps
    return RunnableSequence(*before, _WholeAnswer(), parser)
