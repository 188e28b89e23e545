"""Define the subcommands and their arguments. Each subcommand is implemented in a module with its name."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from .docs import docs
from .errors import clear_errors

__all__ = ["app"]

app = typer.Typer(
    name="bedrock-routing",
    help="Amazon Bedrock's prompt routers and inference profiles: see which model answers.",
    no_args_is_help=True,
    add_completion=False,
    # Expected errors are printed as one line (errors.py). All others are bugs, and get a plain traceback.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Region = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="AWS Region; default: the target's, else AWS_REGION."),
]


def _check_url(url: str | None) -> str | None:
    """Raise for a URL on which botocore would fail with a traceback."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # the port is no number
        usable = False
    if not usable:
        raise typer.BadParameter(f"{url!r} is no URL that begins with http:// or https:// and names a host")
    return url


EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="Another endpoint than AWS's: an emulator, a proxy.",
        callback=_check_url,
    ),
]
TargetText = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="Id or ARN of a router, an inference profile, a model, …", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bedrock-routing {version('bedrock-routing-integrations')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    on_aws: Annotated[
        bool,
        typer.Option("--aws", help="Use the AWS account that boto3 finds (a few short prompts; creates nothing)."),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Print tokens, latencies, both knowledge base modes and the whole report.")
    ] = False,
    region: Region = None,
) -> None:
    """Send prompts through routers and profiles, and show which model answered. Runs on the emulator by default."""
    with clear_errors():
        from .demo import run_demo

        code = run_demo(on_aws=on_aws, region=region, everything=everything)
    raise typer.Exit(code)


@app.command()
def resolve(
    target: TargetText, region: Region = None, endpoint_url: EndpointUrl = None, as_json: AsJson = False
) -> None:
    """Show which models can answer for a target, and what all of them support."""
    with clear_errors():
        from .resolve import print_target

        code = print_target(target, region=region, endpoint_url=endpoint_url, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def ask(
    target: TargetText,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help='What to ask; "-" reads it from standard input.')],
    *,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream", help="Print the answer as it comes; default: in a terminal.", show_default=False
        ),
    ] = None,
    latency: Annotated[Literal["standard", "optimized"] | None, typer.Option(help="Ask for this latency.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The most tokens to answer with.")] = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> None:
    """Send one prompt. Print the answer, and the invoked model on standard error."""
    with clear_errors():
        from .ask import Question, answer

        if prompt == "-":
            prompt = typer.get_text_stream("stdin").read()
        if not prompt.strip():
            raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
        question = Question(target=target, prompt=prompt, latency=latency, max_tokens=max_tokens)
        answer(question, region=region, endpoint_url=endpoint_url, stream=stream, as_json=as_json)


@app.command()
def plan(
    request: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST",
            help='File with a Converse request in JSON, as the AWS CLI takes it; "-" reads standard input.',
            show_default=False,
        ),
    ],
    *,
    cache: Annotated[Literal["auto", "off"], typer.Option(help="What your code passes as cache=.")] = "auto",
    ttl: Annotated[
        Literal["auto", "5m", "1h"], typer.Option(help="How long what is cached shall last; auto chooses.")
    ] = "auto",
    base_model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A model that can answer, instead of a look-up; once for each."),
    ] = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show which cache points a request would get, and why. Sends nothing, but may look up a router or profile."""
    with clear_errors():
        from .plan import print_plan

        code = print_plan(
            request,
            cache=cache,
            ttl=ttl,
            base_models=base_model or (),
            region=region,
            endpoint_url=endpoint_url,
            as_json_object=as_json,
        )
    raise typer.Exit(code)


@app.command()
def report(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Logs of model invocations: files, folders of them, plain or gzip; - reads standard input.",
            show_default=False,
        ),
    ],
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Count by a key of requestMetadata, or by application_profile, identity, region, inference_region, "
            "account, operation, day (UTC), or day,KEY for both; once for each. Default: application profiles, and the "
            "keys that are found. --plot shows it too.",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="The first day or moment (UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="The last day; or the moment it ends.")] = None,
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Your own prices: {"MODEL": {"input_mtok": 3.0, "output_mtok": 15.0}}.'),
    ] = None,
    look_up: Annotated[
        bool, typer.Option("--look-up", help="Ask AWS what routers and profiles can use, once for each.")
    ] = False,
    base_models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET=MODEL[,MODEL]",
            help="The models of a target, instead of a look-up; as us.MODEL or global.MODEL where prices differ in it.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, as PNG, SVG or PDF.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: AsJson = False,
    region: Region = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="A profile of the AWS configuration, for --look-up.")
    ] = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Report on a fleet from Bedrock's own logs: invoked models, cost, savings of routing and caching."""
    with clear_errors():
        from bedrock_routing_integrations.connections import Connection

        from .report import Wanted, base_models_of, named, prices_of, print_report, time_of

        if as_json and as_markdown:
            raise typer.BadParameter("it is either --json or --markdown", param_hint="--markdown")
        wanted = Wanted(
            paths=files,
            form="json" if as_json else "markdown" if as_markdown else "text",
            plot=plot,
            by=named(by or (), name="--by"),
            since=time_of(since, name="--since"),
            until=time_of(until, name="--until", is_end=True),
            prices=prices_of(prices),
            base_models=base_models_of(base_models or ()),
        )
        asked = Connection(region_name=region, profile_name=profile, endpoint_url=endpoint_url) if look_up else None
        print_report(wanted, asked)


@app.command()
def emulate(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")] = 8080,
    time_scale: Annotated[
        float, typer.Option(min=0.0, help="Real seconds for each simulated second; 0 never waits.")
    ] = 0.0,
    region: Annotated[str, typer.Option(metavar="REGION", help="The Region that is emulated.")] = "us-east-1",
    account_id: Annotated[str, typer.Option(metavar="ID", help="The account that is emulated.")] = "123456789012",
    knowledge_base: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A knowledge base of the documents in this folder; once for each."),
    ] = None,
    invocation_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log calls of models here as Bedrock does, for `report`.")
    ] = None,
) -> None:
    """Run a local Bedrock until Ctrl-C, and print the environment variables that point AWS SDKs to it."""
    with clear_errors():
        from .emulate import run_emulator

        run_emulator(
            host=host,
            port=port,
            time_scale=time_scale,
            region=region,
            account_id=account_id,
            knowledge_bases=knowledge_base or (),
            invocation_log=invocation_log,
        )


app.command()(docs)
