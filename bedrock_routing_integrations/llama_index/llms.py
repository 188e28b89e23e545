"""`BedrockRouter`: LlamaIndex's LLM for any Bedrock target, saying which model answered.

It is built on llama-index-core alone. Whoever comes from ``llama_index.llms.bedrock_converse.BedrockConverse`` (0.15)
changes the import, and the model if they like. What is different:

- **Any target** is a model: prompt routers, application profiles, provisioned, custom and imported models, managed
  prompts. `metadata` never raises; for a router the context window is the smallest of its models'.
- **Nothing is sent that was not asked for**: no temperature of 0.1, no limit of 512 tokens, unless you set them. What
  you set is sent: BedrockConverse drops `temperature` and `thinking` for models that it believes not to take them.
- **What happened** is in ``response.additional_kwargs["routing"]``, on a stream's last chunk, and in an event,
  `ModelRoutedEvent`. ``response.raw`` is Bedrock's response, bytes as base64; LlamaIndex's token counts are added.
- ``prompt_tokens`` counts the whole prompt, cached tokens too, so that prompt and completion make the total; and
  LlamaIndex's ``TokenCountingHandler`` counts what Bedrock counted, once per call.
- **Prompts are cached where that is expected to save money** (`cache`). Your cachePoints are kept, and repaired where
  Bedrock would refuse them; `tool_caching` places one in every kind of call, for any model that takes it.
- **A stream that breaks off raises** `StreamInterruptedError`; BedrockConverse returns it as if it were complete. Its
  last chunk has all that `chat` would have returned. Chunks copy nothing that came before.
- **Structured output** forces its tool where the models can be forced, else takes the object as JSON text too. A stream
  yields the object as it grows, and raises where it was cut off.
- **URLs of images, documents, videos and sounds are never fetched**: pass bytes, ``data:`` or ``s3://``.
- **A guardrail without its version raises**; BedrockConverse sends the request without the guardrail.
- **Your lists and blocks stay as they are.** A block that Bedrock cannot take raises, naming it. What has one obvious
  reading is mended (`messages` says what); cachePoints and thinking that the models would refuse are left out.
- ``stream_chat_with_tools`` heeds ``allow_parallel_tool_calls=False`` as ``chat_with_tools`` does.
- **Retries are boto3's** and one layer: `max_retries` is passed to it. It and `timeout` are boto3's own where they are
  not set (BedrockConverse: 10 in two layers, and 60 seconds).
- **Asynchronous calls** need no further package, and up to `max_concurrency` run at once. There is no `async_client`,
  and no `api_version`. Arguments but `model` are given by name.
- **Secrets** are in no ``repr``, dictionary, pickle or event. Objects with equal connections share one boto3 client.
- Errors about a tool call are `ToolCallError`, which is a ValueError too. A message's `additional_kwargs` has
  ``tool_calls`` and not ``tool_call_id`` and ``status``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.generic_utils import prompt_to_messages
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS

from bedrock_routing_integrations.catalog import common_facts
from bedrock_routing_integrations.client import CallOptions
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.logs import warn_once
from bedrock_routing_integrations.threads import iterate_in_thread, run_in_thread

from ._answers import read_response
from ._instrumentation import CHAT, COMPLETION, Call, Kind
from ._outer import outer_of_call
from ._requests import ONE_TOOL_CALL, OPTIONS, STRUCTURED, Internal, build_request, check_options, wants_output_format
from ._streams import read_stream
from ._structured import StructuredOutput
from ._structured_objects import output_class, output_format
from ._tools import selections, tool_config, wrapped_tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Sequence

    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
    )
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.tools.types import BaseTool
    from typing_extensions import Self

    from bedrock_routing_integrations.catalog import ModelFacts
    from bedrock_routing_integrations.client import ClientForCall, RoutedClient
    from bedrock_routing_integrations.resolution import ResolvedTarget


class BedrockRouter(StructuredOutput):
    """An LLM on any Bedrock target: prompt routers, inference profiles, models of every kind, managed prompts.

    Nothing is sent, and no boto3 client is made, when it is constructed. The target is looked up at the first call, or
    where `metadata` is first asked for and only a look-up can tell.

    What is said to the models can also be given to a call, by the same name: ``llm.chat(messages, temperature=0)``;
    so can members of Converse's request by AWS's names, and ``model``.

    Args:
        model: What to call; see `parse_target` for the forms.
        base_models: The base models that `model` can use. Given, the target is not looked up (needs no IAM permission).
            The ids of profiles (``us.…``, ``global.…``) tell which price holds, where geographies differ in it.
        context_window: Tokens, where it is not to be what is known of the models. Of what is not known, LlamaIndex's
            cautious default is used, and a warning says so.
        temperature: 0 to 1. As with `top_p`, `max_tokens` (tokens of the answer) and `stop_sequences`: where it is not
            given it is not sent, and the model's own default holds.
        system_prompt: For LlamaIndex's prompts (``predict``, query engines), as with every LLM; `chat` does not add it.
        performance_config: ``{"latency": "optimized"}``.
        service_tier: ``"priority"``, ``"default"``, ``"flex"`` or ``"reserved"``.
        thinking: As Claude takes it: ``{"type": "enabled", "budget_tokens": 2048}``.
        additional_model_request_fields: What else the model itself takes.
        additional_model_response_field_paths: JSON pointers into the model's own response.
        prompt_variables: Name → value, for a managed prompt.
        request_metadata: Name → value, for AWS's invocation logs.
        project_identifier: The Bedrock project that the calls belong to (botocore ≥ 1.44).
        guardrail_identifier: A guardrail, with its `guardrail_version`.
        guardrail_stream_processing_mode: ``"sync"`` or ``"async"``, for streams.
        trace: ``"enabled"``, ``"enabled_full"`` or ``"disabled"``, of the guardrail.
        cache: ``"auto"``: requests get the cachePoints that are expected to save money; ``"off"``: none but your own;
            or a `CachePolicy`. What came of it: ``additional_kwargs["routing"]["cache_points"]``.
        prices: Model, profile or ARN → US dollars per million tokens, where they are not genai-prices': see
            ``bedrock_routing_integrations.pricing.Prices``.
        telemetry: What OpenTelemetry is told: ``"auto"``, ``"always"``, ``"off"`` or a `Telemetry`, as `RoutedClient`.
        system_prompt_caching: Put a cachePoint behind the system messages in any case, where the models take it.
        tool_caching: Put a cachePoint behind the tools in any case, where the models take it.
        supports_forced_tool_calls: Whether the models can be forced to call a tool; None for what the catalog knows.
        allow_local_files: Whether files that blocks name by `path` are read and sent, which is LlamaIndex's convention.
            Pass False where messages come from others. A `url` is never fetched, whichever the value.
        mid_conversation_system: Where later system messages go: see `RoutedClient`.
        additional_kwargs: More of the same, for every call: our names or AWS's.
        region_name: The Region; None for the target ARN's, else the one that boto3 finds.
        profile_name: A profile of the AWS configuration files.
        aws_access_key_id: Explicit credentials, with `aws_secret_access_key` and, for temporary ones,
            `aws_session_token`. Without them boto3 looks for credentials when a call is made.
        api_key: A Bedrock API key instead of credentials.
        default_headers: HTTP headers for each call of this object.
        endpoint_url: Another endpoint than AWS's own.
        timeout: Seconds to wait for a connection and for each read.
        max_retries: How many times boto3 tries again.
        max_concurrency: Asynchronous calls that run at once; also the size of the connection pool.
        botocore_config: A ``botocore.config.Config``, or its arguments as a dictionary.
        use_ssl: As boto3's.
        verify: As boto3's.
        client: A boto3 ``bedrock-runtime`` client or a `RoutedClient`, instead of all that says how AWS is reached.
        bedrock_client: A boto3 ``bedrock`` client for look-ups.
        botocore_session: A botocore or boto3 session to make clients from.
        application_inference_profile_arn: Taken for `model`, with what `model` says as its base model.

    Raises:
        InvalidTargetError: `model` is no target.
        InvalidRequestError: An argument that is unknown, or that contradicts another.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import BedrockRouter

        llm = BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        response = llm.complete("Describe the purpose of a 'hello world' program in one line.")
        response.additional_kwargs["routing"]["invoked_model"]  # "amazon.nova-lite-v1:0"
        ```
    """

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "BedrockRouter"

    # --- what is known of it ---

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model. Never raises.

        Of a router, or a profile that hides its model, only a look-up can tell: the first time in a process that
        somebody asks, it is made (and waited for, some 100 ms, in an event loop too). Give `base_models` to do without,
        or call `resolved` before.
        """
        facts, refused = self._known("recall")
        if self.context_window is None and facts.context_window is None:
            why = f" (the look-up failed: {refused})" if refused else ""
            warn_once(
                ("context window", self.model),
                f"How much {self.model} can read is not known{why}; LlamaIndex's {DEFAULT_CONTEXT_WINDOW:,} tokens are "
                "assumed. Pass context_window= (or base_models=) to say.",
            )
        return self._describe(facts)

    def to_payload(self) -> dict[str, Any]:
        """What events say of this object: `metadata`, as far as it is known without asking anybody."""
        return {
            "class_name": self.class_name(),
            "model": self.model,
            **self._describe(self._known("peek")[0]).model_dump(),
        }

    def _known(self, how: Literal["peek", "recall"]) -> tuple[ModelFacts, str | None]:
        """What is known of the models, and why that is not more. Of what is no target (any more), nothing."""
        try:
            known: ResolvedTarget = getattr(self._connected(), how)(self.model)
        except InvalidTargetError as error:
            return common_facts(()), str(error)
        return known.facts, known.refused

    def resolved(self) -> Self:
        """Ask now which models the target can use, so that `metadata` need not.

        Returns:
            The object itself. In an event loop: ``await asyncio.to_thread(llm.resolved)``.
        """
        self._connected().resolve(self.model)
        return self

    def _describe(self, facts: ModelFacts) -> LLMMetadata:
        window = self.context_window or facts.context_window or DEFAULT_CONTEXT_WINDOW
        # LlamaIndex keeps this much of the window free for the answer.
        answer = self.max_tokens or min(facts.max_output_tokens or DEFAULT_NUM_OUTPUTS, window // 2)
        return LLMMetadata(
            context_window=window,
            num_output=answer,
            is_chat_model=True,
            is_function_calling_model=facts.tools,
            model_name=self.model,
        )

    # --- the two ways to ask, for all that follow; they block ---

    def _prepare(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, stream: bool
    ) -> tuple[RoutedClient | ClientForCall, dict[str, Any], dict[str, Any]]:
        """Return the client, the request, and how its answer is read."""
        call, client = dict(kwargs), self._connected()
        model = call.pop("model", None) or self.model
        check_options(call, stream=stream, constructor=type(self).model_fields)
        resolved = client.resolve(model)
        mine = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        layers = (mine, self.additional_kwargs, call)
        request = build_request(messages, layers, resolved, local_files=self.allow_local_files)
        optional = wants_output_format(request, call, resolved)
        if optional:
            request["outputConfig"] = output_format(request["toolConfig"])
        wrapped = wrapped_tools(request.get("toolConfig"))
        reading = {"one_tool_call": bool(call.get(ONE_TOOL_CALL)), "wrapped": wrapped}
        options = CallOptions(outer_of_call(self), optional_output_format=optional)
        return client.for_call(options), request, reading

    def _ask(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> ChatResponse:
        client, request, reading = self._prepare(messages, call, stream=False)
        return read_response(client.converse(**request), **reading)

    def _open(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> Iterator[ChatResponse]:
        """Send, and return the chunks. What Bedrock refuses is raised here, not when somebody reads."""
        client, request, reading = self._prepare(messages, call, stream=True)
        return read_stream(client.converse_stream(**request)["stream"], **reading)

    # --- tokens ---

    def count_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """Return how many tokens a prompt has: messages, system messages and tools.

        Bedrock counts them where it does so for the target's models, elsewhere they are estimated; the estimates learn
        from what Bedrock counted in earlier answers (`RoutedClient.count_prompt_tokens`).

        Args:
            messages: The messages.
            tools: Tools that the call would have.
            **kwargs: What else it would have, as for `chat`.

        Raises:
            InvalidRequestError: Something that Bedrock, or this target, cannot take.
        """
        call = {"tools": tools, **kwargs} if tools else kwargs
        _, request, _ = self._prepare(messages, call, stream=False)
        return self._connected().count_prompt_tokens(**request)

    async def acount_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """`count_tokens`, asynchronously."""
        return await run_in_thread(self.max_concurrency, self.count_tokens, messages, tools, **kwargs)

    # --- LlamaIndex's methods ---

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask. See `BedrockRouter` for what a call takes.

        Raises:
            InvalidRequestError: Something that Bedrock, or this target, cannot take; nothing was sent.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        return self._whole(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronously."""
        return await self._awhole(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` in chunks; the last one has the tokens and ``"routing"``.

        Raises:
            StreamInterruptedError: While reading, where the stream breaks off.
        """
        return self._stream(CHAT, messages, messages, kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronously. Returns when the first chunk is here."""
        return await self._astream(CHAT, messages, messages, kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`chat` for a prompt."""
        return self._whole(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`complete`, asynchronously."""
        return await self._awhole(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`stream_chat` for a prompt."""
        return self._stream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronously."""
        return await self._astream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    def _whole(self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            return call.answered(self._ask(messages, kwargs))

    async def _awhole(self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            return call.answered(await run_in_thread(self.max_concurrency, self._ask, messages, kwargs))

    def _stream(
        self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> Generator[Any, None, None]:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            chunks = self._open(messages, kwargs)
        return call.reading(chunks)

    async def _astream(
        self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            chunks = iterate_in_thread(self.max_concurrency, lambda: self._open(messages, kwargs))
            first = await anext(chunks)
        return call.areading(first, chunks)

    # --- tools and structured output ---

    def _prepare_chat_with_tools(  # noqa: PLR0917 - LlamaIndex's signature
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        tool_required: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if isinstance(user_msg, str):
            user_msg = prompt_to_messages(user_msg)[0]
        messages = [*(chat_history or ()), *([user_msg] if user_msg is not None else ())]
        # Which choices the target takes is known when it is called: this runs in event loops, and may not look it up.
        wanted = {
            "tools": tool_config(tools),
            "tool_choice": tool_choice,
            "tool_required": tool_required,
            ONE_TOOL_CALL: None if allow_parallel_tool_calls else Internal.YES,
            # LlamaIndex's streams take no `tool_required`.
            STRUCTURED: None if output_class(tools) is None else Internal.YES,
        }
        return {"messages": messages, **{name: value for name, value in wanted.items() if value}, **kwargs}

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> list[ToolSelection]:
        """The tool calls in a response, or in a chunk as far as they had come.

        Raises:
            ToolCallError: There is none, unless `error_on_no_tool_call` is False; or the arguments of one are no JSON
                object, as when the answer was cut off by `max_tokens`.
        """
        return selections(response, error_on_no_tool_call=error_on_no_tool_call)


def _as_messages(prompt: str) -> list[ChatMessage]:
    if not isinstance(prompt, str):
        raise InvalidRequestError(
            f"prompt must be a str, and is a {type(prompt).__name__}; for messages there is chat()"
        )
    return prompt_to_messages(prompt)
