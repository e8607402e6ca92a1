"""Opening time, anonymous memory and gathering speed of a corpus of N examples.

    python benchmarks/bench_corpus.py --rows 40000000 --json FILE

The corpus is generated once under HYBATCH_CACHE_DIR (about 340 bytes an example on disk).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybatch.atomic import atomic_file
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.synthetic import synthetic_corpus


def anonymous_memory() -> int:
    """Bytes of this process that stand for no file (RssAnon): mapped pages that were touched do not count."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: this needs Linux")


def measure(directory: Path, batch_size: int, num_batches: int) -> dict[str, Any]:
    """Open the corpus in `directory` and draw random batches, a question and a passage in a random language each."""
    before = anonymous_memory()
    start = time.perf_counter()
    corpus = ParallelCorpus(directory, name="synthetic")
    everything = np.zeros(1, dtype=np.int64)
    for language in range(len(corpus.languages)):
        corpus.questions(everything, [language])
    corpus.passage_groups(everything)
    opened = time.perf_counter() - start
    memory = anonymous_memory() - before
    generator = np.random.default_rng(0)
    result: dict[str, Any] = {"opening_seconds": opened, "opening_anonymous_bytes": memory}
    # The second pass draws the same rows again, so that their pages are surely in the page cache.
    for name in ("first_pass", "second_pass"):
        generator = np.random.default_rng(0)
        seconds, cpu_seconds = 0.0, 0.0
        for _ in range(num_batches):
            examples = generator.integers(corpus.num_examples, size=batch_size)
            languages = generator.integers(len(corpus.languages), size=(2, batch_size))
            start, cpu_start = time.perf_counter(), time.process_time()
            corpus.questions(examples, languages[0])
            corpus.passages(examples, languages[1])
            corpus.passage_groups(examples)
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
        num_texts = 2 * batch_size * num_batches
        result[f"{name}_texts_per_second"] = num_texts / seconds
        # What a core to itself would do: on a busy machine the wall clock counts other people's work too.
        result[f"{name}_texts_per_cpu_second"] = num_texts / cpu_seconds
    result["gathering_anonymous_bytes"] = anonymous_memory() - before
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="examples, each in 2 languages")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.batch_size, arguments.batches)))
        return
    cache = Path(os.environ.get("HYBATCH_CACHE_DIR") or Path.home() / ".cache" / "hybatch")
    directory = cache / "synthetic" / str(arguments.rows)
    start = time.perf_counter()
    was_there = directory.is_dir()
    synthetic_corpus(directory, num_examples=arguments.rows)
    result: dict[str, Any] = {
        "rows": arguments.rows,
        "languages": 2,
        "batch_size": arguments.batch_size,
        "generating_seconds": None if was_there else time.perf_counter() - start,
        "disk_bytes": sum(file.stat().st_size for file in directory.iterdir()),
    }
    # A process of its own, so that its memory is that of the corpus alone.
    command = [sys.executable, __file__, "--measure", str(directory)]
    command += ["--batch-size", str(arguments.batch_size), "--batches", str(arguments.batches)]
    result |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    result["versions"] = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
    result["cpu"] = platform.processor() or platform.machine()
    print(json.dumps(result, indent=1))
    if arguments.json:
        with atomic_file(arguments.json) as file:
            file.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
