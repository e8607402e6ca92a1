"""Hard negatives for a parallel corpus: what the current encoder takes for an answer and is none."""
