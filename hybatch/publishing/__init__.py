"""A finished encoder handed on: averaged with others, its card with results, sent to the hub, exported."""
