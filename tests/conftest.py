"""Give every test an AWS environment of its own, without state of the test before."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import socket
from collections import defaultdict

import boto3
import pytest
from botocore.loaders import JSONFileLoader, Loader
from cached_calls import a_world
from hypothesis import HealthCheck, settings
from recorded_bedrock import RecordedBedrock

from bedrock_routing_integrations.connections.clients import ClientStore
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME
from bedrock_routing_integrations.transport.threads import ThreadPool

# Up to Python 3.13, asyncio.get_event_loop() in the main thread creates a loop if there never was one. Both
# llama-index-core's `asyncio_run` and pytest-asyncio call it, no code closes the loop, and the test that happens to run
# when it is collected fails. After set_event_loop(None) Python creates none, as from 3.14 on: callers make their own.
asyncio.set_event_loop(None)


# Few examples, always the same ones. CI tries many, also always the same: --hypothesis-profile=sweep. To look for new
# failures, try others each time: --hypothesis-profile=explore.
settings.register_profile(
    "fast", max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "sweep", max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fast")


def pytest_xdist_auto_num_workers(config):
    """Return how many processes run the tests: one for each core, up to eight, for the whole suite; else this one."""
    whole_suite = config.args == config.getini("testpaths")
    return min(os.cpu_count() or 1, 8) if whole_suite and not config.option.collectonly else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave cases of a test to the sweep, the same ones each time: all but as many as `sample` states, by default 5."""
    cases = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    for test in cases.values():
        marker = test[0].get_closest_marker("sample")
        number = marker.args[0] if marker else 5
        for item in random.Random(0).sample(test, max(0, len(test) - number)):
            item.add_marker("sweep")


def pytest_collection_finish():
    # What is there by now stays, nine thousand tests and all that they import: no collection need look at it again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _service_models_read_once():
    """Let all boto3 sessions share what botocore reads of its data: each would take 0.1 s to read it again."""
    load_file, list_services = JSONFileLoader.load_file, Loader.list_available_services
    read = functools.cache(lambda path: load_file(JSONFileLoader(), path))
    listed = {}

    def list_available_services(loader, type_name):
        key = (*loader.search_paths, type_name)
        if key not in listed:
            listed[key] = list_services(loader, type_name)
        return listed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        patch.setattr(Loader, "list_available_services", list_available_services)
        yield


@pytest.fixture(scope="session")
def missing_aws_files(tmp_path_factory):
    """Return the paths of AWS files that do not exist."""
    return tmp_path_factory.mktemp("nobody")


@pytest.fixture(autouse=True)
def _own_environment(request, monkeypatch, missing_aws_files):
    for name in list(os.environ):
        if name.startswith(("AWS_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    # No file of the machine's user, but those that a test writes; and no instance metadata service.
    files = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else missing_aws_files
    monkeypatch.setenv("AWS_CONFIG_FILE", str(files / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # boto3 keeps one, with the credentials of the first test
    DEFAULT_RUNTIME.reset(keep=[ClientStore, ThreadPool])


class Port:
    """A free port, replaced by another if a request of an earlier test may still arrive there."""

    def __init__(self):
        self.leave()

    def leave(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.number = free.getsockname()[1]


@pytest.fixture(scope="session")
def port():
    return Port()


@pytest.fixture
def bedrock(monkeypatch, port):
    """Yield the emulator, with the environment pointing at it. Tests share its port, and so their clients.

    Not after a test in which a request failed or was abandoned: it may be sent again.
    """
    with BedrockEmulator(port=port.number) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator
        failed = [entry for entry in emulator.journal if entry.status != 200 or entry.client_closed]
        if failed or emulator.in_flight or emulator._faults._faults:
            port.leave()


@pytest.fixture
def router(bedrock):
    return bedrock.default_router("anthropic.claude:1")


@pytest.fixture(scope="module")
def running():
    """An emulator and clients on one clock, for the tests of a file."""
    with a_world() as world:
        yield world


@pytest.fixture
def world(running):
    """The same, as on the first day."""
    return running.fresh()


@pytest.fixture(scope="module")
def recorded():
    """A server that replays recorded exchanges with Bedrock."""
    with RecordedBedrock() as server:
        yield server
