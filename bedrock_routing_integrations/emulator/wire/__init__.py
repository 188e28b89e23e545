"""The HTTP side of the emulator: requests, event streams and the service model of botocore."""
