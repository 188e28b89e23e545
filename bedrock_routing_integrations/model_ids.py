"""The ids of Bedrock's chat models as dated data, and the listed id that a misspelled id most likely means.

Bedrock takes whole ids only: `anthropic.claude-3-haiku-20240307-v1:0`, not `claude-3-haiku`. Some models can be called
by their own id ("on demand"), others only through an inference profile, whose id is a geography and the model's id.
Advice must name an id that can be called: this table has them.

**Which id a text means.** A text is compared with every id in several forms: with and without the provider, the date,
the version and a closing "-instruct". Separators and upper case do not count. The smallest edit distance wins, if it is
small for the length of the text.

**Misspelled or new.** A model that the table does not list may be new, so an unlisted id is called misspelled only
where no new id would look like it:

- it is a listed id without its end (`anthropic.claude-3-haiku`), with other separators or another order of words,
- or with another release date,
- or one edit away in more than the value of a number (`-v1.0`, `-v10`),
- or it has a word that no id has and that is nearly one of theirs (`hiaku`).

What differs from listed ids in the values of numbers alone (`claude-opus-6`), in how many there are (`nova-3-pro`), or
has a word unlike all others (`claude-saga-1`) is taken for a new model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "CHECKED",
    "GEOGRAPHIES",
    "MODEL_IDS",
    "Offer",
    "callable_id",
    "did_you_mean",
    "is_misspelled",
    "is_unlisted_version",
]

CHECKED = "2026-12-01"

# Sources: ListFoundationModels of us-east-1 (a recording of 2025-12-31, for which models are offered on demand),
# langchain-aws 1.9.1's model cards (which geographies have profiles), genai-prices 0.2.3, AWS's list of inference
# profiles. `direct`: can be called by its own id. `-> id`: reached its end of life; the id is what to use instead.
# Within a line of models the newest is last: of two that are equally near, the later one is meant.
_TABLE = """
anthropic.claude-instant-v1                 -> anthropic.claude-haiku-4-5-20251001-v1:0
anthropic.claude-v2                         -> anthropic.claude-sonnet-4-6
anthropic.claude-v2:1                       -> anthropic.claude-sonnet-4-6
anthropic.claude-3-sonnet-20240229-v1:0     -> anthropic.claude-sonnet-4-6
anthropic.claude-3-opus-20240229-v1:0       -> anthropic.claude-opus-5
anthropic.claude-3-haiku-20240307-v1:0      direct us eu apac us-gov
anthropic.claude-3-5-sonnet-20240620-v1:0   direct us eu apac us-gov
anthropic.claude-3-5-sonnet-20241022-v2:0   us apac
anthropic.claude-3-5-haiku-20241022-v1:0    -> anthropic.claude-haiku-4-5-20251001-v1:0
anthropic.claude-3-7-sonnet-20250219-v1:0   us eu apac us-gov
anthropic.claude-sonnet-4-20250514-v1:0     us eu apac global
anthropic.claude-sonnet-4-5-20250929-v1:0   us eu jp au global us-gov
anthropic.claude-sonnet-4-6                 us eu jp au global
anthropic.claude-sonnet-5                   us eu jp au in global
anthropic.claude-sonnet-5-5                 us eu global
anthropic.claude-haiku-4-5-20251001-v1:0    us eu jp au in global
anthropic.claude-haiku-5-5                  us eu jp au global
anthropic.claude-opus-4-20250514-v1:0       -> anthropic.claude-opus-5
anthropic.claude-opus-4-1-20250805-v1:0     us
anthropic.claude-opus-4-5-20251101-v1:0     us eu global
anthropic.claude-opus-4-6-v1                us eu au global
anthropic.claude-opus-4-7                   us eu jp au global
anthropic.claude-opus-4-8                   us eu jp au global
anthropic.claude-opus-5                     us eu jp au in global
anthropic.claude-opus-5-5                   us eu jp au global
anthropic.claude-mythos-5                   us global
anthropic.claude-mythos-5-1                 us global
anthropic.claude-fable-5                    us eu global
anthropic.claude-fable-5-1                  us global
amazon.titan-text-lite-v1                   -> amazon.nova-micro-v1:0
amazon.titan-text-express-v1                direct
amazon.titan-text-premier-v1:0              -> amazon.nova-pro-v1:0
amazon.nova-premier-v1:0                    us
amazon.nova-micro-v1:0                      direct us eu apac
amazon.nova-lite-v1:0                       direct us eu apac ca
amazon.nova-pro-v1:0                        direct us eu apac
amazon.nova-2-lite-v1:0                     us eu jp global
meta.llama2-13b-chat-v1                     -> meta.llama3-1-8b-instruct-v1:0
meta.llama2-70b-chat-v1                     -> meta.llama3-3-70b-instruct-v1:0
meta.llama3-8b-instruct-v1:0                direct
meta.llama3-70b-instruct-v1:0               direct
meta.llama3-1-8b-instruct-v1:0              us
meta.llama3-1-70b-instruct-v1:0             us
meta.llama3-1-405b-instruct-v1:0            us
meta.llama3-2-1b-instruct-v1:0              us eu
meta.llama3-2-3b-instruct-v1:0              us eu
meta.llama3-2-11b-instruct-v1:0             us
meta.llama3-2-90b-instruct-v1:0             us
meta.llama3-3-70b-instruct-v1:0             us
meta.llama4-scout-17b-instruct-v1:0         us
meta.llama4-maverick-17b-instruct-v1:0      us
mistral.mistral-7b-instruct-v0:2            direct
mistral.mixtral-8x7b-instruct-v0:1          direct
mistral.mistral-small-2402-v1:0             direct
mistral.mistral-large-2407-v1:0             direct
mistral.mistral-large-2402-v1:0             direct
mistral.mistral-large-3-675b-instruct       direct
mistral.pixtral-large-2502-v1:0             us eu
mistral.magistral-small-2509                direct
mistral.ministral-3-3b-instruct             direct
mistral.ministral-3-8b-instruct             direct
mistral.ministral-3-14b-instruct            direct
mistral.devstral-2-123b                     direct
mistral.voxtral-mini-3b-2507                direct
mistral.voxtral-small-24b-2507              direct
ai21.j2-mid-v1                              -> ai21.jamba-1-5-mini-v1:0
ai21.j2-ultra-v1                            -> ai21.jamba-1-5-large-v1:0
ai21.jamba-instruct-v1:0                    -> ai21.jamba-1-5-mini-v1:0
ai21.jamba-1-5-mini-v1:0                    direct
ai21.jamba-1-5-large-v1:0                   direct
cohere.command-text-v14                     -> cohere.command-r-plus-v1:0
cohere.command-light-text-v14               -> cohere.command-r-v1:0
cohere.command-r-v1:0                       direct
cohere.command-r-plus-v1:0                  direct
deepseek.r1-v1:0                            us
deepseek.v3-v1:0                            direct
deepseek.v3.2                               direct
openai.gpt-oss-20b-1:0                      direct us-gov
openai.gpt-oss-120b-1:0                     direct us-gov
openai.gpt-oss-safeguard-20b                direct
openai.gpt-oss-safeguard-120b               direct
openai.gpt-5.4                              direct
openai.gpt-5.5                              direct
openai.gpt-5.6-luna                         us in global
openai.gpt-5.6-sol                          us global
openai.gpt-5.6-terra                        us in global
openai.gpt-6-astra                          us global
openai.gpt-6-luna                           us global
openai.gpt-6-sol                            us global
openai.gpt-6.1-sol                          us global
openai.gpt-6.1-terra                        us global
qwen.qwen3-32b-v1:0                         direct
qwen.qwen3-235b-a22b-2507-v1:0              direct
qwen.qwen3-coder-30b-a3b-v1:0               direct
qwen.qwen3-coder-480b-a35b-v1:0             direct
qwen.qwen3-coder-next                       direct
qwen.qwen3-next-80b-a3b                     direct
qwen.qwen3-vl-235b-a22b                     direct
google.gemma-3-4b-it                        direct
google.gemma-3-12b-it                       direct
google.gemma-3-27b-it                       direct
google.gemma-4-26b-a4b                      direct
google.gemma-4-31b                          direct
google.gemma-4-e2b                          direct
minimax.minimax-m2                          direct
minimax.minimax-m2.1                        direct
minimax.minimax-m2.5                        direct
moonshot.kimi-k2-thinking                   direct
moonshotai.kimi-k2.5                        direct
moonshotai.kimi-k3                          us in global
nvidia.nemotron-nano-9b-v2                  direct
nvidia.nemotron-nano-12b-v2                 direct
nvidia.nemotron-nano-3-30b                  direct
nvidia.nemotron-super-3-120b                direct
writer.palmyra-x4-v1:0                      us
writer.palmyra-x5-v1:0                      us
xai.grok-4.3                                direct
xai.grok-4.6                                us global
xai.grok-4.7                                us global
zai.glm-4.7                                 direct
zai.glm-4.7-flash                           direct
zai.glm-5                                   direct
zai.glm-5.3                                 us global
"""


@dataclass(frozen=True)
class Offer:
    """How a model can be called.

    Attributes:
        on_demand: Whether its own id can be called.
        geographies: Prefixes of its system inference profiles, the most common first.
        successor: The model to use instead, where this one reached its end of life; else None.
    """

    on_demand: bool
    geographies: tuple[str, ...]
    successor: str | None


def _offer(cells: list[str]) -> Offer:
    if cells[0] == "->":
        return Offer(on_demand=False, geographies=(), successor=cells[1])
    geographies = tuple(cell for cell in cells if cell != "direct")
    return Offer(on_demand="direct" in cells, geographies=geographies, successor=None)


MODEL_IDS = {line.split()[0]: _offer(line.split()[1:]) for line in _TABLE.strip().splitlines()}
"""Model id → how it can be called."""
GEOGRAPHIES = frozenset(["us", "us-gov", "eu", "apac", "jp", "au", "ca", "in", "sa", "amer", "global"])
"""Geographies whose profiles exist (2026-12)."""

_RELEASE = re.compile(r"(?P<stem>.+?)(?:-(?P<date>\d{8}))?(?:-v\d+(?:[:.-]\d+)?|-\d:\d)?")
_VERSION = re.compile(r"-v(\d+)(?:[:.-]\d+)?$")
_TUNED = re.compile(r"-(?:instruct|chat|it)$")
# An id that continues with a small number is another version: claude-haiku-5 is not the beginning of claude-haiku-5-5.
_CUT = re.compile(r"[-:](?!\d{1,2}(?:[-.]|$))")
_LONGEST_TEXT = 100
_SHORTEST_WORD = 4


def callable_id(model: str, geography: str | None = None) -> str:
    """Return the id to call for a listed model: its profile in `geography` if there is one, else one that works.

    Args:
        model: A key of `MODEL_IDS`. For a model that reached its end of life, the answer is its successor's.
        geography: The prefix that the caller used, such as ``"eu"``.
    """
    offer = MODEL_IDS[model]
    if offer.successor is not None:
        return callable_id(offer.successor, geography)
    if geography in offer.geographies:
        return f"{geography}.{model}"
    return model if offer.on_demand else f"{offer.geographies[0]}.{model}"


@lru_cache(maxsize=1024)
def did_you_mean(text: str) -> str | None:
    """Return "did you mean ID" with the callable id that a misspelled id most likely means; None if no id is near.

    Args:
        text: Any text in place of a model id, with or without geography, provider, date and version.
    """
    geography, name = _split(text)
    nearest = _nearest(name)
    if nearest is None:
        return None
    ended = ", the successor of a model that reached its end of life" if MODEL_IDS[nearest].successor else ""
    return f"did you mean {callable_id(nearest, geography)!r}{ended}"


@lru_cache(maxsize=1024)
def is_misspelled(model: str) -> bool:
    """Return whether an id without geography is a slip for a listed one, not itself listed and not a new model's.

    The rule is at the top of this module.
    """
    name = model.lower()
    nearest = None if model in MODEL_IDS else _nearest(name)
    if nearest is None:
        return False
    words, known_words = _words(name), _words(nearest)
    if _cut(name) or _word_key(name) == _word_key(nearest) or _without_dates(words) == _without_dates(known_words):
        return True
    if _shape(name) != _shape(nearest) and _distance(name, nearest, 1) <= 1:
        return True
    return any(_is_slip(word) for word in words if word not in _VOCABULARY)


@lru_cache(maxsize=1024)
def is_unlisted_version(model: str) -> bool:
    """Return whether an id without geography is a listed one but for the number after ``-v``."""
    version, stem = _version(model), _stem(model)
    versions = {_version(known) for known in MODEL_IDS if _stem(known) == stem} - {None}
    return version is not None and bool(versions) and version not in versions


def _version(model: str) -> str | None:
    found = _VERSION.search(model)
    return found[1] if found else None


def _split(text: str) -> tuple[str | None, str]:
    """Return the geography, if the text has one, and the rest in lower case."""
    name = text.strip().lower().rpartition("/")[2]  # other tools write bedrock/ID or provider/model
    head, dot, rest = name.partition(".")
    if not dot:
        return None, name
    if head in GEOGRAPHIES:
        return head, rest
    if head in _PROVIDERS or rest.partition(".")[0] not in _PROVIDERS:
        return None, name
    # What stands before a provider is a geography, here a misspelled one.
    near = [geography for geography in sorted(GEOGRAPHIES, reverse=True) if _distance(head, geography, 1) <= 1]
    return (near[0] if near else None), rest


@lru_cache(maxsize=1024)
def _nearest(name: str) -> str | None:
    """Return the listed id that a text without geography is nearest to; None if no id is near.

    First the ids that go on where the text ends, then those that are one edit away, then those with the same words,
    then those with the smallest edit distance. Of several, the one that is nearest as a whole, or else the last.
    """
    if not 1 < len(name) <= _LONGEST_TEXT:
        return None
    if cut := _cut(name):
        return _nearest_of(cut, name)
    if slips := [model for model in MODEL_IDS if _distance(name, model, 1) <= 1]:
        return slips[-1]
    forms = {_normal(name), _normal(_stem(name))}
    equal = [model for model, known in _FORMS.items() if forms & known or _word_key(name) in _WORD_KEYS[model]]
    return _nearest_of(equal or _similar(forms), name)


def _cut(name: str) -> list[str]:
    """Return the ids of which the text is the beginning, such as those of mistral-large."""
    if "-" not in name:
        return []
    whole = {model: model if "." in name else model.partition(".")[2] for model in MODEL_IDS}
    return [model for model, known in whole.items() if known.startswith(name) and _CUT.match(known, len(name))]


def _similar(forms: set[str]) -> list[str]:
    """Return the ids with the smallest edit distance to one of the forms, if that is small for its length."""
    length = max(map(len, forms))
    limit = 0 if length < 4 else 1 if length < 6 else 2 if length < 12 else 3
    found: list[str] = []
    for model, known_forms in _FORMS.items():
        near = min(_distance(form, known, limit) for form in forms for known in known_forms)
        if near < limit:
            found, limit = [model], near
        elif near == limit:
            found.append(model)
    return found


def _nearest_of(models: list[str], name: str) -> str | None:
    whole = _normal(name)
    return min(reversed(models), key=lambda model: _distance(whole, _normal(model), _LONGEST_TEXT), default=None)


def _distance(first: str, second: str, limit: int) -> int:
    """Return how many letters to insert, delete, replace or swap with their neighbour; `limit + 1` if more."""
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before, row = [0] * (len(second) + 1), list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > limit and min(before) > limit:
            return limit + 1
    return row[-1]


def _normal(text: str) -> str:
    """Return the text with one kind of separator."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _stem(name: str) -> str:
    """Return an id without its date and version."""
    match = _RELEASE.fullmatch(name)
    return match["stem"] if match else name


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())


def _word_key(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is equal for ids with the same words in another order, and the same numbers in the same order."""
    words = _words(text)
    return tuple(sorted(word for word in words if not word.isdigit())), tuple(filter(str.isdigit, words))


def _without_dates(words: list[str]) -> list[str]:
    """Return the words without release dates, also those that lack or double a digit."""
    return [word for word in words if not re.fullmatch(r"\d{6,10}", word)]


def _shape(text: str) -> str:
    """Return the text with the same value for every number."""
    return re.sub(r"\d+", "0", text)


def _is_slip(word: str) -> bool:
    """Return whether a word that no id has is nearly one that some id has."""
    if len(word) < _SHORTEST_WORD or word.isdigit():
        return False
    limit = 1 if len(word) < 8 else 2
    return any(len(known) >= _SHORTEST_WORD and _distance(word, known, limit) <= limit for known in _VOCABULARY)


def _forms_of(model: str) -> frozenset[str]:
    """Return what people write for an id: with and without the provider, the release and the tuning."""
    stem = _stem(model)
    if stem.endswith(".claude"):  # claude-v2: nothing of the name would be left
        stem = model
    forms = {model, stem, _TUNED.sub("", stem)}
    return frozenset(_normal(part) for form in forms for part in (form, form.partition(".")[2]))


_PROVIDERS = frozenset(model.partition(".")[0] for model in MODEL_IDS)
_VOCABULARY = frozenset(word for model in MODEL_IDS for word in _words(model))
_FORMS = {model: _forms_of(model) for model in MODEL_IDS}
_WORD_KEYS = {model: frozenset(map(_word_key, forms)) for model, forms in _FORMS.items()}
