"""The workloads that the goals are stated for: seed → the requests of an application, with the assistant's turns."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from .writing import Writer, agent, chat, event, in_order, one_offs, user

WORKLOADS = {}
"""Name → function of the seed that gives the events in order."""


def workload(name):
    def add(function):
        WORKLOADS[name] = lambda seed: in_order(function(Writer(f"{name}/{seed}")))
        return function

    return add


@workload("tool-calling agent")
def growing_agent(w):
    system, tools = [w.text(1_800)], w.tools(12)
    now = 0.0
    for task in range(4):
        for each in agent(w, start=now, turns=w.about(35), name=task, system=system, tools=tools):
            yield each
            now = each.at
        now += 20 + w.gap(90)


@workload("10 conversations at once")
def conversations(w):
    system = [w.text(900)]
    for n in range(10):
        yield from chat(w, start=n * 9.0, turns=15, pause=50, name=n, system=system)


@workload("document, follow-up questions")
def follow_ups(w):
    now = 0.0
    for n in range(8):
        for each in chat(w, start=now, turns=w.about(5), pause=40, name=n, opening=[w.text(w.about(9_000))]):
            yield each
            now = each.at
        now += 20 + w.gap(60)


@workload("document, many users")
def many_users(w):
    document, system = w.text(12_000), [w.text(300)]
    now = 0.0
    for n in range(60):
        yield event(now, n, [user(document, w.text(w.about(60)))], system)
        now += 1 + w.gap(25)


@workload("PDF, many users")
def many_users_of_pdf(w):
    pdf = {"document": {"name": "report", "format": "pdf", "source": {"bytes": w.words(12_000).encode()}}}
    now = 0.0
    for n in range(60):
        yield event(now, n, [user(pdf, w.text(w.about(60)))])
        now += 1 + w.gap(25)


@workload("RAG, fixed instructions")
def rag(w):
    yield from retrieval(w, count=100, system=[w.text(3_000)], pause=25)


def retrieval(w, *, count, system, pause, start=0.0, name="rag"):
    """Yield questions, each with its own passages."""
    now = start
    for n in range(count):
        passages = [w.text(w.about(450, 0.2)) for _ in range(w.about(8, 0.3))]
        yield event(now, f"{name} {n}", [user(*passages, w.text(w.about(40)))], system)
        now += 1 + w.gap(pause)


@workload("60 long one-offs")
def few_one_offs(w):
    yield from one_offs(w, count=60, tokens=8_000, spread=0.5, pause=8)


@workload("60 long one-offs, slow")
def slow_one_offs(w):
    yield from one_offs(w, count=60, tokens=8_000, spread=0.5, pause=120)


@workload("60 long one-offs of one size")
def equal_one_offs(w):
    yield from one_offs(w, count=60, tokens=6_000, spread=0.0, pause=8)


@workload("200 long one-offs")
def many_one_offs(w):
    yield from one_offs(w, count=200, tokens=6_000, spread=0.6, pause=5)


@workload("short prompts")
def short_prompts(w):
    now, system = 0.0, [w.text(250)]
    for n in range(200):
        yield event(now, n, [w.question(150)], system)
        now += w.gap(4)


@workload("chats with pauses of 10-30 minutes")
def paused_chats(w):
    yield from with_pauses(w, lambda: w.rng.uniform(600, 1800))


@workload("chats with pauses of 2 hours")
def long_paused_chats(w):
    yield from with_pauses(w, lambda: w.rng.uniform(6_600, 7_800))


def with_pauses(w, pause):
    for n in range(4):
        opening = [w.text(w.about(5_000))]
        yield from chat(w, start=n * 170.0, turns=12, pause=pause, name=n, opening=opening, answer=500)


def clock(now):
    moment = datetime(2026, 11, 21, 9, tzinfo=timezone.utc) + timedelta(seconds=now)
    return f"It is {moment:%A, %d %B %Y, %H:%M:%S} UTC."


def with_clock(w, system, tools=None):
    for n in range(5):
        yield from chat(w, start=n * 100.0, turns=10, pause=30, name=n, system=system, tools=tools)


@workload("clock in the first system block")
def clock_first(w):
    rules = w.text(2_500)
    yield from with_clock(w, lambda now: [{"text": clock(now)}, rules])


@workload("clock in the only system block")
def clock_inside(w):
    rules = w.words(2_500)
    yield from with_clock(w, lambda now: [{"text": f"{rules}\n{clock(now)}"}])


@workload("clock in the last system block")
def clock_last(w):
    rules = w.text(2_500)
    yield from with_clock(w, lambda now: [rules, {"text": clock(now)}])


@workload("clock behind tools")
def clock_behind_tools(w):
    rules = w.text(1_500)
    yield from with_clock(w, lambda now: [{"text": clock(now)}, rules], w.tools(12))
