"""The table of model families: facts as data, each with its source and the date on which it was read.

`FAMILIES` hold for the versions that they name and no others: `anthropic.claude-opus-4` covers
`anthropic.claude-opus-4-20250514-v1:0` but not `anthropic.claude-opus-4-9`, as rules change between versions.
`NEWEST` is for what no family covers, a model released tomorrow: what the newest versions of the brand share,
and where those differ, what cannot go wrong: the smallest context window and the shortest answer of the brand's models
that take tools. Its rows have `known=False`. In both tables the longest match wins.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from bedrock_routing_integrations.model_ids import is_misspelled, is_unlisted_version
from bedrock_routing_integrations.targets import PROVIDERS, split_geography

from .facts import CacheRules, ModelFacts, combine, unknown_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import Reasoning

# Where the facts come from. A row names the one that settled what is particular about it.
CONVERSE = "AWS Bedrock user guide: Converse, supported models and model features"
CACHING = "AWS Bedrock user guide: prompt caching (and Converse, supported models)"
LATENCY = "AWS Bedrock user guide: latency-optimized inference (and Converse, supported models)"
CARDS = "langchain-aws 1.9.1 model profiles (AWS model cards)"
LAUNCH = "AWS model pages at launch (and Converse, supported models)"
EXTRAPOLATED = "newest versions of the family, not this one"
CHECKED = "2026-11-21"

# Sources of the facts that every row has, read on CHECKED too:
# `reasoning`: langchain-aws#1229 and the table of 1.9.1 (models tried live), earendil-works/pi#686, vercel/ai#7034,
# aws-samples/bedrock-chat#851 ("User messages cannot contain reasoning content", "This model doesn't support the
# reasoningContent.reasoningText.signature field"). Recordings show signed and redacted blocks taken by Claude 3.7 to 5.
# `text_format`: AWS Bedrock user guide, structured outputs (Claude 4.5 and 4.6, select open-weight models), and
# recordings of Converse: Claude 4.5 and 4.6, Gemma 3, GLM 4.7, MiniMax M2, Nemotron Nano.
# `count_tokens`: AWS Bedrock user guide, CountTokens (only Claude; not those that are offered through profiles alone),
# danilop/ttok4bedrock's list of models that work; Opus 5 and Sonnet 5 are refused (BerriAI/litellm#37102, 2026-08).
# `system_in_messages`: nobody has reported any model to take or to refuse the role in Converse. (Opus 4.8 takes it in
# InvokeModel's own format. Model cards list it for the newest Claudes; langchain-aws 1.9.1 removes it for Converse.)

AUTO = ("auto",)
AUTO_ANY = ("auto", "any")
ALL = ("auto", "any", "tool")


def _claude_cache(min_tokens: int, *ttls: str) -> CacheRules:
    """Return Claude's rules, which differ in the minimum and the ttls."""
    # Published prices: a write costs 1.25 for five minutes and 2.0 for an hour, a read 0.1 (the newest less).
    prices = {"5m": 1.25, "1h": 2.0}
    return CacheRules(
        min_tokens=min_tokens,
        max_tokens=None,
        ttls=ttls,
        fields=frozenset({"system", "messages", "tools"}),
        max_points=4,
        after_tool_result=True,
        after_media=True,  # recorded: Claude Sonnet 4.5 took one after an image
        # seen 2025 (boto3#4626): "cache_control: Extra inputs are not permitted"
        with_optimized_latency=False,
        read_multiplier=0.1,
        write_multipliers=tuple((ttl, prices[ttl]) for ttl in ttls),
    )


C512 = _claude_cache(512, "5m", "1h")
C1024 = _claude_cache(1_024, "5m", "1h")
C4096 = _claude_cache(4_096, "5m", "1h")
C1024_5M = _claude_cache(1_024, "5m")
C2048_5M = _claude_cache(2_048, "5m")
# For a Claude that the guide does not list: the largest minimum published so far, and only the five minutes
# that every caching model offers. Too large a minimum only misses a saving, and too small a one wastes one of
# four points, but an hour where none is offered is an error in the user's face.
C_UNLISTED = _claude_cache(4_096, "5m")

NOVA_CACHE = CacheRules(
    min_tokens=1_000,  # 1,024 for Micro and Lite in some sources, 1K for all in the guide
    max_tokens=20_000,
    ttls=("5m",),
    fields=frozenset({"system", "messages"}),
    max_points=4,
    after_tool_result=False,
    after_media=False,  # reported 2026: refused directly after an image, a video or a document
    with_optimized_latency=False,  # unconfirmed for Nova; False only delays a saving
    read_multiplier=0.25,
    write_multipliers=(("5m", 1.0),),
)


def _family(
    family: str,
    context: int | None,
    output: int | None,
    choice: tuple[str, ...] = AUTO,
    source: str = CARDS,
    *,
    stream_tools: bool = True,
    image: bool | None = None,
    cache: CacheRules | None = None,
    latency: bool = False,
    streaming: bool = True,
    reasoning: Reasoning | None = "none",
    text_format: bool | None = False,
    count_tokens: bool | None = False,
) -> ModelFacts:
    """Return one row. An empty `choice` means that the family has no tools."""
    return ModelFacts(
        family=family,
        provider=family.partition(".")[0],
        context_window=context,
        max_output_tokens=output,
        streaming=streaming,
        streaming_with_tools=streaming and stream_tools and bool(choice),
        tools=bool(choice),
        tool_choice=choice,
        latency_optimized=latency,
        image_input=image,
        cache=cache,
        reasoning=reasoning,
        text_format=text_format,
        system_in_messages=False,
        count_tokens=count_tokens,
        source=source,
        checked=CHECKED,
        known=True,
    )


def _claude(
    name: str,
    cache: CacheRules | None,
    context: int = 1_000_000,
    output: int = 128_000,
    choice: tuple[str, ...] = ALL,
    *,
    image: bool = True,
    latency: bool = False,
    count_tokens: bool | None = None,
) -> ModelFacts:
    # Claude signs its reasoning from 3.7 on, and takes a JSON schema from 4.5 on.
    thinks = not name.startswith(("3-5", "3-haiku", "3-sonnet", "3-opus", "v2", "instant"))
    first_claude_4 = name in ("3-7-sonnet", "opus-4", "opus-4-1", "sonnet-4")
    source = LATENCY if latency else CONVERSE if cache is None else CARDS if cache is C_UNLISTED else CACHING
    return _family(
        f"anthropic.claude-{name}",
        context,
        output,
        choice,
        source,
        image=image,
        cache=cache,
        latency=latency,
        reasoning="signed" if thinks else "none",
        text_format=thinks and not first_claude_4,
        count_tokens=count_tokens,
    )


_ANTHROPIC = (
    _claude("opus-5", C512, count_tokens=False),
    # Forced tool use is refused from here on (langchain-aws 1.9.1, forced_tool_choice_unsupported).
    _claude("opus-5-5", C512, choice=AUTO),
    _claude("sonnet-5-5", C512, choice=AUTO),
    _claude("fable-5-1", C512, choice=AUTO),
    # Mythos is the sibling of Fable; that it refuses forced tools too is inferred.
    _claude("mythos-5-1", C512, choice=AUTO),
    _claude("fable-5", C512),
    _claude("mythos-5", C512),
    _claude("haiku-5-5", C_UNLISTED),  # the guide's caching table does not list it
    _claude("opus-4-8", C1024),
    _claude("sonnet-5", C1024, count_tokens=False),
    # Sources disagree on Sonnet 4.6 and 4.5: 1,024 in the guide, 2,048 seen (anthropic-sdk-python#1194).
    _claude("sonnet-4-6", C1024, count_tokens=True),
    _claude("sonnet-4-5", C1024, 200_000, 64_000, count_tokens=True),
    _claude("opus-4-7", C4096),
    _claude("opus-4-6", C4096, count_tokens=True),
    _claude("opus-4-5", C4096, 200_000, 64_000, count_tokens=True),
    _claude("haiku-4-5", C4096, 200_000, 64_000, count_tokens=True),
    # The guide of 2025 listed the first Claude 4 models with 1,024; the newest no longer lists them.
    _claude("opus-4-1", C1024_5M, 200_000, 32_000, count_tokens=True),
    _claude("opus-4", C1024_5M, 200_000, 32_000, count_tokens=True),
    _claude("sonnet-4", C1024_5M, 200_000, 64_000, count_tokens=True),
    _claude("3-7-sonnet", C1024_5M, 200_000, 64_000, count_tokens=True),
    _claude("3-5-sonnet-20241022", C1024_5M, 200_000, 8_192, count_tokens=True),  # "3.5 Sonnet v2"
    _claude("3-5-sonnet", None, 200_000, 4_096, count_tokens=True),
    _claude("3-5-haiku", C2048_5M, 200_000, 8_192, image=False, latency=True, count_tokens=True),
    _claude("3-haiku", None, 200_000, 4_096, count_tokens=False),
    _claude("3-sonnet", None, 200_000, 4_096, count_tokens=False),
    _claude("3-opus", None, 200_000, 4_096, count_tokens=False),
    _claude("v2:1", None, 200_000, 4_096, (), image=False, count_tokens=False),
    _claude("v2", None, 100_000, 4_096, (), image=False, count_tokens=False),
    _claude("instant", None, 100_000, 4_096, (), image=False, count_tokens=False),
)

_AMAZON = (
    _family("amazon.nova-micro", 128_000, 10_000, ALL, CACHING, image=False, cache=NOVA_CACHE),
    _family("amazon.nova-lite", 300_000, 10_000, ALL, CACHING, image=True, cache=NOVA_CACHE),
    _family("amazon.nova-pro", 300_000, 10_000, ALL, LATENCY, image=True, cache=NOVA_CACHE, latency=True),
    _family("amazon.nova-premier", 1_000_000, 10_000, ALL, CACHING, image=True, cache=NOVA_CACHE),
    # Sources disagree on reasoning: langchain-aws found bare text accepted, can1357/oh-my-pi#9086 saw it refused.
    _family("amazon.nova-2-lite", 1_000_000, 65_535, ALL, CACHING, image=True, cache=NOVA_CACHE, reasoning="text"),
    _family("amazon.titan-text-lite", 4_000, None, (), LAUNCH, image=False),
    _family("amazon.titan-text-express", 8_000, None, (), LAUNCH, image=False),
    _family("amazon.titan-text-premier", 32_000, None, (), LAUNCH, image=False),
)

# With tools Converse serves Llama and ConverseStream refuses (seen 2026-09, vercel-labs/fx#900): "This model
# doesn't support tool use in streaming mode."
_META = (
    _family("meta.llama4-maverick", 1_000_000, 8_192, stream_tools=False, image=True),
    _family("meta.llama4-scout", 10_000_000, 8_192, stream_tools=False, image=True),
    _family("meta.llama3-3", 128_000, 4_096, stream_tools=False, image=False),
    _family("meta.llama3-2-90b", 128_000, 4_096, AUTO, CONVERSE, stream_tools=False, image=True),
    _family("meta.llama3-2-11b", 128_000, 4_096, AUTO, CONVERSE, stream_tools=False, image=True),
    _family("meta.llama3-2-3b", 128_000, 4_096, (), CONVERSE, image=False),
    _family("meta.llama3-2-1b", 128_000, 4_096, (), CONVERSE, image=False),
    _family("meta.llama3-1-405b", 128_000, 4_096, AUTO, LATENCY, stream_tools=False, image=False, latency=True),
    _family("meta.llama3-1-70b", 128_000, 4_096, AUTO, LATENCY, stream_tools=False, image=False, latency=True),
    _family("meta.llama3-1", 128_000, 4_096, stream_tools=False, image=False),
    _family("meta.llama3", 8_192, 2_048, (), CONVERSE, image=False),
    _family("meta.llama2", 4_096, 2_048, (), CONVERSE, image=False),
)

# As Llama, for the Mistral models that the guide lists; langchain-aws 1.9.1 holds it for the later ones too.
_MISTRAL = (
    _family("mistral.mistral-large-3", 262_144, 8_192, AUTO_ANY, stream_tools=False, image=True, text_format=True),
    _family("mistral.mistral-large-2407", 128_000, 8_192, AUTO_ANY, CONVERSE, stream_tools=False, image=False),
    _family("mistral.mistral-large-2402", 32_000, 8_192, AUTO_ANY, CONVERSE, stream_tools=False, image=False),
    _family("mistral.mistral-small-2402", 32_000, 8_192, AUTO, CONVERSE, stream_tools=False, image=False),
    _family("mistral.mistral-7b", 32_000, 8_192, (), CONVERSE, image=False),
    _family("mistral.mixtral-8x7b", 32_000, 4_096, (), CONVERSE, image=False),
    _family("mistral.pixtral-large", 128_000, 8_192, stream_tools=False, image=True),
    _family(
        "mistral.magistral-small", 128_000, 40_000, stream_tools=False, image=True, reasoning=None, text_format=True
    ),
    _family("mistral.ministral-3-14b", 128_000, 4_096, stream_tools=False, image=True, text_format=True),
    _family("mistral.ministral-3-8b", 128_000, 4_096, stream_tools=False, image=True, text_format=True),
    _family("mistral.ministral-3-3b", 256_000, 8_192, stream_tools=False, image=True, text_format=True),
    _family("mistral.devstral-2", 262_144, 8_192, stream_tools=False, image=False, text_format=None),
    _family("mistral.voxtral-mini", 32_768, 4_096, stream_tools=False, image=False, text_format=True),
    _family("mistral.voxtral-small", 32_768, 8_192, stream_tools=False, image=False, text_format=True),
)

# GPT-5 and later send their reasoning as `redactedContent` and take it back; "signed" keeps such blocks and drops
# text that no signature vouches for.
# gpt-oss takes a forced toolChoice, but reports differ on whether it obeys (langchain-aws#1268, #1278).
_OPENAI = (
    _family("openai.gpt-oss-safeguard", 128_000, 16_384, image=False, reasoning="text", text_format=True),
    # GovCloud's profiles say 128,000 and 16,384.
    _family("openai.gpt-oss", 131_072, 128_000, image=False, reasoning="text", text_format=True),
    _family("openai.gpt-5.4", 1_000_000, 128_000, ALL, image=True, reasoning="signed", text_format=None),
    _family("openai.gpt-5.5", 1_000_000, 128_000, ALL, image=True, reasoning="signed", text_format=None),
    _family("openai.gpt-5.6", 1_050_000, 128_000, ALL, image=True, reasoning="signed", text_format=None),
    _family("openai.gpt-6", 1_050_000, 128_000, ALL, image=True, reasoning="signed", text_format=None),
    _family("openai.gpt-6.1", 1_050_000, 128_000, ALL, image=True, reasoning="signed", text_format=None),
)

_QWEN = (
    _family("qwen.qwen3-32b", 32_768, 16_384, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-235b-a22b", 262_144, 131_072, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-coder-30b-a3b", 262_144, 131_072, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-coder-480b-a35b", 131_072, 65_536, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-coder-next", 262_144, 65_536, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-next", 262_144, 262_000, image=False, reasoning="text", text_format=True),
    _family("qwen.qwen3-vl", 262_144, 262_000, image=True, reasoning="text", text_format=True),
)

_OTHERS = (
    _family("ai21.jamba-1-5", 256_000, 4_096, AUTO, CONVERSE, image=False),
    _family("ai21.jamba-instruct", 70_000, 4_096, (), CONVERSE, image=False),
    # "Limited. No chat support": one message, no stream.
    _family("ai21.j2", 8_191, None, (), CONVERSE, image=False, streaming=False),
    _family("cohere.command-r", 128_000, 4_096, AUTO, CONVERSE, image=False),
    # "Limited. No chat support", as J2.
    _family("cohere.command-text", 4_000, None, (), CONVERSE, image=False, streaming=False),
    _family("cohere.command-light-text", 4_000, None, (), CONVERSE, image=False, streaming=False),
    _family("deepseek.r1", 128_000, 32_768, (), image=False),
    _family("deepseek.v3", 163_840, 81_920, AUTO_ANY, image=False, reasoning="text", text_format=True),
    _family("deepseek.v3.2", 163_840, 81_920, AUTO_ANY, image=False, reasoning="text", text_format=None),
    _family("google.gemma-3", 131_072, 8_192, (), image=True, text_format=True),
    _family("google.gemma-3-4b", 131_072, 4_096, (), image=True),
    _family("google.gemma-4", 262_144, 32_768, image=True, reasoning=None, text_format=None),
    _family("google.gemma-4-e2b", 131_072, 8_192, image=True, reasoning=None, text_format=None),
    _family("minimax.minimax-m2", 204_608, 128_000, image=False, reasoning="text", text_format=True),
    _family("minimax.minimax-m2.1", 196_608, 131_072, image=False, reasoning="text", text_format=None),
    _family("minimax.minimax-m2.5", 196_608, 98_304, image=False, reasoning="text", text_format=None),
    _family("moonshot.kimi-k2", 262_144, 16_000, image=False, reasoning="text", text_format=True),
    _family("moonshotai.kimi-k2.5", 262_144, 16_384, image=True, reasoning="text", text_format=None),
    _family("moonshotai.kimi-k3", 1_048_576, 128_000, image=True, reasoning="text", text_format=None),
    _family("nvidia.nemotron-nano-9b", 131_072, 8_192, image=False, text_format=True),
    _family("nvidia.nemotron-nano-12b", 131_072, 8_192, image=True, text_format=True),
    _family("nvidia.nemotron-nano-3", 262_144, 8_192, image=False, reasoning=None, text_format=True),
    _family("nvidia.nemotron-super-3", 262_144, 131_072, image=False, reasoning=None, text_format=None),
    _family("writer.palmyra-x4", 122_880, 8_192, stream_tools=False, image=False, reasoning=None),
    _family("writer.palmyra-x5", 1_040_000, 8_192, stream_tools=False, image=False, reasoning=None),
    _family("xai.grok-4.3", 1_000_000, 131_072, ALL, image=True, reasoning=None, text_format=None),
    _family("xai.grok-4.6", 500_000, 500_000, ALL, image=True, reasoning=None, text_format=None),
    _family("xai.grok-4.7", 500_000, 500_000, ALL, image=True, reasoning=None, text_format=None),
    _family("zai.glm-4.7", 202_752, 131_072, AUTO_ANY, image=False, reasoning=None, text_format=True),
    _family("zai.glm-5", 202_752, 131_072, AUTO_ANY, image=False, reasoning=None, text_format=None),
    _family("zai.glm-5.3", 1_000_000, 128_000, ALL, image=False, reasoning=None, text_format=None),
)

FAMILIES = (*_ANTHROPIC, *_AMAZON, *_META, *_MISTRAL, *_OPENAI, *_QWEN, *_OTHERS)


def _newest(
    brand: str,
    choice: tuple[str, ...],
    *,
    stream_tools: bool = True,
    image: bool | None = None,
    cache: CacheRules | None = None,
    reasoning: Reasoning | None = "none",
) -> ModelFacts:
    """Return one row of `NEWEST`. `outputConfig` and CountTokens are unknown before a model is released."""
    models = [row for row in FAMILIES if row.family.startswith(brand)]
    if brand == "openai.gpt":  # gpt-oss is a brand of its own
        models = [row for row in models if not row.family.startswith("openai.gpt-oss")]
    models = [row for row in models if row.tools] or models
    facts = _family(
        brand,
        min(row.context_window for row in models if row.context_window),
        min((row.max_output_tokens for row in models if row.max_output_tokens), default=None),
        choice,
        EXTRAPOLATED,
        stream_tools=stream_tools,
        image=image,
        cache=cache,
        reasoning=reasoning,
        text_format=None,
        count_tokens=None,
    )
    return replace(facts, known=False)


NEWEST = (
    _newest("anthropic.claude", AUTO, image=True, cache=C_UNLISTED, reasoning="signed"),
    _newest("amazon.nova", ALL, cache=NOVA_CACHE, reasoning="text"),
    _newest("amazon.titan-text", (), image=False),
    _newest("meta.llama", AUTO, stream_tools=False),
    _newest("mistral.mistral-large", AUTO_ANY, stream_tools=False),
    _newest("mistral", AUTO, stream_tools=False),
    _newest("openai.gpt", ALL, image=True, reasoning="signed"),
    _newest("openai.gpt-oss", AUTO, reasoning="text"),
    _newest("qwen.qwen", AUTO, reasoning="text"),
    _newest("ai21.jamba", AUTO),
    _newest("cohere.command", AUTO),
    _newest("deepseek", AUTO_ANY, reasoning="text"),
    _newest("google.gemma", AUTO, reasoning=None),
    _newest("minimax.minimax", AUTO, reasoning="text"),
    _newest("moonshot.kimi", AUTO, reasoning="text"),
    _newest("moonshotai.kimi", AUTO, reasoning="text"),
    _newest("nvidia.nemotron", AUTO, reasoning=None),
    _newest("writer.palmyra", AUTO, stream_tools=False, reasoning=None),
    _newest("xai.grok", ALL, reasoning=None),
    _newest("zai.glm", ALL, image=False, reasoning=None),
)


# --- Ids of foundation models ---

# provider.name; a name starts with a letter and may have dots of its own (deepseek.v3.2, openai.gpt-5.6-sol).
_MODEL = re.compile(r"(?P<provider>[a-z][a-z0-9-]*)\.(?P<name>[a-z][a-z0-9-]*(?:[.:][a-z0-9-]+)*)")
# Provisioned throughput names the same model again by context size or modality: -v1:0:300k, :0:mm, :0:512.
_VARIANT = re.compile(r":(?:\d+k|mm|\d{3,})$")
# A version number that goes on: what follows claude-opus-4 in claude-opus-4-8, not in claude-opus-4-20250514.
_LATER_VERSION = re.compile(r"[-.]\d{1,2}(?![a-z0-9])")
# Models that Converse does not serve. The facts of their brand's chat models do not apply to them.
_NOT_CHAT = frozenset({"canvas", "embed", "embeddings", "image", "reel", "rerank", "sonic"})


def base_model_id(text: str) -> str | None:
    """Return the plain foundation-model id in a text; None if it is not a model id (an opaque id, an ARN).

    A geography (`us.`, `us-gov.`, `global.`, also an unknown one) and a context suffix (`:300k`) are removed: they
    name the same model. The version (`-v1:0`) stays: it is part of the id.
    """
    _, bare = split_geography(_VARIANT.sub("", text.strip()))
    model = _MODEL.fullmatch(bare)
    if model is None:
        return None
    # A new provider's ids will still look like Bedrock's, which a host name or a file name does not.
    if model["provider"] not in PROVIDERS and not re.search(r"[-\d]", model["name"]):
        return None
    return bare


def is_chat(model: str) -> bool:
    """Return whether a plain id is not one of a model for images, speech or embeddings."""
    return _NOT_CHAT.isdisjoint(re.split(r"[-.:]", model))


def covers(family: str, model: str) -> bool:
    """Return whether a family covers a plain id: it continues with a size, a date or nothing, not a later version.

    Args:
        family: Such as ``"anthropic.claude-opus-4"``.
        model: Such as ``"anthropic.claude-opus-4-20250514-v1:0"``.
    """
    if not model.startswith(family):
        return False
    rest = model[len(family) :]
    return not rest or (rest[0] in "-.:" and not _LATER_VERSION.match(rest))


# --- Facts of a model ---


@lru_cache(maxsize=1024)
def model_facts(model_id: str) -> ModelFacts:
    """Return the facts of a model: those of the most specific family that covers it. Never raises.

    A geography or context suffix is ignored. A model that no family covers has `known=False`, see `NEWEST`.
    """
    model = base_model_id(model_id)
    if model is None:
        return unknown_facts()
    provider = model.partition(".")[0]
    if not is_chat(model):
        return unknown_facts(provider)
    listed = [facts for facts in FAMILIES if covers(facts.family, model) and not is_unlisted_version(model)]
    brands = [facts for facts in NEWEST if facts.provider == provider and model.startswith(facts.family)]
    found = max(listed or brands, key=lambda facts: len(facts.family), default=unknown_facts(provider))
    return replace(found, cache=None) if found.cache and not listed and is_misspelled(model) else found


def common_facts(base_model_ids: Iterable[str]) -> ModelFacts:
    """Return the limits that all models share, in any order; without models, the defaults.

    Flags are and-ed, lists intersected. Of sizes the smallest known one counts, of cache minimums and prices the
    largest. `cache` is None if one model has no cache or is unknown: a router may choose that model, which may refuse a
    `cachePoint`.
    """
    return _common(frozenset(base_model_ids))


@lru_cache(maxsize=1024)
def _common(base_model_ids: frozenset[str]) -> ModelFacts:
    members = [model_facts(text) for text in base_model_ids]
    return combine(members) if members else unknown_facts()
