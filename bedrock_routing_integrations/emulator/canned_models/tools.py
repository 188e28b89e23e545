"""Choose tool calls and their arguments, and describe tool results in text.

A question is split into clauses. Each clause goes to the tool whose name, description and parameters share most words
with the clause. Adjacent clauses are called in parallel; clauses joined by "then" or mentioning "the result" are called
one after the other. A question that names several values for a tool of one parameter calls the tool once for each.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .reading import Outcome, Reading, Tool
from .schema_values import Clues, fill, fits, is_answer_like, is_free_text, name_words, resolve, types_of
from .words import best_sentences, expression_in, numbers, stems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


# --- Arithmetic by tools ---

_WORDS = {
    sign: frozenset(words.split())
    for sign, words in {
        "+": "add adds adder adding addition plus sum sums",
        "-": "subtract subtracts subtraction minus difference",
        "*": "multiply multiplies multiplication times product mul",
        "/": "divide divides division quotient div",
        "**": "power exponent exponentiate pow square",
        "any": "calculate calculates calculator calculation compute math maths arithmetic evaluate expression",
    }.items()
}
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}


def sign_of(text: str) -> str | None:
    """The sign of the arithmetic in a text, the strongest of several; None without arithmetic."""
    expression = expression_in(text)
    return next((sign for sign in ("**", "*", "/", "+", "-") if expression and sign in expression), None)


def calculates(tool: Tool, sign: str) -> bool:
    """Return whether a tool's name or description mentions an operation.

    Args:
        tool: The tool.
        sign: The sign of the operation, or "any" for calculating in general.
    """
    in_name = set(name_words(tool.name)) & _WORDS[sign]
    return bool(in_name or set(re.findall(r"[a-z]+", tool.description.lower())) & _WORDS[sign])


def calculation_calls(reading: Reading) -> list[tuple[str, dict[str, Any]]] | None:
    """The calls that bring the question's expression nearer to its value; none of them when it has one.

    Returns:
        None where this is not the way to answer: fewer than two operations, or no tool of two numbers for one of them.
    """
    expression = expression_in(reading.question)
    if expression is None:
        return None
    tree = ast.parse(expression, mode="eval").body
    operations = [node.op for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    tools = {type(op): _calculation_tool_for(type(op), reading.tools) for op in operations}
    if len(operations) <= 1 or any(tool is None for tool in tools.values()):
        return None
    if len(reading.outcomes) >= len(operations):
        return []  # every operation has had its call, whatever came of it
    return _Calculation(reading, {kind: tool for kind, tool in tools.items() if tool is not None}).calls(tree)


def _calculation_tool_for(operation: type[ast.operator], tools: tuple[Tool, ...]) -> Tool | None:
    """Return the tool of exactly two numbers for an operation, matched by name first, then by description."""
    sign = _SIGNS.get(operation)
    able = [tool for tool in tools if sign and len(_number_parameters(tool)) == 2 and calculates(tool, sign)]
    able.sort(key=lambda tool: not set(name_words(tool.name)) & _WORDS[sign or "any"])
    return able[0] if able else None


def _number_parameters(tool: Tool) -> list[str]:
    """The names of a tool's parameters if all are numbers; else none."""
    properties = tool.schema.get("properties") or {}
    kinds = {types_of(resolve(schema, tool.schema)) for schema in properties.values()}
    return list(properties) if kinds <= {"integer", "number"} else []


class _Calculation:
    """An expression being worked out with tools, given what they have returned so far."""

    def __init__(self, reading: Reading, tools: dict[type[ast.operator], Tool]) -> None:
        self._outcomes = list(reading.outcomes)
        self._tools = tools
        self._calls: list[tuple[str, dict[str, Any]]] = []

    def calls(self, tree: ast.expr) -> list[tuple[str, dict[str, Any]]]:
        """The calls whose operands are known and whose results are not."""
        self._value(tree)
        return self._calls

    def _value(self, node: ast.expr) -> float | None:
        """Return the value of a node if the tool results suffice; else record the call to make."""
        if isinstance(node, ast.UnaryOp):
            inner = self._value(node.operand)
            return -inner if inner is not None and isinstance(node.op, ast.USub) else inner
        if not isinstance(node, ast.BinOp):
            return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) else None
        left, right = self._value(node.left), self._value(node.right)
        if left is None or right is None:
            return None
        tool = self._tools[type(node.op)]
        arguments = dict(zip(_number_parameters(tool), (left, right), strict=True))
        for outcome in self._outcomes:
            if outcome.name == tool.name and dict(outcome.arguments) == arguments:
                self._outcomes.remove(outcome)
                found = numbers(outcome.text)
                return found[-1] if found else None
        self._calls.append((tool.name, arguments))
        return None


_ENOUGH = 3  # minimum score of a tool to be called unforced; one word of the tool's name reaches it
_SPLIT = re.compile(
    r"(?<=[.!?])\s+(?=[A-Z])|[,;]?\s+(?:and )?(then|after that|afterwards|finally)[,\s]\s*"
    r"|;\s+|,\s+and\s+|\s+and\s+(?:also\s+)?|\s+also\s+",
    re.IGNORECASE,
)
_RESULT_WORDS = re.compile(
    r"\b(?:the (?:result|sum|answer|product|total|output|outcome|difference)|it|that|this)\b", re.IGNORECASE
)
_USE_TOOLS = re.compile(r"\b(?:use|using|call|with)\b[^.!?]{0,40}\btools?\b", re.IGNORECASE)
_SEARCH = re.compile(r"(?:\b|_)(?:search|retriev\w*|look ?up|find information|knowledge base)", re.IGNORECASE)
_SEARCHABLE = 2  # words of meaning that a question must have to be worth a search
_LONG_RESULT = 600  # characters, from which on a result is searched instead of quoted


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A call that the question asks for."""

    tool: Tool
    clause: str
    waits: bool  # for the results of the steps before it


def tool_blocks(reading: Reading, answer: Callable[[], str]) -> list[dict[str, Any]]:
    """The toolUse blocks that come next; none when the question needs no tool, or no more.

    Args:
        reading: The request.
        answer: How to answer the question in words, for tools whose fields want an answer.
    """
    if not reading.tools:
        return []
    if reading.choice == "tool":
        forced = next(tool for tool in reading.tools if tool.name == reading.forced_tool)
        calls = [_call(forced, _all_that_is_known(reading), answer)]
    else:
        calls = _planned(reading, answer)
        if not calls and reading.choice == "any":
            calls = [_call(_any_tool(reading), _all_that_is_known(reading), answer)]
    return [
        {
            "toolUse": {
                "toolUseId": _tool_use_id(reading, index, name, arguments),
                "name": name,
                "input": arguments,
            }
        }
        for index, (name, arguments) in enumerate(calls)
    ]


def _tool_use_id(reading: Reading, index: int, name: str, arguments: Any) -> str:
    """An id that the same request always gets and no other call of the conversation has."""
    content = [
        reading.calls_before,
        reading.messages,
        index,
        name,
        arguments,
        reading.question,
        len(reading.outcomes),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8", "replace")).digest()
    return "tooluse_" + base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def _any_tool(reading: Reading) -> Tool:
    """The tool for a call that must be made: one not called yet, the last of those once there are results."""
    called = {outcome.name for outcome in reading.outcomes}
    fresh = [tool for tool in reading.tools if tool.name not in called] or list(reading.tools)
    if called:
        return fresh[-1]  # agents append the tool that takes the final answer
    question_stems, sign = stems(reading.question), sign_of(reading.question)
    return max(fresh, key=lambda tool: _score(tool, reading.question, question_stems, sign))


def _planned(reading: Reading, answer: Callable[[], str]) -> list[tuple[str, dict[str, Any]]]:
    """The calls of the next round, by the steps of the question that have no result yet."""
    made: dict[str, int] = {}
    for outcome in reading.outcomes:
        made[outcome.name] = made.get(outcome.name, 0) + 1
        if outcome.failed and outcome is reading.outcomes[-1]:
            return []  # what failed is reported, not tried for ever
    calculation = calculation_calls(reading)
    if calculation is not None:
        return calculation
    calls: list[tuple[str, dict[str, Any]]] = []
    for step in _steps(reading):
        wanted = _calls_of(step, reading, answer, waiting=bool(calls))
        done = min(made.get(step.tool.name, 0), len(wanted))
        made[step.tool.name] = made.get(step.tool.name, 0) - done
        if done == len(wanted):
            continue
        if step.waits and calls:
            break
        calls += wanted[done:]
    return calls


def _steps(reading: Reading) -> list[_Step]:
    """The clauses of the question with their tools; a clause without a tool belongs to the one before it."""
    steps: list[_Step] = []
    pending = ""
    must = _USE_TOOLS.search(reading.question) is not None
    clauses = _clauses(reading.question)
    for clause, after_then in clauses:
        tool = _tool_for(clause, reading.tools, least=_ENOUGH)
        if tool is None and steps and not (after_then and numbers(clause)):
            last = steps[-1]
            steps[-1] = _Step(tool=last.tool, clause=f"{last.clause} and {clause}", waits=last.waits)
        elif tool is None:
            pending = f"{pending} {clause}".strip()
        else:
            waits = bool(steps) and (after_then or _RESULT_WORDS.search(clause) is not None)
            steps.append(_Step(tool=tool, clause=f"{pending} {clause}".strip(), waits=waits))
            pending = ""
    if not steps:
        tool = _tool_for(reading.question, reading.tools, least=0 if must else _ENOUGH) or _searcher(reading)
        return [] if tool is None else [_Step(tool=tool, clause=reading.question, waits=False)]
    return steps if len(steps) > 1 else [_Step(tool=steps[0].tool, clause=reading.question, waits=False)]


def _searcher(reading: Reading) -> Tool | None:
    """A tool that finds things out, for a question that no tool is made for."""
    question = reading.question.strip()
    if not question.endswith("?") or len(stems(question)) < _SEARCHABLE or reading.documents:
        return None
    return next((tool for tool in reading.tools if _SEARCH.search(f"{tool.name} {tool.description}")), None)


def _clauses(question: str) -> list[tuple[str, bool]]:
    """The clauses of a question, each with whether a "then" stands before it. A long text is one clause."""
    if len(question) > 1_000:
        return [(question, False)]
    found: list[tuple[str, bool]] = []
    start, after_then = 0, False
    for match in _SPLIT.finditer(question):
        found.append((question[start : match.start()].strip(), after_then))
        start, after_then = match.end(), match[1] is not None
    found.append((question[start:].strip(), after_then))
    return [(clause, then) for clause, then in found if clause]


def _tool_for(text: str, tools: Sequence[Tool], *, least: int) -> Tool | None:
    """The tool with most in common with a text, the first of equals; None below `least`."""
    text_stems, sign = stems(text), sign_of(text)
    best = max(tools, key=lambda tool: _score(tool, text, text_stems, sign))
    return best if _score(best, text, text_stems, sign) >= least else None


def _score(tool: Tool, text: str, text_stems: frozenset[str], sign: str | None) -> int:
    """3 for each word of the name, 1 for those of description and parameters, much for being named or for its sign."""
    properties = tool.schema.get("properties") or {}
    in_name = stems(tool.name)
    score = 3 * len(in_name & text_stems)
    score += len((stems(tool.description) | stems(" ".join(properties))) & (text_stems - in_name))
    if re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", text) is not None:
        score += 20
    if sign is not None:
        score += 6 if calculates(tool, sign) else 5 if calculates(tool, "any") else 0
    return score


def _calls_of(
    step: _Step, reading: Reading, answer: Callable[[], str], *, waiting: bool
) -> list[tuple[str, dict[str, Any]]]:
    """The calls of one step: one, or one for each of several names."""
    clause, result = step.clause, None
    if step.waits and reading.outcomes and not waiting:
        result = reading.outcomes[-1].text
        if _takes_numbers(step.tool) and numbers(result):
            clause = _with_number(clause, str(numbers(result)[-1]))
    name = _single_name_parameter(step.tool)
    if name is not None:
        clues = _clues(step.tool, clause, answer)
        things = clues.quoted or clues.names
        schema = step.tool.schema["properties"][name]
        if len(things) > 1 and all(fits(thing, schema, step.tool.schema) for thing in things):
            return [_call(step.tool, thing, answer, given={name: thing}) for thing in things]
    return [_call(step.tool, clause, answer, result=result)]


def _takes_numbers(tool: Tool) -> bool:
    """Return whether a tool has a parameter for a number."""
    schemas = (resolve(schema, tool.schema) for schema in (tool.schema.get("properties") or {}).values())
    return any(types_of(schema) in ("integer", "number") for schema in schemas)


def _with_number(clause: str, number: str) -> str:
    """A clause with a result in the place of "it" or "the result", or before it."""
    replaced = _RESULT_WORDS.sub(number, clause)
    return replaced if number in replaced else f"{number} {replaced}"


def _single_name_parameter(tool: Tool) -> str | None:
    """The name of a tool's only text parameter, if it is required and takes a name rather than free text."""
    properties = tool.schema.get("properties") or {}
    texts = [
        name
        for name, schema in properties.items()
        if types_of(resolve(schema, tool.schema)) == "string" and "enum" not in resolve(schema, tool.schema)
    ]
    if len(texts) != 1 or texts[0] not in (tool.schema.get("required") or ()):
        return None
    schema = resolve(properties[texts[0]], tool.schema)
    return None if is_free_text(texts[0], schema) or is_answer_like(texts[0]) or "format" in schema else texts[0]


def _clues(tool: Tool, text: str, answer: Callable[[], str], result: str | None = None) -> Clues:
    """Return the values that a text offers to a tool, without the words of the tool's name and parameters."""
    parameters = " ".join(tool.schema.get("properties") or {})
    return Clues(text, ignore=stems(f"{tool.name} {parameters}"), answer=answer, result=result)


def _call(
    tool: Tool,
    text: str,
    answer: Callable[[], str],
    *,
    given: dict[str, Any] | None = None,
    result: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return a call: the tool's name, and arguments that fit the tool's schema."""
    properties = tool.schema.get("properties") or {}
    written = {**_written_arguments(tool, text), **(given or {})}
    fitting = {name: value for name, value in written.items() if fits(value, properties[name], tool.schema)}
    left = {name: schema for name, schema in properties.items() if name not in fitting}
    required = [name for name in tool.schema.get("required") or () if name not in fitting]
    rest = {**tool.schema, "type": "object", "properties": left, "required": required}
    filled = fill(rest, _clues(tool, text, answer, result))
    values = {**(filled if isinstance(filled, dict) else {}), **fitting}
    return tool.name, {name: values[name] for name in (*properties, *values) if name in values}


def _all_that_is_known(reading: Reading) -> str:
    """The question and what the tools have returned, shortened."""
    return "\n".join([reading.question, *(outcome.text[:_LONG_RESULT] for outcome in reading.outcomes)])


def _written_arguments(tool: Tool, text: str) -> dict[str, Any]:
    """The arguments of a call that the text writes out: `tool(3, unit="celsius")`."""
    found = re.search(rf"(?<!\w){re.escape(tool.name)}\(([^()]*)\)", text)
    if found is None:
        return {}
    names = list(tool.schema.get("properties") or {})
    arguments: dict[str, Any] = {}
    for index, part in enumerate(filter(None, map(str.strip, found[1].split(",")))):
        key, assigned, value = part.partition("=")
        name = key.strip() if assigned else names[index] if index < len(names) else ""
        if name in names:
            arguments[name] = _literal((value if assigned else part).strip())
    return arguments


def _literal(text: str) -> Any:
    """A written argument as the value it means."""
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text.strip("\"'"))


def tool_result_text(reading: Reading) -> str:
    """Return the tool results in text."""
    lines = [_told(outcome, reading.question) for outcome in reading.outcomes]
    if len(lines) == 1:
        return lines[0]
    return "Here is what the tools returned:\n" + "\n".join(f"- {line}" for line in lines)


def _told(outcome: Outcome, question: str) -> str:
    """Return a result in text: quoted, or the sentences of it that match the question."""
    given = ", ".join(str(value) for value in outcome.arguments.values() if isinstance(value, (str, int, float)))
    called = f"{outcome.name} ({given})" if given and len(given) <= 80 else outcome.name
    if outcome.failed:
        return f"The tool {called} failed: {outcome.text}"
    text = _plain(outcome.text)
    if len(text) > _LONG_RESULT:
        text = " ".join(best_sentences([text], question, most=3)) or text[:_LONG_RESULT] + "…"
    return f"{called} says: {text}" if text else f"{called} returned nothing."


def _plain(text: str) -> str:
    """A result as text: the one value of a JSON object stands for it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- Agents in words ---

_TOOL = re.compile(
    r"^> Tool Name: (\S+)\nTool Description: (.*?)\nTool Args: (\{.*?\})$", re.MULTILINE | re.DOTALL | re.IGNORECASE
)
_ACTION = re.compile(r"Action: (\S+)\s*\nAction Input: (\{.*\})", re.DOTALL)
_OBSERVATION = "Observation:"


def react_text(reading: Reading, answer: Callable[[Reading], str]) -> str | None:
    """The next step: an action, or the answer; None where the system prompt does not ask for that format.

    Args:
        reading: The request.
        answer: How to answer in words, given the tools' results.
    """
    if "Action Input:" not in reading.system or reading.tools:
        return None
    tools = tuple(_tools(reading.system))
    if not tools:
        return None
    said = [*reading.said, reading.question]
    asked_at = max((index for index, text in enumerate(said) if not text.startswith(_OBSERVATION)), default=0)
    observed = [text.removeprefix(_OBSERVATION).strip() for text in said[asked_at + 1 :]]
    actions = [found for text in reading.answered if (found := _ACTION.search(text))]
    asked = dataclasses.replace(
        reading,
        question=said[asked_at],
        said=tuple(said[:asked_at]),
        tools=tools,
        outcomes=tuple(_outcomes(actions[len(actions) - len(observed) :], observed)),
    )
    calls = tool_blocks(asked, lambda: answer(asked))
    if not calls:
        return f"Thought: I can answer without using any more tools.\nAnswer: {answer(asked)}"
    call = calls[0]["toolUse"]
    arguments = json.dumps(call["input"], ensure_ascii=False)
    return f"Thought: I need to use {call['name']}.\nAction: {call['name']}\nAction Input: {arguments}"


def _tools(system: str) -> Iterator[Tool]:
    for name, description, schema in _TOOL.findall(system):
        yield Tool(name=name, description=description, schema=_object(schema))


def _outcomes(actions: list[re.Match[str]], observed: list[str]) -> Iterator[Outcome]:
    for action, text in zip(actions, observed, strict=False):
        yield Outcome(name=action[1], arguments=_object(action[2]), text=text, failed=text.startswith("Error"))


def _object(text: str) -> dict[str, Any]:
    """The JSON object in a text; an empty one where it holds none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
