"""``bedrock-routing docs``: where the documentation is, for people and for coding agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["docs"]

_PACKAGE = Path(__file__).parent.parent
_REPOSITORY = "https://github.com/bedrock-routing-integrations/bedrock-routing-integrations/blob/main"
_GUIDES = ("routing", "cost_and_telemetry", "caching", "knowledge_bases", "testing", "on_aws", "migrating")


def docs(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print where the agent skill, llms.txt and the guides are."""
    skill = _PACKAGE / "skills" / "bedrock-routing-integrations" / "SKILL.md"
    llms_txt = _PACKAGE / "llms.txt"
    guides = {name: f"{_REPOSITORY}/cookbook/{name}.md" for name in _GUIDES}
    if as_json:
        locations = {"skill": str(skill), "llms_txt": str(llms_txt), "guides": guides}
        typer.echo(json.dumps(locations, indent=2))
        return
    typer.echo(f"Agent skill   {skill}\nllms.txt      {llms_txt}\nReadme        {_REPOSITORY}/README.md\n\nGuides")
    for name, url in guides.items():
        typer.echo(f"  {name.replace('_', ' '):19} {url}")
