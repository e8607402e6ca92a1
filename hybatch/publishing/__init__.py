"""A finished encoder handed on: its card with results, sent to the hub, exported for other runtimes."""
