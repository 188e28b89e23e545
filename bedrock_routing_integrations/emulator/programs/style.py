"""How an answer is dressed: what the system prompt, or the question, says about its form."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .arguments import fill
from .clues import Clues
from .examples import like_example
from .passages import outside_passages
from .sources import rewrites
from .words import quotations, sentences

if TYPE_CHECKING:
    from .reading import Reading

__all__ = ["styled"]

_JSON = re.compile(
    r"\b(?:reply|respond|answer|return|output|format|result|write|give)\b[^.\n]{0,60}\bJSON\b|\bJSON\b[^.\n]{0,30}\b(?:only|format|object)\b"
    r"|\bonly\b[^.\n]{0,20}\bJSON\b",
    re.IGNORECASE,
)
_KEYS = re.compile(r"\bkeys?\b|\bfields?\b", re.IGNORECASE)
_SCHEMA = re.compile(r"\{\s*\"(?:properties|\$defs|type|title|description)\".*\}", re.DOTALL)
_ONE_WORD = re.compile(r"\b(?:one|single|1)[ -]word\b", re.IGNORECASE)
_ONE_SENTENCE = re.compile(
    r"\b(?:in|with|using) (?:one|a single|1) (?:short )?(?:sentence|line)\b|\bone[ -](?:sentence|line)\b",
    re.IGNORECASE,
)
_PIRATE = re.compile(r"\b(?:you are|act as|talk|speak|respond|answer|like|as)\b[^.\n]{0,40}\bpirate", re.IGNORECASE)
_CAPITALS = re.compile(r"\b(?:all caps|upper ?case|capital letters)\b", re.IGNORECASE)
_LOWER = re.compile(r"\blower ?case\b", re.IGNORECASE)
_CHECKED = 4_000  # characters of a prompt in which instructions about form are looked for, at either end


def styled(answer: str, reading: Reading) -> str:
    """`answer` in the form that the request wants it in."""
    if rewrites(reading.question):  # what a conversation says of form is not said of the question made of it
        return answer
    asked, system = outside_passages(reading.question), outside_passages(reading.system)
    if len(asked) > 2 * _CHECKED:
        asked = asked[:_CHECKED] + asked[-_CHECKED:]
    wishes = f"{system[: 2 * _CHECKED]}\n{asked}"
    if _JSON.search(wishes):
        return _as_json(answer, wishes, reading)
    if _ONE_WORD.search(wishes):
        answer = _one_word(answer)
    elif _ONE_SENTENCE.search(wishes) and not answer.startswith("```"):
        answer = (sentences(answer) or [answer])[0]
    if _PIRATE.search(wishes):
        answer = f"Arr! {answer} Aye, matey!"
    if _CAPITALS.search(wishes):
        return answer.upper()
    return answer.lower() if _LOWER.search(wishes) else answer


def _one_word(answer: str) -> str:
    """The last word of the first sentence, where English puts what is new."""
    words = re.findall(r"[\w'.,%°$€£-]*\w%?", (sentences(answer) or [answer])[0])
    return words[-1] if words else answer


def _as_json(answer: str, wishes: str, reading: Reading) -> str:
    """A JSON object: by a schema written in the prompt, with the keys that it quotes, or with the one key "answer"."""
    clues = Clues(reading.question, answer=lambda: answer)
    schema: Any = None
    written = _SCHEMA.search(wishes)
    if written is not None:
        try:
            schema = json.JSONDecoder().raw_decode(written[0])[0]
        except ValueError:
            schema = None
    if not isinstance(schema, dict) or "properties" not in schema:
        keys = [key for key in quotations(wishes) if re.fullmatch(r"\w{1,40}", key)] if _KEYS.search(wishes) else []
        if not keys:
            value = like_example(reading.question, lambda: answer)
            return json.dumps({"answer": answer} if value is None else value, ensure_ascii=False)
        schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": keys}
        clues.quoted = [each for each in clues.quoted if each not in keys]
    return json.dumps(fill(schema, clues, generous=True), ensure_ascii=False)
