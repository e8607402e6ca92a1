"""Texts to embeddings: each once, in batches that do not depend on the number of processes."""
