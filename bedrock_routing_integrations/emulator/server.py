"""`BedrockEmulator`: a local Bedrock for tests, demonstrations and benchmarks."""

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

    It emulates the service, not intelligence: its "models" are deterministic programs. Use it as a context
    manager, or call `start` and `stop`. It serves from a thread of its own, so any program can use it, and its
    methods may be called from any thread.

    ```python
    from bedrock_routing_integrations.emulator import BedrockEmulator

    with BedrockEmulator() as bedrock:
        client = bedrock.client("bedrock-runtime")
        messages = [{"role": "user", "content": [{"text": "Hello"}]}]
        client.converse(modelId=bedrock.default_router("amazon.nova:1"), messages=messages)
    ```

    It is laxer than Bedrock about Regions and accounts: every Region is served by one emulator, and a resource is
    found by an ARN with any Region; every geography's system profiles can be called in every Region; default
    routers, system profiles and foundation models are found in any account. What an account has made (application
    profiles, custom routers, prompts, knowledge bases, custom, imported and provisioned models, deployments,
    endpoints) is found in the emulated account only. Any signature is taken.

    Args:
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        region: The Region of what is created through this object, and of requests with a bearer token. Signed
            requests are answered in the Region of their signature.
        account_id: The emulated account.
        time_scale: Real seconds for each simulated second; 0 does not wait at all. `metrics.latencyMs` always
            gives the simulated time.
        optimized_quota: How many requests are served with optimized latency before `standard` is served
            instead; None without limit.
        clock: Seconds, only rising: what the prompt caches' entries and the sessions of RetrieveAndGenerate expire by.
            With one of its own a test lets hours pass in no time.
        invocation_log: A file to which each call of Converse and ConverseStream is appended, as Bedrock logs model
            invocations where an account has switched that on (``bedrock-routing report`` reads it).

    Raises:
        ValueError: For an argument that cannot be; it says what can.
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

    # --- life

    def start(self) -> None:
        """Listen; returns when requests are answered.

        Raises:
            OSError: When the port is taken.
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
        """Close every connection and free the port; requests under way are dropped."""
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
        """The port that is listened on; when the emulator is not running, the one that was asked for."""
        return self._wanted_port if self._running is None else self._running.port

    @property
    def endpoint_url(self) -> str:
        """The URL for `endpoint_url=` of any SDK.

        Raises:
            RuntimeError: When the emulator is not running.
        """
        if self._running is None:
            raise RuntimeError("The emulator is not running: enter its context, or call start()")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The environment variables that point AWS SDKs here, with credentials that mean nothing.

        NO_PROXY continues what it is in this process. Set beside them, AWS_PROFILE, AWS_SESSION_TOKEN and
        AWS_BEARER_TOKEN_BEDROCK would win over these credentials: unset them.
        """
        return variables(self.endpoint_url, self.region)

    def client(self, service: str = "bedrock-runtime", **kwargs: Any) -> Any:
        """A boto3 client of this emulator; it is closed when the emulator stops.

        Args:
            service: "bedrock-runtime", "bedrock", "bedrock-agent" or "bedrock-agent-runtime".
            **kwargs: Passed to boto3, over what is set here.
        """
        from botocore.config import Config

        # Neither the user's API key nor a proxy has any business with a server on this machine.
        config = Config(auth_scheme_preference="sigv4", proxies={})
        settings = {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": "emulated",
            "aws_secret_access_key": "emulated",
            **kwargs,
            "config": config.merge(kwargs["config"]) if kwargs.get("config") else config,
        }
        with self._session_lock:  # sessions are not thread-safe while they make clients
            self._session = self._session or _new_session()
            client = self._session.client(service, **settings)
        self._clients.add(client)
        return client

    # --- what happens

    def choose(self, model_id: str | Callable[[str], str], times: int = 1, router: str | None = None) -> None:
        """Dictate a router's next choices.

        Args:
            model_id: The id or ARN of one of the router's models, or a function from the prompt to that.
                Where it is none of the models of the router that is asked, it waits for a router that has it.
            times: For how many requests.
            router: The ARN of the router that is meant; None for any.

        Raises:
            ValueError: For a model that no router can have.
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
        """Let requests fail.

        Args:
            kind: Errors: throttling, internal, unavailable, model_timeout, model_not_ready, access_denied,
                validation, bad_gateway, dependency_failed (`message=`). Time: slow_first_byte, slow_stream
                (`seconds=`, real ones; the answer comes. slow_first_byte takes `in_flight=` too: then it comes as soon
                as so many requests have been in flight at once, and a test of calls at once need not guess how long
                that takes). Connection: hang (until the client hangs up), reset. Streams: cut (`frame=` or `byte=`: how
                much is sent; `abrupt=True` drops the connection instead of ending the answer), bad_checksum
                (`frame=`), exception_event (`name=`, `message=`, `frame=`). `frame=N` is after N good frames; the
                default is the middle of the stream.
            operation: The operation's name; None for Converse and ConverseStream, "*" for every operation.
            times: How many requests; by default 1, or without limit where `rate` is given.
            rate: The share of requests, 0 to 1, drawn repeatably.
            after: How many matching requests come first.
            **details: As named above, and `model_id=` for requests on one target only: the id or ARN of a model,
                profile or router, or of a knowledge base.

        Returns:
            The fault; its `cancel()` ends it, its `hits` counts.

        Raises:
            ValueError: For an unknown kind or detail.
        """
        if operation not in {None, "*"} and operation not in service_models():
            raise ValueError(f"There is no operation {operation!r}")
        return self._faults.add(kind, operation=operation, times=times, rate=rate, after=after, details=details)

    def clear_faults(self) -> None:
        """End every fault."""
        self._faults.clear()

    def clear_caches(self) -> None:
        """Forget every prompt that was cached."""
        self._caches.clear()

    @property
    def journal(self) -> list[Entry]:
        """Every request so far, in the order of arrival; a snapshot."""
        return self._journal.entries()

    def requests(self, operation: str | None = None) -> list[Entry]:
        """The requests of one operation, e.g. "Converse"."""
        return self._journal.entries(operation)

    def clear_journal(self) -> None:
        """Forget the requests so far."""
        self._journal.clear()

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._journal.in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were being answered at once, since the start or `clear_journal`."""
        return self._journal.peak_in_flight


@functools.lru_cache(maxsize=1)
def _data_loader() -> Any:
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _new_session() -> Any:
    """A boto3 session that shares botocore's parsed data files: a client then takes 15 ms instead of 50 to 150."""
    import boto3
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _data_loader())
    return boto3.Session(botocore_session=session)
