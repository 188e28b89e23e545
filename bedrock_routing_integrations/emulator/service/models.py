"""The foundation models that the emulator offers, as plain data.

Sources (all read 2026-11):

- Ids, modalities, geographies and latency optimization: AWS's documentation.
- Context windows and prices: genai-prices 0.2.3, and memory for the few retired models that it does not list.
- Tool choice: the values that langchain-aws 1.9 relies on.
- Prompt caching: the user guide of autumn 2026, and its earlier editions for the two models that it no longer lists
  (Claude Sonnet 4 and Nova Premier). Sources disagree on the minimum of some models.

At Bedrock, the models that can be invoked `direct` differ by Region; in the emulator they do not. Claude 3 Sonnet
represents the models that have reached their end of life.

Three columns are invented: `size` (an order of ability, used by the canned models and the router), `first_token_ms`
and `tokens_per_second`. The times have the right order of magnitude, so that simulated latencies differ as real ones
do; Claude 3.5 Sonnet's give the 4,504 ms for 160 tokens of the routers' launch. Never quote them as measurements of
Bedrock.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODELS", "CacheOffer", "EmulatedModel"]


@dataclass(frozen=True, kw_only=True)
class CacheOffer:
    """The prompt caching of a model.

    Attributes:
        minimum_tokens: Shortest prefix to cache, in tokens. A shorter prefix is answered without caching.
        maximum_tokens: Longest prefix to cache, in tokens. A longer prefix is refused. None for no limit.
        ttls: The TTLs that a cachePoint may request.
        fields: The fields that accept cachePoints: "tools", "system", "messages".
        never_after: Kinds of content blocks that a cachePoint may not follow, in addition to those of every model.
    """

    minimum_tokens: int
    maximum_tokens: int | None
    ttls: tuple[str, ...]
    fields: tuple[str, ...]
    never_after: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EmulatedModel:
    """The abilities, speed and prices of an emulated foundation model.

    Attributes:
        model_id: The foundation model's id on Bedrock.
        name: The model's name in `ListFoundationModels`.
        provider: The model's provider in `ListFoundationModels`.
        size: Ability from 0 (smallest) to 1 (largest), invented.
        context_window: Maximum tokens of input and output together.
        max_output_tokens: Maximum tokens of an answer.
        input_modalities: Of "TEXT", "IMAGE", "VIDEO", "SPEECH".
        output_modalities: Of the same values.
        streaming: Whether ConverseStream is allowed.
        tools: Whether `toolConfig` is allowed.
        tool_choice: The allowed members of `toolChoice`: "auto", "any", "tool".
        on_demand: False if only an inference profile can invoke the model.
        profiles: Geography prefixes of the model's system inference profiles.
        latency_optimized: Whether `performanceConfig.latency=optimized` is allowed (through a profile).
        end_of_life: Whether every invocation is refused because the model is retired.
        first_token_ms: Simulated milliseconds until the first token.
        tokens_per_second: Simulated output speed after the first token.
        input_usd_per_million: US dollars per million input tokens.
        output_usd_per_million: US dollars per million output tokens.
        cache: The model's prompt caching; None if the model does not cache.
    """

    model_id: str
    name: str
    provider: str
    size: float
    context_window: int
    max_output_tokens: int
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    streaming: bool
    tools: bool
    tool_choice: tuple[str, ...]
    on_demand: bool
    profiles: tuple[str, ...]
    latency_optimized: bool
    end_of_life: bool
    first_token_ms: float
    tokens_per_second: float
    input_usd_per_million: float
    output_usd_per_million: float
    cache: CacheOffer | None


# `accepts`: input modalities in addition to text. `tools`: "no", "yes" (without toolChoice), or the last allowed
# toolChoice in the order auto, any, tool.
_ABILITIES = """
model id                                 |name                   |size|context  |output |accepts    |tools
anthropic.claude-3-haiku-20240307-v1:0   |Claude 3 Haiku         |0.35|200_000  |4_096  |image      |tool
anthropic.claude-3-sonnet-20240229-v1:0  |Claude 3 Sonnet        |0.55|200_000  |4_096  |image      |tool
anthropic.claude-3-5-sonnet-20240620-v1:0|Claude 3.5 Sonnet      |0.75|200_000  |8_192  |image      |tool
anthropic.claude-3-5-sonnet-20241022-v2:0|Claude 3.5 Sonnet v2   |0.80|200_000  |8_192  |image      |tool
anthropic.claude-3-5-haiku-20241022-v1:0 |Claude 3.5 Haiku       |0.50|200_000  |8_192  |           |tool
anthropic.claude-3-7-sonnet-20250219-v1:0|Claude 3.7 Sonnet      |0.85|200_000  |64_000 |image      |tool
anthropic.claude-sonnet-4-20250514-v1:0  |Claude Sonnet 4        |0.88|200_000  |64_000 |image      |tool
anthropic.claude-sonnet-4-5-20250929-v1:0|Claude Sonnet 4.5      |0.92|200_000  |64_000 |image      |tool
anthropic.claude-haiku-4-5-20251001-v1:0 |Claude Haiku 4.5       |0.70|200_000  |64_000 |image      |tool
anthropic.claude-opus-4-5-20251101-v1:0  |Claude Opus 4.5        |0.97|200_000  |64_000 |image      |tool
anthropic.claude-opus-4-6-v1             |Claude Opus 4.6        |0.97|1_000_000|128_000|image      |tool
anthropic.claude-sonnet-4-6              |Claude Sonnet 4.6      |0.94|1_000_000|64_000 |image      |tool
anthropic.claude-opus-5                  |Claude Opus 5          |0.99|1_000_000|128_000|image      |tool
amazon.nova-micro-v1:0                   |Nova Micro             |0.25|128_000  |10_000 |           |tool
amazon.nova-lite-v1:0                    |Nova Lite              |0.35|300_000  |10_000 |image video|tool
amazon.nova-pro-v1:0                     |Nova Pro               |0.65|300_000  |10_000 |image video|tool
amazon.nova-premier-v1:0                 |Nova Premier           |0.82|1_000_000|32_000 |image video|tool
amazon.nova-2-lite-v1:0                  |Nova 2 Lite            |0.60|1_000_000|65_535 |image video|tool
meta.llama3-1-8b-instruct-v1:0           |Llama 3.1 8B Instruct  |0.30|128_000  |8_192  |           |auto
meta.llama3-1-70b-instruct-v1:0          |Llama 3.1 70B Instruct |0.60|128_000  |8_192  |           |auto
meta.llama3-1-405b-instruct-v1:0         |Llama 3.1 405B Instruct|0.75|128_000  |8_192  |           |auto
meta.llama3-2-3b-instruct-v1:0           |Llama 3.2 3B Instruct  |0.20|128_000  |8_192  |           |yes
meta.llama3-2-90b-instruct-v1:0          |Llama 3.2 90B Instruct |0.62|128_000  |8_192  |image      |auto
meta.llama3-3-70b-instruct-v1:0          |Llama 3.3 70B Instruct |0.68|128_000  |8_192  |           |auto
mistral.mistral-large-2402-v1:0          |Mistral Large (24.02)  |0.60|32_000   |8_192  |           |any
cohere.command-r-plus-v1:0               |Command R+             |0.55|128_000  |4_096  |           |yes
amazon.titan-text-express-v1             |Titan Text G1 - Express|0.15|8_192    |8_192  |           |no
deepseek.r1-v1:0                         |DeepSeek-R1            |0.80|128_000  |32_768 |           |no
openai.gpt-oss-20b-1:0                   |gpt-oss-20b            |0.45|131_072  |128_000|           |yes
openai.gpt-oss-120b-1:0                  |gpt-oss-120b           |0.70|131_072  |128_000|           |yes
"""

# `offered`: "direct" (on demand) and the geographies of the system profiles. Prices per million tokens.
_OFFERS = """
model id                                 |offered             |note     |first ms|tok/s|in $ |out $
anthropic.claude-3-haiku-20240307-v1:0   |direct us eu apac   |         |420     |130  |0.25 |1.25
anthropic.claude-3-sonnet-20240229-v1:0  |direct us eu apac   |retired  |800     |65   |3    |15
anthropic.claude-3-5-sonnet-20240620-v1:0|direct us eu apac   |         |948     |45   |3    |15
anthropic.claude-3-5-sonnet-20241022-v2:0|direct us apac      |         |900     |50   |3    |15
anthropic.claude-3-5-haiku-20241022-v1:0 |direct us           |optimized|650     |75   |0.8  |4
anthropic.claude-3-7-sonnet-20250219-v1:0|us eu apac          |         |900     |60   |3    |15
anthropic.claude-sonnet-4-20250514-v1:0  |us eu apac global   |         |950     |62   |3    |15
anthropic.claude-sonnet-4-5-20250929-v1:0|us eu jp au global  |         |950     |65   |3    |15
anthropic.claude-haiku-4-5-20251001-v1:0 |us eu jp au global  |         |450     |140  |1    |5
anthropic.claude-opus-4-5-20251101-v1:0  |us eu global        |         |1300    |55   |5    |25
anthropic.claude-opus-4-6-v1             |us eu global        |         |1300    |55   |5    |25
anthropic.claude-sonnet-4-6              |us eu jp au global  |         |950     |65   |3    |15
anthropic.claude-opus-5                  |us eu global        |         |1250    |60   |5    |25
amazon.nova-micro-v1:0                   |direct us eu apac   |         |280     |210  |0.035|0.14
amazon.nova-lite-v1:0                    |direct us eu apac ca|         |330     |170  |0.06 |0.24
amazon.nova-pro-v1:0                     |direct us eu apac   |optimized|480     |95   |0.8  |3.2
amazon.nova-premier-v1:0                 |us                  |         |850     |60   |2.5  |12.5
amazon.nova-2-lite-v1:0                  |us eu jp global     |         |400     |150  |0.3  |2.5
meta.llama3-1-8b-instruct-v1:0           |direct us           |         |310     |110  |0.22 |0.22
meta.llama3-1-70b-instruct-v1:0          |direct us           |optimized|520     |40   |0.72 |0.72
meta.llama3-1-405b-instruct-v1:0         |direct us           |optimized|1100    |22   |2.4  |2.4
meta.llama3-2-3b-instruct-v1:0           |us                  |         |250     |130  |0.15 |0.15
meta.llama3-2-90b-instruct-v1:0          |us                  |         |700     |35   |0.72 |0.72
meta.llama3-3-70b-instruct-v1:0          |us                  |         |480     |45   |0.72 |0.72
mistral.mistral-large-2402-v1:0          |direct              |         |700     |40   |4    |12
cohere.command-r-plus-v1:0               |direct              |         |600     |45   |3    |15
amazon.titan-text-express-v1             |direct              |         |500     |60   |0.2  |0.6
deepseek.r1-v1:0                         |us                  |         |1200    |50   |1.35 |5.4
openai.gpt-oss-20b-1:0                   |direct              |         |350     |180  |0.07 |0.3
openai.gpt-oss-120b-1:0                  |direct              |         |450     |120  |0.15 |0.6
"""

# The models that cache prompts. Minimum and maximum in tokens. `never after`: see `CacheOffer`.
_CACHES = """
model id                                 |minimum|maximum|ttls |fields               |never after
anthropic.claude-3-5-sonnet-20241022-v2:0|1_024  |       |5m   |tools system messages|
anthropic.claude-3-5-haiku-20241022-v1:0 |2_048  |       |5m   |tools system messages|
anthropic.claude-3-7-sonnet-20250219-v1:0|1_024  |       |5m   |tools system messages|
anthropic.claude-sonnet-4-20250514-v1:0  |1_024  |       |5m   |tools system messages|
anthropic.claude-sonnet-4-5-20250929-v1:0|1_024  |       |5m 1h|tools system messages|
anthropic.claude-haiku-4-5-20251001-v1:0 |4_096  |       |5m 1h|tools system messages|
anthropic.claude-opus-4-5-20251101-v1:0  |4_096  |       |5m 1h|tools system messages|
anthropic.claude-opus-4-6-v1             |4_096  |       |5m 1h|tools system messages|
anthropic.claude-sonnet-4-6              |1_024  |       |5m 1h|tools system messages|
anthropic.claude-opus-5                  |512    |       |5m 1h|tools system messages|
amazon.nova-micro-v1:0                   |1_000  |20_000 |5m   |system messages      |toolResult image video document
amazon.nova-lite-v1:0                    |1_000  |20_000 |5m   |system messages      |toolResult image video document
amazon.nova-pro-v1:0                     |1_000  |20_000 |5m   |system messages      |toolResult image video document
amazon.nova-premier-v1:0                 |1_000  |20_000 |5m   |system messages      |toolResult image video document
amazon.nova-2-lite-v1:0                  |1_000  |20_000 |5m   |system messages      |toolResult image video document
"""

_PROVIDERS = {
    "amazon": "Amazon",
    "anthropic": "Anthropic",
    "cohere": "Cohere",
    "deepseek": "DeepSeek",
    "meta": "Meta",
    "mistral": "Mistral AI",
    "openai": "OpenAI",
}
_TOOL_CHOICES = ("auto", "any", "tool")


def _rows(table: str) -> list[dict[str, str]]:
    """Return the lines of a table below its header, as {column: cell}."""
    header, *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def _cache(row: Mapping[str, str]) -> CacheOffer:
    """Return the prompt caching in a line of the table of caches."""
    return CacheOffer(
        minimum_tokens=int(row["minimum"]),
        maximum_tokens=int(row["maximum"]) if row["maximum"] else None,
        ttls=tuple(row["ttls"].split()),
        fields=tuple(row["fields"].split()),
        never_after=tuple(row["never after"].split()),
    )


def _model(ability: Mapping[str, str], offer: Mapping[str, str], cache: Mapping[str, str] | None) -> EmulatedModel:
    """Return a model from its lines in the tables."""
    furthest = ability["tools"]
    offered = offer["offered"].split()
    return EmulatedModel(
        model_id=ability["model id"],
        name=ability["name"],
        provider=_PROVIDERS[ability["model id"].partition(".")[0]],
        size=float(ability["size"]),
        context_window=int(ability["context"]),
        max_output_tokens=int(ability["output"]),
        input_modalities=("TEXT", *ability["accepts"].upper().split()),
        output_modalities=("TEXT",),
        streaming=True,
        tools=furthest != "no",
        tool_choice=_TOOL_CHOICES[: _TOOL_CHOICES.index(furthest) + 1] if furthest in _TOOL_CHOICES else (),
        on_demand="direct" in offered,
        profiles=tuple(place for place in offered if place != "direct"),
        latency_optimized=offer["note"] == "optimized",
        end_of_life=offer["note"] == "retired",
        first_token_ms=float(offer["first ms"]),
        tokens_per_second=float(offer["tok/s"]),
        input_usd_per_million=float(offer["in $"]),
        output_usd_per_million=float(offer["out $"]),
        cache=None if cache is None else _cache(cache),
    )


def _read_tables() -> dict[str, EmulatedModel]:
    """Return the tables joined by model id, in the order of the first table."""
    offers, caches = ({row["model id"]: row for row in _rows(table)} for table in (_OFFERS, _CACHES))
    return {
        row["model id"]: _model(row, offers[row["model id"]], caches.get(row["model id"])) for row in _rows(_ABILITIES)
    }


MODELS: Mapping[str, EmulatedModel] = MappingProxyType(_read_tables())
"""Every emulated model by its foundation-model id."""
