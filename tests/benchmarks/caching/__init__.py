"""Simulate the cost of prompt caching: Bedrock's published rules, workloads, contenders and an oracle.

Shares no code with the package's planner or its emulator: a mistake in a rule must not hide in both.
"""
