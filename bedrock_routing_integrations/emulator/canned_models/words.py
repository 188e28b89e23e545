"""Text functions that the canned models share: words, sentences, numbers, names, quotations, facts and arithmetic.

Everything is deterministic and works on plain text with regular expressions. The functions know some English. In
other languages they find only quotations, digits and capital letters.
"""

from __future__ import annotations

import ast
import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)]*\s+")
_NUMBER = re.compile(r"(?<![\w.])(?:(?<![\w)])-)?\d+(?:,\d{3})*(?:\.\d+)?")
_MOST_DIGITS = 20  # what is longer is an identifier
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:T[\d:.]+Z?)?\b|\b\d{1,2}:\d{2}\b")
_QUOTATION = re.compile(
    r'"([^"\n]+)"|“([^”\n]+)”|«\s*([^»\n]+?)\s*»|`([^`\n]+)`|(?<!\w)[\'\u2018]([^\'\u2019\n]+)[\'\u2019](?!\w)'
)
_CAPITALISED = re.compile(r"(?<![^\W_])(?=[^\W\d_])[^a-z\W][\w'\u2019.&-]*")
_JOINS = re.compile(r" |-| (?:of|de|del|la|du|van|von|der|&) ")

_STOP_TEXT = """
a about after all also am an and any are as at be been before being but by can could did do does doing done each for
from get give had has have having he her here hers him his how i if in into is it its just let like me more most my
no not of off on once one only or other our out over please s same she should so some such t tell than thank thanks
that the their them then there these they this those through to too under up us use used user using value very was
we were what when where which while who whom whose why will with would you your yours result results return returns
returned tool tools function functions call calls
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())

# Words that often open an English sentence and are then no names, capital letter or not.
_OPENING_TEXT = """
add answer any apply are ask based book calculate call can check choose classify compare compute context convert
could count create delete describe did divide do does draft explain extract fetch find for from generate get give
hello hey hi how i i'd i'll i'm if in is it it's its let list look make may multiply my name no now of ok okay on
open pick plan please play provide query question read record remind remove return run save say search send set show
should start stop subtract sum summarise summarize take tell thank thanks that the their then there these they this
today tomorrow translate turn two update use user using was we were what what's when where where's which who who's
why will with would write yes you you're your
"""
_OPENERS = frozenset(_OPENING_TEXT.split())

_TO_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100}
_NUMBER_WORDS = {word: value for value, word in enumerate(_TO_TWENTY)} | _TENS
_WRITTEN = re.compile(rf"\b({'|'.join(word for word in _NUMBER_WORDS if word != 'one')})\b", re.IGNORECASE)


def stem(word: str) -> str:
    """A word without its plural or verbal ending, in lower case: enough for words to meet."""
    word = word.lower()
    for ending in ("'s", "\u2019s", "ies", "ing", "es", "ed", "er", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word


def key_words(text: str) -> list[str]:
    """The words of `text` that carry meaning, in order, each once, as they are written."""
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        lower = word.lower().removesuffix("'s").removesuffix("\u2019s")
        if lower not in STOP_WORDS and (len(word) > 1 or not word.isascii()):
            found.setdefault(lower, word)
    return list(found.values())


def stems(text: str) -> frozenset[str]:
    """The stems of the key words of `text`; identifiers are taken apart at `_` and at capitals."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " "))
    return frozenset(stem(word) for word in key_words(apart))


def sentences(text: str) -> list[str]:
    """The sentences of `text`; a line ends one too, unless the next line goes on in lower case."""
    paragraphs: list[list[str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if paragraphs and line[0].islower() and not paragraphs[-1][-1].endswith((".", "!", "?", ":", ";")):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([line])
    return [piece for lines in paragraphs for piece in _SENTENCE_END.split(" ".join(lines)) if piece]


def best_sentences(texts: Iterable[str], question: str, *, most: int = 2) -> list[str]:
    """Return the sentences that share most stems with a question, best first.

    A rare stem counts for more than a stem that many sentences contain.

    Args:
        texts: The texts to search.
        question: The question.
        most: The most sentences to return, 2 by default.

    Returns:
        The sentences; empty if none shares a stem with the question.
    """
    wanted = stems(question)
    candidates = [(sentence, stems(sentence) & wanted) for text in texts for sentence in sentences(text)]
    frequency: dict[str, int] = {}
    for _, common in candidates:
        for word in common:
            frequency[word] = frequency.get(word, 0) + 1
    scored = [
        (sum(1 / frequency[word] + 0.5 for word in common), -position, sentence)
        for position, (sentence, common) in enumerate(candidates)
        if common and not sentence.endswith("?")
    ]
    scored.sort(reverse=True)
    if not scored:
        return []
    best = scored[0][0]
    return list(dict.fromkeys(sentence for score, _, sentence in scored[:most] if score >= 0.6 * best))


def written_numbers_to_digits(text: str) -> str:
    """Two to twenty, the tens and hundred as digits ("one" is left: it is a pronoun more often than a number)."""
    return _WRITTEN.sub(lambda match: str(_NUMBER_WORDS[match[1].lower()]), text)


def numbers(text: str) -> list[int | float]:
    """The numbers of `text` in order, written ones too; "1,000" is a thousand; dates do not count."""
    plain = _DATE.sub(" ", written_numbers_to_digits(text))
    digits = (match.replace(",", "") for match in _NUMBER.findall(plain))
    return [float(each) if "." in each else int(each) for each in digits if len(each) <= _MOST_DIGITS]


def quotations(text: str) -> list[str]:
    """Return the texts in quotation marks or backticks, in order."""
    return [next(filter(None, groups)).strip() for groups in _QUOTATION.findall(text)]


def entities(text: str) -> list[str]:
    """Names in `text`, in order, each once: runs of capitalised words that are not just a sentence's opening.

    "San Francisco, CA" is one name, "Paris, London and Tokyo" are three.
    """
    found: list[str] = []
    end = -1  # where the name before ended; -1 when nothing can be joined to it
    for match in _CAPITALISED.finditer(text):
        word = match[0].rstrip(".-'\u2019").removesuffix("'s").removesuffix("\u2019s")
        if not word[0].isupper() or _only_opens_a_sentence(word, text[: match.start()]):
            end = -1
            continue
        gap = text[end : match.start()] if end >= 0 else ""
        if _JOINS.fullmatch(gap) or (gap == ", " and len(word) == 2 and word.isupper()):
            found[-1] += gap + word
        else:
            found.append(word)
        end = match.start() + len(word)
    return list(dict.fromkeys(found))


def _only_opens_a_sentence(word: str, before: str) -> bool:
    """Return whether a capitalised word only opens a sentence and is not a name.

    These words are the usual openers, and -ing forms at the start of a sentence.
    """
    if word.lower() in _OPENERS:
        return True
    opening = not before.strip(" \"'“\u2018(") or before.rstrip(" \"'“\u2018(").endswith((".", "!", "?", ":", "\n"))
    return opening and word.endswith("ing")


# --- Facts and translations. `True` marks facts that only a larger model knows ---

CAPITALS: dict[str, tuple[str, bool]] = {
    "france": ("Paris", False),
    "germany": ("Berlin", False),
    "italy": ("Rome", False),
    "spain": ("Madrid", False),
    "portugal": ("Lisbon", False),
    "the united kingdom": ("London", False),
    "england": ("London", False),
    "ireland": ("Dublin", False),
    "japan": ("Tokyo", False),
    "china": ("Beijing", False),
    "india": ("New Delhi", False),
    "russia": ("Moscow", False),
    "egypt": ("Cairo", False),
    "greece": ("Athens", False),
    "mexico": ("Mexico City", False),
    "the united states": ("Washington, D.C.", False),
    "the usa": ("Washington, D.C.", False),
    "austria": ("Vienna", False),
    "poland": ("Warsaw", False),
    "sweden": ("Stockholm", False),
    "norway": ("Oslo", False),
    "brazil": ("Brasília", True),
    "australia": ("Canberra", True),
    "canada": ("Ottawa", True),
    "switzerland": ("Bern", True),
    "turkey": ("Ankara", True),
    "new zealand": ("Wellington", True),
    "morocco": ("Rabat", True),
    "kenya": ("Nairobi", True),
    "nigeria": ("Abuja", True),
    "kazakhstan": ("Astana", True),
    "bhutan": ("Thimphu", True),
    "ecuador": ("Quito", True),
}

# The stems of every word of a key must be in the question.
FACTS: dict[str, tuple[str, bool]] = {
    "largest planet": ("Jupiter is the largest planet of the solar system.", False),
    "speed light": ("Light travels at 299,792,458 metres per second in a vacuum.", False),
    "boil water temperature": ("Water boils at 100 °C (212 °F) at sea level.", False),
    "days year": ("A year has 365 days, a leap year 366.", False),
    "days week": ("A week has seven days.", False),
    "color sky": ("The sky is blue.", False),
    "colour sky": ("The sky is blue.", False),
    "highest mountain": ("Mount Everest is the highest mountain, 8,849 metres above the sea.", False),
    "tallest mountain": ("Mount Everest is the tallest mountain, 8,849 metres above the sea.", False),
    "wrote hamlet": ("William Shakespeare wrote Hamlet.", False),
    "wrote romeo juliet": ("William Shakespeare wrote Romeo and Juliet.", False),
    "painted mona lisa": ("Leonardo da Vinci painted the Mona Lisa.", False),
    "first moon": ("Neil Armstrong was the first person on the Moon, in 1969.", False),
    "meaning life": ("42, according to a well-known computer.", False),
    "chemical symbol gold": ("The chemical symbol for gold is Au.", True),
    "largest ocean": ("The Pacific is the largest ocean.", False),
    "many continents": ("There are seven continents.", False),
    "photosynthesis": (
        "Photosynthesis is how plants turn light, water and carbon dioxide into sugar and oxygen.",
        True,
    ),
    "amazon bedrock": (
        "Amazon Bedrock is a managed service that offers foundation models of several providers through one API.",
        False,
    ),
    "prompt router": (
        "A prompt router is one endpoint before two models; it picks the cheaper one where that is good enough.",
        True,
    ),
}

TRANSLATIONS: dict[str, dict[str, str]] = {
    "french": {
        "hello": "bonjour",
        "good morning": "bonjour",
        "goodbye": "au revoir",
        "thank you": "merci",
        "yes": "oui",
        "no": "non",
        "cat": "chat",
        "dog": "chien",
        "water": "eau",
        "how are you": "comment allez-vous",
        "i love you": "je t'aime",
        "i love programming": "j'aime programmer",
    },
    "spanish": {
        "hello": "hola",
        "good morning": "buenos días",
        "goodbye": "adiós",
        "thank you": "gracias",
        "yes": "sí",
        "no": "no",
        "cat": "gato",
        "dog": "perro",
        "water": "agua",
        "how are you": "cómo estás",
        "i love you": "te quiero",
        "i love programming": "me encanta programar",
    },
    "german": {
        "hello": "hallo",
        "good morning": "guten Morgen",
        "goodbye": "auf Wiedersehen",
        "thank you": "danke",
        "yes": "ja",
        "no": "nein",
        "cat": "Katze",
        "dog": "Hund",
        "water": "Wasser",
        "how are you": "wie geht es dir",
        "i love you": "ich liebe dich",
        "i love programming": "ich liebe Programmieren",
    },
    "italian": {
        "hello": "ciao",
        "good morning": "buongiorno",
        "goodbye": "arrivederci",
        "thank you": "grazie",
        "yes": "sì",
        "no": "no",
        "cat": "gatto",
        "dog": "cane",
        "water": "acqua",
        "how are you": "come stai",
        "i love you": "ti amo",
        "i love programming": "amo programmare",
    },
}


# --- Choices from a numbered list ---

_ITEM = re.compile(r"^[ \t]*\(?(\d{1,3})[.)]\s+(\S.*)$", re.MULTILINE)
_CHOICE = frozenset(("choice", "index", "option", "selection"))


def is_choice(words: list[str]) -> bool:
    """Return whether a field with these words in its name takes the number of an item."""
    return not _CHOICE.isdisjoint(words[-1:])


def chosen(text: str) -> int | None:
    """The number of the item that shares most words with the question after the list, the first of equals.

    None where the text has no list of at least two items, numbered from 1.
    """
    items = list(_ITEM.finditer(text))
    if len(items) < 2 or [int(item[1]) for item in items] != list(range(1, len(items) + 1)):
        return None
    rest = text[items[-1].end() :]
    question = stems((quotations(rest) or [rest])[0])
    best = max(items, key=lambda item: len(stems(item[2]) & question))
    return int(best[1])


# --- Arithmetic ---

_SIGNED = re.compile(r"(?<![\w.])[(\s]*-?[\d(][\d\s.,()]*(?:\s*(?:\*\*|[-+*/%^\u00d7÷\u2212])\s*[-\d(][\d\s.,()]*)+")
_N = r"(-?\d+(?:\.\d+)?)"
_IN_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (rf"\bsubtract {_N} from {_N}", r"\2 - \1"),
        (rf"\b(?:add|sum of|total of|sum) {_N}(?: and|,| to| with) {_N}", r"\1 + \2"),
        (rf"\bdifference (?:between|of) {_N} and {_N}", r"\1 - \2"),
        (rf"\b(?:multiply|product of) {_N}(?: and| by| with|,) {_N}", r"\1 * \2"),
        (rf"\b(?:divide|quotient of) {_N}(?: and| by|,) {_N}", r"\1 / \2"),
        (rf"\bsquare root of {_N}", r"\1 ** 0.5"),
        (rf"\b{_N} (?:percent|%) of {_N}", r"\1 / 100 * \2"),
        (rf"{_N}% of {_N}", r"\1 / 100 * \2"),
        (rf"\b{_N} squared\b", r"\1 ** 2"),
        (rf"\b{_N} cubed\b", r"\1 ** 3"),
        (r"(?<=\d) (?:plus|added to) (?=-?\d)", " + "),
        (r"(?<=\d) minus (?=-?\d)", " - "),
        (r"(?<=\d) (?:times|multiplied by|x) (?=-?\d)", " * "),
        (r"(?<=\d)\s?[x\u00d7]\s?(?=\d)", " * "),
        (r"(?<=\d) (?:divided by|over) (?=-?\d)", " / "),
        (r"(?<=\d) (?:to the power of|raised to) (?=-?\d)", " ** "),
        (r"(?<=\d) (?:modulo|mod) (?=-?\d)", " % "),
    )
)
_TELEPHONE = re.compile(r"\d{3,}(?:-\d{3,})+")
_HINT = re.compile(r"\d")
_MOST_CHARACTERS = 200
_LARGEST_POWER = 64

_OPERATIONS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def expression_in(text: str) -> str | None:
    """The first arithmetic expression in `text`, in signs that Python reads; None where there is none.

    Dates and telephone numbers are none: a `-` without blanks counts only between two numbers that
    stand alone.
    """
    if not _HINT.search(text) and not _HINT.search(written_numbers_to_digits(text[:_MOST_CHARACTERS])):
        return None
    text = re.sub(r"\b\d{4}-\d{2}-\d{2}\b", " ", written_numbers_to_digits(text[:2_000]))
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    for pattern, replacement in _IN_WORDS:
        text = pattern.sub(replacement, text)
    for match in _SIGNED.finditer(text):
        expression = match[0].strip(" ,.\n")
        while expression.count("(") > expression.count(")") and expression.startswith("("):
            expression = expression[1:].lstrip()
        while expression.count(")") > expression.count("(") and expression.endswith(")"):
            expression = expression[:-1].rstrip()
        signs = str.maketrans({"^": "**", "\u00d7": "*", "÷": "/", "\u2212": "-"})
        expression = expression.translate(signs)
        if evaluate(expression) is not None and not _TELEPHONE.fullmatch(expression):
            return expression
    return None


def evaluate(expression: str) -> int | float | None:
    """Return the value of an expression of numbers, `+ - * / % **` and brackets; None if it has none."""
    if len(expression) > _MOST_CHARACTERS:
        return None
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        ZeroDivisionError,
        OverflowError,
        RecursionError,
        MemoryError,
    ):
        return None
    if isinstance(value, complex) or value != value or abs(value) > 1e30:  # noqa: PLR0124 - NaN differs from itself
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(node: ast.expr) -> int | float:
    """The value of one node; ValueError for anything that is not arithmetic."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return -_value(node.operand) if isinstance(node.op, ast.USub) else _value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > _LARGEST_POWER or abs(left) > 1e6):
            raise ValueError("too large a power")
        return _OPERATIONS[type(node.op)](left, right)
    raise ValueError("not arithmetic")


def shown(value: float) -> str:
    """A number as people write it: thousands with commas, at most six decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{round(value, 6):,}"
