"""What a prompt gives for the fields of a schema: values named in it, and those that are left, in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .arithmetic import expression_in
from .choices import chosen, is_choice
from .words import STOP_WORDS, entities, key_words, numbers, quotations, stem, stems, written_numbers_to_digits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clues", "name_words"]

_NUM = r"(?<![\w.])(-?\d{1,15}(?!\d)(?:,\d{3}){0,4}(?:\.\d{1,15})?(?!\d))"
_MOST_TRIED = 50  # names and quotations that are looked for behind a preposition
_LONGEST = 20_000  # characters; of a longer text both ends are looked at
_VALUE = r"(\"[^\"]+\"|'[^']+'|“[^”]+”|`[^`]+`|[^\s,;.!?'\"]+(?:\.[^\s,;.!?'\"]+)*)"
_FORMATS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"https?://[^\s\"'<>)]+[^\s\"'<>).,;!?]"),
    "uuid": re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
    "date-time": re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?"),
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "time": re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b"),
    "phone": re.compile(r"\+?\d[\d ()-]{6,}\d"),
}
_FORMAT_NAMES = {
    "mail": "email",
    "url": "uri",
    "link": "uri",
    "website": "uri",
    "datetime": "date-time",
    "day": "date",
}
_DAYS = re.compile(
    r"\b(today|tomorrow|yesterday|tonight|(?:next |on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"|next (?:week|month|year)|(?:january|february|march|april|may|june|july|august|september|october|november"
    r"|december) \d{1,2}(?:, \d{4})?)\b",
    re.IGNORECASE,
)
_PLACE = ("city", "location", "place", "country", "region", "address", "town", "state", "area")
_AFTER = {
    **dict.fromkeys(("from", "origin", "source", "start", "departure", "src"), r"from"),
    **dict.fromkeys(("to", "destination", "target", "end", "dest", "arrival", "recipient"), r"(?:to|into)"),
    **dict.fromkeys(_PLACE, r"(?:in|at|near|around|for|of|to)"),
    **dict.fromkeys(("language", "lang"), r"(?:to|in|into)"),
    **dict.fromkeys(("name", "title", "person", "customer", "user", "employee"), r"(?:named|called|titled)"),
    **dict.fromkeys(("author", "artist", "writer", "creator"), r"(?:by)"),
}
_ADDRESSEES = ("to", "cc", "bcc", "recipient", "sender", "from")
_UNITS = {
    "age": ("years old", "year-old", "year old", "years of age"),
    "price": ("dollars", "euros", "usd", "eur"),
    "amount": ("dollars", "euros", "usd", "eur"),
    "guest": ("people", "persons"),
    "people": ("persons", "guests"),
    "percent": ("%",),
    "temperature": ("degrees", "°"),
    "height": ("meters", "metres", "feet", "cm", "m"),
    "weight": ("kg", "pounds", "kilograms"),
}
_POLITE = re.compile(
    r"^\W*(?:(?:hello|hi|hey|please|kindly|can you|could you|would you|will you|i want you to|i need you to)\W+)+",
    re.IGNORECASE,
)
_ERRAND = re.compile(
    r"^(?:search(?: the (?:web|internet|database))?(?: for)?|look up|google|find(?: out)?(?: about)?|tell me(?: about)?"
    r"|ask(?: about)?|use (?:the )?[\w-]+(?: tool)? to)\s+(?=\w)",
    re.IGNORECASE,
)
_TOOL_TALK = re.compile(
    r"(?:\A|(?<=[.!?\n]))[^.!?\n]*?\b(?:using|use|with|call) (?:the |a |your )?(?:\w+ )?tools?\b[,.!]?\s*",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"(?:saying|that says|with the (?:text|message|body|content))[:,]?\s+(.+)", re.IGNORECASE | re.DOTALL
)


def name_words(name: str) -> list[str]:
    """The words in a field's name, in lower case: "dueDate" and "due_date" are both ["due", "date"]."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower().split()


class Clues:
    """A text, and the values in it that no field has taken yet.

    Args:
        text: The prompt.
        ignore: Stems of words that are no values, although they may look like names (the tool's own).
        answer: How to answer the prompt in words, for fields that want an answer.
        result: What a tool returned, for messages that are to carry it.
    """

    def __init__(
        self,
        text: str,
        *,
        ignore: frozenset[str] = frozenset(),
        answer: Callable[[], str] | None = None,
        result: str | None = None,
    ) -> None:
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}"
        self.text = text
        self.plain = written_numbers_to_digits(text)
        self.numbers = numbers(text)
        self.quoted = quotations(text)
        inside = " ".join(self.quoted)
        self.names = [n for n in entities(text) if n not in inside and not (stems(n) and stems(n) <= ignore)]
        self._answer = answer
        self._result = result

    def topic(self) -> str:
        """The text without politeness, errands and talk about tools."""
        bare = _TOOL_TALK.sub("", self.text) if len(self.text) < 2_000 else self.text
        bare = _ERRAND.sub("", _POLITE.sub("", bare.strip() or self.text)).strip(" .,:;\n")
        return bare or self.text.strip()

    def subject(self) -> str:
        """What the text is about in one or two words: "cats" of "Tell me a joke about cats."."""
        about = re.search(
            r"\b(?:about|on|of|regarding) (?:an? |the )?([\w' -]{2,40}?)(?:[,.!?]|$| (?:in|with|that|for)\b)",
            self.text,
        )
        if about is not None:
            return about[1].strip()
        return (key_words(self.text[:400]) or ["it"])[-1]

    def answer(self) -> str:
        """The program's answer in words; the topic where there is none."""
        return self._answer() if self._answer is not None else self.topic()

    def expression(self) -> str | None:
        """The arithmetic in the text."""
        return expression_in(self.text)

    def said(self) -> str | None:
        """What a message is to say."""
        found = _SAID.search(self.text)
        return found[1].strip(" .\"'") if found else self._result

    def take_number(self, name: str) -> int | float | None:
        """The number that the text gives for the field `name`, and only for it."""
        words = [word for word in name_words(name) if len(word) > 1] or [name]
        choice = chosen(self.text) if is_choice(words) else None
        if choice is not None:
            return choice
        for word in words:
            link = (
                r"\s*(?:=|:|\bis\b|\bwas\b|\bof\b|\bto\b|\bby\b|\bat\b)\s*"
                if len(word) == 1
                else r"\s*(?:=|:|\w{2,3}\b)?\s*"
            )
            found = re.search(
                rf"\b{re.escape(stem(word) if len(word) > 3 else word)}\w{{0,3}}\b{link}[$€£]?{_NUM}",
                self.plain,
                re.IGNORECASE,
            )
            if found is None and len(word) > 1:
                units = "|".join(
                    map(re.escape, (*_UNITS.get(stem(word), _UNITS.get(word, ())), word, word.rstrip("s")))
                )
                found = re.search(rf"{_NUM}[\s-]*(?:{units})(?!\w)", self.plain, re.IGNORECASE)
            if found is None and word in ("price", "amount", "cost", "budget"):
                found = re.search(rf"[$€£]\s*{_NUM}", self.plain)
            if found is not None:
                return self._taken(found[1])
        return next((self._taken(str(n)) for n in self.numbers if "year" in words and 1_000 <= n <= 2_999), None)

    def _taken(self, digits: str) -> int | float:
        """A number, no longer among those left."""
        digits = digits.replace(",", "")
        value: int | float = float(digits) if "." in digits else int(digits)
        if value in self.numbers:
            self.numbers.remove(value)
        return value

    def take_text(self, name: str, kind: str | None) -> str | None:
        """The text that the prompt gives for the field `name` of the format `kind`, and only for it."""
        words = name_words(name)
        special = kind or next((_FORMAT_NAMES.get(w, w) for w in words if _FORMAT_NAMES.get(w, w) in _FORMATS), None)
        if special in _FORMATS:
            found = _FORMATS[special].search(self.text)
            if found is not None:
                return self._used(found[0])
            day = _DAYS.search(self.text) if special == "date" and kind is None else None
            return None if day is None else day[0]
        if words[-1:] and words[-1] in _ADDRESSEES and (found := _FORMATS["email"].search(self.text)):
            return self._used(found[0])
        spaced = re.escape(" ".join(words)).replace(r"\ ", "[ _-]?")
        found = re.search(
            rf"\b{spaced}\b(?:\s*[=:]\s*|\s+(?:is|named|called|should be|set to)\s+){_VALUE}",
            self.text,
            re.IGNORECASE,
        )
        if found is not None and len(name) > 1:
            return self._used(found[1].strip("\"'“”`"), whole=True)
        for word in words:
            if word in _AFTER:
                candidate = self._after(_AFTER[word])
                if candidate is not None:
                    return self._used(candidate)
        return self._described(words)

    def _described(self, words: list[str]) -> str | None:
        """The "blond" of "blond hair" for hair_color, the "1.83" of "1.83 meters" for height_in_meters."""
        if len(words) > 1 and words[-1] in ("color", "colour", "type", "style", "size"):
            found = re.search(rf"\b(\w+) {re.escape(words[0])}\b", self.text, re.IGNORECASE)
            return found[1] if found is not None and found[1].lower() not in STOP_WORDS else None
        for word in words:
            found = re.search(rf"{_NUM} {re.escape(word)}\b", self.plain, re.IGNORECASE) if len(word) > 3 else None
            if found is not None:
                self._taken(found[1])
                return found[1]
        return None

    def _after(self, preposition: str) -> str | None:
        """The quotation or name that stands after a preposition."""
        for value in (*self.quoted[:_MOST_TRIED], *self.names[:_MOST_TRIED]):
            if re.search(rf"\b{preposition}\s+(?:the\s+|a\s+)?[\"'“`]?{re.escape(value)}", self.text, re.IGNORECASE):
                return value
        return None

    def _used(self, value: str, *, whole: bool = False) -> str:
        """A text, no longer among those left; `whole` extends it to the name that begins with it."""
        for left in (self.quoted, self.names):
            for each in left:
                if each == value or (whole and each.startswith(value + " ")):
                    left.remove(each)
                    return each
        return value
