"""hybatch: hybrid-batch training of multilingual retrieval encoders, measured in every language setting at once."""

from hybatch.version import __version__

__all__ = ["__version__"]
