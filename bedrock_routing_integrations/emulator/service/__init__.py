"""What the emulated Bedrock does: its account, its operations, its rules and its faults."""
