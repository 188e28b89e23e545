"""The ways in which LangChain's users call a model, for the tests of counters."""

from __future__ import annotations

from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter

MODELS = {"chat": ChatBedrockRouter, "llm": BedrockRouterLLM}
WAYS = ("invoke", "ainvoke", "stream", "astream")


async def ask(asked, way, question, config=None, **call):
    """Ask, and return the answer; of a stream what its parts add up to."""
    if way == "invoke":
        return asked.invoke(question, config, **call)
    if way == "ainvoke":
        return await asked.ainvoke(question, config, **call)
    if way == "stream":
        parts = list(asked.stream(question, config, **call))
    else:
        parts = [part async for part in asked.astream(question, config, **call)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def errors_of(report):
    """The errors of a report, by kind."""
    return report.to_dict()["totals"]["errors"]
