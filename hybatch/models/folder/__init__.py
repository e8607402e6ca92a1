"""A model's folder: found here or on the hub, read and written in sentence-transformers' layout."""
