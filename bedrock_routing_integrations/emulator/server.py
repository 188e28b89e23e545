"""Provide `BedrockEmulator`, a local Bedrock for tests, demonstrations and benchmarks."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from .service.account import Account
from .service.converse import Runtime
from .service.documents import object_text
from .service.faults import Fault, Faults
from .service.journal import Entry, InvocationLog, Journal
from .service.prompt_caching import PromptCaches
from .service.retrieve import RETRIEVAL_MS, Retriever
from .service.retrieve_and_generate import Generation, Sessions
from .service.targets import Choices
from .settings import check_clock, check_quota, check_time_scale, variables
from .wire.service_model import ServiceError, service_models

try:
    from .wire.http_server import HttpServer, ServerThread
except ImportError as error:  # pragma: no cover - depends on the installation
    if error.name is not None and error.name.partition(".")[0] == "aiohttp":
        raise ImportError(
            'The emulator needs aiohttp: pip install "bedrock-routing-integrations[emulator]"',
            name=error.name,
        ) from None
    raise

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["BedrockEmulator"]


class BedrockEmulator(Account):
    """A local Bedrock that speaks the real wire protocol over HTTP.

    The emulator plays the service, not the intelligence: its models are deterministic programs. Use the emulator as a
    context manager, or call `start` and `stop`. A thread of its own serves the requests, so any program can use the
    emulator, and every method may be called from any thread.

    ```python
    from bedrock_routing_integrations.emulator import BedrockEmulator

    with BedrockEmulator() as bedrock:
        client = bedrock.client("bedrock-runtime")
        messages = [{"role": "user", "content": [{"text": "Hello"}]}]
        client.converse(modelId=bedrock.default_router("amazon.nova:1"), messages=messages)
    ```

    The emulator is laxer than Bedrock about Regions, accounts and signatures:

    - One emulator serves every Region, and finds a resource by an ARN with any Region.
    - The system profiles of every geography can be called in every Region.
    - Default routers, system profiles and foundation models exist in every account. Resources that an account creates
      (application profiles, custom routers, prompts, knowledge bases, custom, imported and provisioned models,
      deployments, endpoints) exist in the emulated account only.
    - Every signature is accepted.

    Args:
        host: The address to listen on.
        port: The port to listen on. 0 lets the system choose a port.
        region: The Region of resources created through this object, and of requests with a bearer token. A signed
            request is answered in the Region of its signature.
        account_id: The emulated account, 12 digits.
        time_scale: Real seconds to wait for each simulated second. 0 (the default) never waits. `metrics.latencyMs` is
            the simulated time in either case.
        optimized_quota: The number of requests served with optimized latency before `standard` is served instead. None
            (the default) sets no limit.
        clock: A function that returns seconds and never goes back. Entries of the prompt caches and sessions of
            RetrieveAndGenerate expire by this clock, so a test with its own clock can skip hours.
        invocation_log: A file to append each Converse and ConverseStream call to, in the format of Bedrock's model
            invocation logging (``bedrock-routing report`` reads this format). None (the default) writes no log.

    Raises:
        ValueError: An argument is not valid. The message names the valid values.
        OSError: `invocation_log` cannot be written.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        region: str = "us-east-1",
        account_id: str = "123456789012",
        time_scale: float = 0.0,
        optimized_quota: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        invocation_log: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(region=region, account_id=account_id)
        self.host = host
        self._wanted_port = port
        self._time_scale = check_time_scale(time_scale)
        self._choices = Choices()
        self._caches = PromptCaches(check_clock(clock))
        self._runtime = Runtime(
            self._directory,
            self._choices,
            self._caches,
            check_quota(optimized_quota),
            read_object=lambda uri: object_text(uri, self._knowledge),
        )
        self._retriever = Retriever(self._knowledge, self._directory)
        self._generation = Generation(self._knowledge, self._retriever, self._runtime, Sessions(clock))
        self._faults = Faults()
        self._invocation_log = None if invocation_log is None else InvocationLog(invocation_log, account_id)
        self._journal = Journal()
        self._running: ServerThread | None = None
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self._session: Any = None
        self._session_lock = threading.Lock()

    # --- Start, stop, clients ---

    def start(self) -> None:
        """Start to listen, and return once requests are answered.

        Calling `start` again has no effect.

        Raises:
            OSError: The port is taken.
        """
        if self._running is not None:
            return
        http = HttpServer(
            handlers={
                **self._control.handlers(),
                **self._catalog.handlers(),
                **self._knowledge.handlers(),
                "Retrieve": self._retriever.retrieve,
            },
            models={
                "Converse": self._runtime.converse,
                "ConverseStream": self._runtime.converse,
                "RetrieveAndGenerate": self._generation.generate,
                "RetrieveAndGenerateStream": self._generation.generate,
            },
            milliseconds={"Retrieve": RETRIEVAL_MS},
            faults=self._faults,
            journal=self._journal,
            place=self._place,
            time_scale=self._time_scale,
            invocation_log=self._invocation_log,
        )
        self._running = ServerThread(http, self.host, self._wanted_port)

    def stop(self) -> None:
        """Close every connection, drop the requests under way, and free the port."""
        for client in list(self._clients):
            client.close()
        self._clients.clear()
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that the emulator listens on, or the requested port while the emulator is not running."""
        return self._wanted_port if self._running is None else self._running.port

    @property
    def endpoint_url(self) -> str:
        """The URL for `endpoint_url=` of any SDK.

        Raises:
            RuntimeError: The emulator is not running.
        """
        if self._running is None:
            raise RuntimeError("The emulator is not running: enter its context, or call start()")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point AWS SDKs at this emulator, with placeholder credentials.

        NO_PROXY extends this process's NO_PROXY. Unset AWS_PROFILE, AWS_SESSION_TOKEN and AWS_BEARER_TOKEN_BEDROCK,
        which take precedence over these credentials.

        Returns:
            Variable name → value.

        Raises:
            RuntimeError: The emulator is not running.
        """
        return variables(self.endpoint_url, self.region)

    def client(self, service: str = "bedrock-runtime", **kwargs: Any) -> Any:
        """Return a boto3 client of this emulator. `stop` closes the client.

        Args:
            service: "bedrock-runtime" (the default), "bedrock", "bedrock-agent" or "bedrock-agent-runtime".
            **kwargs: More arguments for boto3, with precedence over the emulator's settings. A `config` is merged with
                the emulator's.

        Raises:
            RuntimeError: The emulator is not running.
        """
        from botocore.config import Config

        # Don't send the user's API key to the emulator, nor local requests through a proxy.
        config = Config(auth_scheme_preference="sigv4", proxies={})
        settings = {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": "emulated",
            "aws_secret_access_key": "emulated",
            **kwargs,
            "config": config.merge(kwargs["config"]) if kwargs.get("config") else config,
        }
        with self._session_lock:  # boto3 sessions are not thread-safe while they create clients
            self._session = self._session or _new_session()
            client = self._session.client(service, **settings)
        self._clients.add(client)
        return client

    # --- Routing, faults, journal ---

    def choose(self, model_id: str | Callable[[str], str], times: int = 1, router: str | None = None) -> None:
        """Dictate the model that a router chooses in its next requests.

        Args:
            model_id: The id or ARN of one of the router's models, or a function from the prompt to such an id. A
                request to a router without this model leaves the choice pending for a router that has the model.
            times: The number of requests, 1 by default.
            router: The ARN of the router. None (the default) applies to any router.

        Raises:
            ValueError: No router can have the model.
        """
        if isinstance(model_id, str):
            try:
                self._directory.backend(model_id, self._place)
            except ServiceError as error:
                raise ValueError(
                    f"No router can choose {model_id!r}: {error.message} Give the id or the ARN of one of its models, "
                    "such as anthropic.claude-3-haiku-20240307-v1:0."
                ) from error
        self._choices.dictate(model_id, times, router)

    def fail(
        self,
        kind: str,
        *,
        operation: str | None = None,
        times: int | None = None,
        rate: float | None = None,
        after: int = 0,
        **details: Any,
    ) -> Fault:
        """Make requests fail, or slow them down.

        Kinds of faults and their details:

        - Errors (`message=`): throttling, internal, unavailable, model_timeout, model_not_ready, access_denied,
          validation, bad_gateway, dependency_failed.
        - Delays (`seconds=`, in real seconds; the response follows): slow_first_byte, slow_stream. slow_first_byte also
          takes `in_flight=`: the response then starts as soon as that many requests have been in flight at once, so a
          test of concurrent calls need not guess a delay.
        - Connections: hang (until the client hangs up), reset.
        - Streams: cut (`frame=` or `byte=` sets the amount that is sent; `abrupt=True` drops the connection instead of
          ending the response), bad_checksum (`frame=`), exception_event (`name=`, `message=`, `frame=`). `frame=N`
          applies after N good frames. The default is the middle of the stream.

        Args:
            kind: The kind of fault.
            operation: The name of the operation. None (the default) means Converse and ConverseStream, "*" every
                operation.
            times: The number of requests. The default is 1, or no limit if `rate` is set.
            rate: The share of requests to fail, 0 to 1, drawn in a repeatable order.
            after: The number of matching requests to let through first, 0 by default.
            **details: The details of the kind, and `model_id=` to match only requests on one target: the id or ARN of a
                model, profile or router, or of a knowledge base.

        Returns:
            The fault. `cancel()` ends the fault, and `hits` counts the affected requests.

        Raises:
            ValueError: The kind, the operation or a detail is unknown.
        """
        if operation not in {None, "*"} and operation not in service_models():
            raise ValueError(f"There is no operation {operation!r}")
        return self._faults.add(kind, operation=operation, times=times, rate=rate, after=after, details=details)

    def clear_faults(self) -> None:
        """End every fault."""
        self._faults.clear()

    def clear_caches(self) -> None:
        """Remove every entry of the prompt caches."""
        self._caches.clear()

    @property
    def journal(self) -> list[Entry]:
        """A snapshot of every request so far, in the order of arrival."""
        return self._journal.entries()

    def requests(self, operation: str | None = None) -> list[Entry]:
        """Return the requests so far, in the order of arrival.

        Args:
            operation: The name of the operation, e.g. "Converse". None (the default) returns every request.
        """
        return self._journal.entries(operation)

    def clear_journal(self) -> None:
        """Remove the requests so far from the journal."""
        self._journal.clear()

    @property
    def in_flight(self) -> int:
        """The number of requests that are being answered."""
        return self._journal.in_flight

    @property
    def peak_in_flight(self) -> int:
        """The largest number of requests answered at once, since the start or `clear_journal`."""
        return self._journal.peak_in_flight


@functools.lru_cache(maxsize=1)
def _data_loader() -> Any:
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _new_session() -> Any:
    """Return a boto3 session that shares botocore's parsed data files.

    Creating a client then takes 15 ms instead of 50 to 150 ms.
    """
    import boto3
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _data_loader())
    return boto3.Session(botocore_session=session)
