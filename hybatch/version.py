"""The one place that holds the version number; it imports nothing, so that the build can read it."""

__version__ = "0.1.0"
