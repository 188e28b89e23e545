"""Workloads that no constant was tuned for."""

from __future__ import annotations

from .workloads import retrieval
from .writing import Writer, agent, assistant, chat, event, in_order, one_offs, user

HELD_OUT = {}
"""Name → function of the seed that gives the events in order."""


def held_out(name):
    def add(function):
        HELD_OUT[name] = lambda seed: in_order(function(Writer(f"{name}/{seed}")))
        return function

    return add


@held_out("several applications in one client")
def mixed(w):
    tools, system = w.tools(10), [w.text(1_500)]
    for task in range(3):
        yield from agent(w, start=task * 400.0, turns=25, name=f"agent {task}", system=system, tools=tools)
    yield from one_offs(w, count=40, tokens=7_000, spread=0.5, pause=25, start=30.0)
    yield from retrieval(w, count=50, system=[w.text(2_500)], pause=20, start=10.0)


@held_out("few-shot batch")
def few_shot(w):
    shots = [message for _ in range(12) for message in (w.question(150), w.answer(150))]
    now, system = 0.0, [w.text(400)]
    for n in range(120):
        yield event(now, n, [*shots, w.question(200)], system)
        now += w.gap(3)


@held_out("sliding-window chats")
def sliding(w):
    system = [w.text(1_600)]
    for n in range(4):
        for each in chat(w, start=n * 30.0, turns=30, pause=25, name=n, system=system, answer=350):
            yield event(each.at, n, each.request["messages"][-9:], system)


@held_out("agent with 15 parallel calls")
def parallel_calls(w):
    system, tools = [w.text(1_500)], w.tools(15)
    for task in range(2):
        yield from agent(
            w, start=task * 700.0, turns=18, name=task, system=system, tools=tools, calls=15, result=250, pause=20
        )


@held_out("agent with 3 to 40 parallel calls")
def uneven_calls(w):
    system, tools = [w.text(1_500)], w.tools(8)
    yield from agent(
        w, start=0.0, turns=25, name=0, system=system, tools=tools, calls=lambda: w.rng.randint(3, 40), result=150
    )


@held_out("regenerated answers and branches")
def branches(w):
    system = [w.text(700)]
    for n in range(6):
        turns = list(chat(w, start=0.0, turns=8, pause=30, name=n, system=system, opening=[w.text(3_000)]))
        now = n * 60.0
        for k, each in enumerate(turns):
            yield event(now, n, each.request["messages"], system)
            now += 15 + w.gap(20)
            if w.rng.random() < 0.4:  # the same again, for another answer
                yield event(now, n, each.request["messages"], system)
                now += 10 + w.gap(20)
            if k > 2 and w.rng.random() < 0.4:  # another question in the middle, and on from there
                cut = w.rng.randrange(1, k)
                messages = [*turns[cut].request["messages"][:-1], w.question()]
                yield event(now, n, messages, system)
                now += 10 + w.gap(20)
                yield event(now, n, [*messages, w.answer(), w.question()], system)
                now += 10 + w.gap(20)


@held_out("own system prompt for each user, shared tools")
def personal(w):
    tools = w.tools(14)
    for n in range(20):
        yield from chat(
            w, start=n * 45.0, turns=w.about(5), pause=35, name=n, system=[w.text(w.about(1_200))], tools=tools
        )


@held_out("bursts, an hour apart")
def bursts(w):
    system, document = [w.text(1_500)], w.text(4_000)
    for burst in range(6):
        for n in range(25):
            yield event(burst * 4_000.0 + n * 0.04, f"{burst}/{n}", [user(document, w.text(w.about(150)))], system)


@held_out("bursts, 20 minutes apart")
def closer_bursts(w):
    system = [w.text(2_500)]
    for burst in range(10):
        for n in range(6):
            yield event(burst * 1_200.0 + n * 0.5, f"{burst}/{n}", [user(w.text(w.about(1_500)))], system)


@held_out("map-reduce, document first")
def document_first(w):
    for n in range(10):
        document = w.text(w.about(9_000))
        for k in range(6):
            yield event(n * 40.0 + k * 4, n, [user(document, w.text(w.about(250)))])


@held_out("map-reduce, instruction first")
def instruction_first(w):
    instructions = [w.text(250) for _ in range(6)]
    for n in range(10):
        document = w.text(w.about(9_000))
        for k, instruction in enumerate(instructions):
            yield event(n * 40.0 + k * 4, n, [user(instruction, document)])


@held_out("100 short conversations")
def short_conversations(w):
    system = [w.text(600)]
    for n in range(100):
        yield from chat(
            w, start=n * 12.0, turns=w.rng.randint(2, 3), pause=40, name=n, system=system, question=500, answer=400
        )


@held_out("100 short conversations about texts")
def short_conversations_about_texts(w):
    for n in range(100):
        turns, opening = w.rng.randint(1, 3), [w.text(w.about(4_000))]
        yield from chat(w, start=n * 12.0, turns=turns, pause=40, name=n, opening=opening)


@held_out("habits that change half-way")
def changed(w):
    first = list(one_offs(w, count=80, tokens=7_000, spread=0.4, pause=6))
    yield from first
    now, document = first[-1].at + 60, w.text(9_000)
    for n in range(60):
        yield event(now, f"asked {n}", [user(document, w.text(w.about(60)))])
        now += 1 + w.gap(10)
    yield from one_offs(w, count=60, tokens=7_000, spread=0.4, pause=6, start=now, name="later")


@held_out("tools in another order each time")
def shuffled(w):
    tools, system = w.tools(14)["tools"], [w.text(1_500)]
    for n in range(4):
        for each in chat(w, start=n * 120.0, turns=12, pause=30, name=n, system=system):
            order = w.rng.sample(tools, len(tools))
            yield event(each.at, n, each.request["messages"], system, {"tools": order})


@held_out("each document exactly twice")
def twice(w):
    now = 0.0
    for n in range(40):
        document = w.text(w.about(7_000))
        yield event(now, n, [user(document, w.text(50))])
        yield event(now + 20 + w.gap(30), n, [user(document, w.text(50))])
        now += 15 + w.gap(15)


@held_out("one of four documents twice")
def seldom_twice(w):
    now = 0.0
    for n in range(100):
        document = w.text(w.about(7_000))
        yield event(now, n, [user(document, w.text(50))])
        if w.rng.random() < 0.25:
            yield event(now + 20 + w.gap(30), n, [user(document, w.text(50))])
        now += 10 + w.gap(10)


@held_out("documents asked about every half hour")
def rare(w):
    documents = [w.text(w.about(10_000)) for _ in range(4)]
    for n in range(48):
        yield event(n * 450.0 + w.gap(60), n, [user(documents[n % 4], w.text(60))])


@held_out("documents that are no PDF")
def plain_documents(w):
    source = {"bytes": w.words(8_000).encode()}
    document = {"document": {"name": "notes", "format": "txt", "source": source}}
    system, notes, now = [w.text(300)], {"text": "These are the notes that questions are about."}, 0.0
    for n in range(50):
        yield event(now, n, [user(document, notes, w.text(w.about(60)))], system)
        now += 1 + w.gap(15)


@held_out("agent that thinks aloud")
def thinking(w):
    system, tools = [w.text(1_200)], w.tools(8)
    for each in agent(w, start=0.0, turns=40, name=0, system=system, tools=tools):
        messages = [m if m["role"] == "user" else _thinking(m) for m in each.request["messages"]]
        yield event(each.at, 0, messages, system, tools)


def _thinking(message):
    text, *calls = message["content"]
    return assistant({"reasoningContent": {"reasoningText": {"text": text["text"], "signature": "s"}}}, *calls)


@held_out("one document too long for Nova")
def too_long(w):
    yield from chat(w, start=0.0, turns=10, pause=40, name=0, system=[w.text(1_500)], opening=[w.text(30_000)])
    now, document, system = 1_000.0, [w.text(6_000) for _ in range(6)], [w.text(50)]
    for n in range(25):
        yield event(now, f"user {n}", [user(*document, w.text(60))], system)
        now += w.gap(20)
