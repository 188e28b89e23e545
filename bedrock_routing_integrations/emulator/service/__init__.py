"""The emulated Bedrock service: its account, operations, rules and faults."""
