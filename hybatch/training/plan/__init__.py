"""What a run needs before it runs: memory per strategy and time per step, from its configuration alone."""
