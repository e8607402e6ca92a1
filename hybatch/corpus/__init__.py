"""Parallel corpora: example x language -> question and passage, from many layouts, memory-mapped."""

from hybatch.corpus.config import CorpusConfig
from hybatch.corpus.opening import open_corpus
from hybatch.corpus.parallel import ParallelCorpus

__all__ = ["CorpusConfig", "ParallelCorpus", "open_corpus"]
