"""Examples a second that the batch sampler gives on one core, with and without texts, from N examples.

    python benchmarks/bench_sampling.py --rows 40000000 --batch-size 128 --json FILE

The corpus is generated once under HYBATCH_CACHE_DIR (about 340 bytes an example on disk). Two passes draw the same
batches: the first reads pages from the disk where they are not in the page cache, the second finds them there.
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
from bench_corpus import anonymous_memory

from hybatch.atomic import atomic_file
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.synthetic import synthetic_corpus
from hybatch.sampling import BatchSampler, SamplingConfig


def draw(sampler: BatchSampler, steps: range, *, texts: bool) -> dict[str, Any]:
    """Draw the batch of every step; processor time too, which other programs on the machine hardly touch."""
    seconds = []
    processor = time.process_time()
    for step in steps:
        start = time.perf_counter()
        batch = sampler.batch(step)
        if texts:
            sampler.texts(batch)
        seconds.append(time.perf_counter() - start)
    processor = time.process_time() - processor
    num_examples = sampler.config.batch_size * len(steps)
    return {
        "examples_per_second": num_examples / sum(seconds),
        "examples_per_processor_second": num_examples / processor,
        "milliseconds_a_batch": {f"p{p}": float(np.percentile(seconds, p)) * 1e3 for p in (20, 50, 80)},
    }


def measure(directory: Path, kind: Any, batch_size: int, num_batches: int) -> dict[str, Any]:
    """Plan a run of 100,000 steps on the corpus in `directory` and draw `num_batches` of them, spread evenly."""
    total_steps = 100_000
    corpus = ParallelCorpus(directory, name="synthetic")
    config = SamplingConfig(kind=kind, batch_size=batch_size)
    result: dict[str, Any] = {"kind": kind}
    for opening in ("first_opening", "opening"):
        before = anonymous_memory()
        start = time.perf_counter()
        sampler = BatchSampler([corpus], config, seed=0, total_steps=total_steps, progress=False)
        result[f"{opening}_seconds"] = time.perf_counter() - start
        result[f"{opening}_anonymous_bytes"] = anonymous_memory() - before
    steps = range(0, total_steps, total_steps // num_batches)[:num_batches]
    for name, texts in (("first_pass", True), ("second_pass", True), ("without_texts", False)):
        result[name] = draw(sampler, steps, texts=texts)
    result["drawing_anonymous_bytes"] = anonymous_memory() - before
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="examples, each in 2 languages")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=["x-x-mono", "x-x", "x-y", "hybrid"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, kind = arguments.measure
        print(json.dumps(measure(Path(folder), kind, arguments.batch_size, arguments.batches)))
        return
    cache = Path(os.environ.get("HYBATCH_CACHE_DIR") or Path.home() / ".cache" / "hybatch")
    directory = cache / "synthetic" / str(arguments.rows)
    synthetic_corpus(directory, num_examples=arguments.rows)
    result: dict[str, Any] = {
        "rows": arguments.rows,
        "languages": 2,
        "batch_size": arguments.batch_size,
        "batches": arguments.batches,
        "kinds": [],
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "cpu": platform.processor() or platform.machine(),
    }
    for kind in arguments.kinds:
        # A process of its own, so that its memory is that of this sampler alone; one core, as many as it may use.
        command = [sys.executable, __file__, "--measure", str(directory), kind]
        command += ["--batch-size", str(arguments.batch_size), "--batches", str(arguments.batches)]
        one_core = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=one_core).stdout
        result["kinds"].append(json.loads(output))
        if arguments.json:
            with atomic_file(arguments.json) as file:
                file.write(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
