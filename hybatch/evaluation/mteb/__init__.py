"""The tasks of the benchmark MTEB, run by the package `mteb` on a saved encoder."""
