"""What prompt caching costs, simulated: a world with Bedrock's published rules, workloads, contenders and an oracle.

It shares no code with the package's planner, nor with its emulator: a mistake in a rule must not hide in both.
"""
