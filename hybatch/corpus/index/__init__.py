"""The index of a corpus: how it is built, what its folder holds, how it is read."""
