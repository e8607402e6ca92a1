"""The formats that a corpus can have: one file each, and their registry."""
