"""Read what the service streams, check what it answers, and run blocking calls for asynchronous callers."""
