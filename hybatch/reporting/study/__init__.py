"""The study: runs of several starts, samplings and seeds, gathered into the paper's tables."""
