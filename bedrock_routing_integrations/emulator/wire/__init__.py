"""Implement the HTTP side of the emulator: requests, event streams and botocore's service models."""
