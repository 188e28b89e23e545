"""``python -m bedrock_routing_integrations`` is the command ``bedrock-routing``."""

from bedrock_routing_integrations.cli import main

if __name__ == "__main__":
    main()
