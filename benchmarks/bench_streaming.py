"""Ranks among more candidates than memory should hold: streamed from a .npy file through one `RankCounter`.

    python benchmarks/bench_streaming.py --candidates 5000000 --queries 200 --width 384 --folder DIR --json FILE

The candidates (unit vectors in equal groups, one per language) are generated once under --folder, in blocks. Each
query is made of its own few positives and of noise, so that their ranks run from 1 to beyond a million of five
million. The blocks that hold positives come first; from then on `finish` gives the counts so far, and what single
blocks add to them is compared with a count in numpy, float64, that shares nothing with the package. A candidate
whose score lies within float32's rounding of a positive's may fall on either side: these are reported as undecided.

Memory is the process's anonymous memory (RssAnon): the pages of the mapped file are the operating system's to keep
or drop. It is read every few milliseconds while the candidates stream by, checks and generation left out.

Q queries, D candidates of a block, P positives, G groups, H width.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, write_figures
from tqdm import tqdm

from hybatch.ops import RankCounter

POSITIVES_PER_QUERY = 3
GROUPS = 11
CHECKED_BLOCKS = 4
_GENERATED_ROWS = 16384


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is ranked."""

    candidates: int
    queries: int
    width: int
    dtype: str
    block: int
    """Candidates added at once."""

    def groups(self, rows: slice) -> np.ndarray:
        """int32 [D]: equal shares of the candidates, in order."""
        return (np.arange(rows.start, rows.stop, dtype=np.int64) * GROUPS // self.candidates).astype(np.int32)

    def blocks(self) -> list[slice]:
        starts = range(0, self.candidates, self.block)
        return [slice(start, min(start + self.block, self.candidates)) for start in starts]


def stored_candidates(problem: Problem, folder: Path) -> Path:
    """The .npy file of the candidates; generated if it is not there, and then whole or not at all."""
    path = folder / f"candidates-{problem.candidates}-{problem.width}-{problem.dtype}.npy"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    shape = (problem.candidates, problem.width)
    try:
        with unfinished.open("wb") as file:
            header = {"descr": np.dtype(problem.dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            starts = range(0, problem.candidates, _GENERATED_ROWS)
            for number, start in enumerate(tqdm(starts, desc="generating", unit="block", leave=False)):
                count = min(_GENERATED_ROWS, problem.candidates - start)
                rows = np.random.default_rng([0, number]).standard_normal((count, problem.width), dtype=np.float32)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                file.write(rows.astype(problem.dtype).tobytes())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Questions:
    """Queries [Q, H] with their positives: candidate numbers [Q * POSITIVES_PER_QUERY] and embeddings."""

    queries: np.ndarray
    positive_index: np.ndarray
    positive_embeddings: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        return np.arange(len(self.queries) + 1) * POSITIVES_PER_QUERY


def make_questions(problem: Problem, candidates: np.ndarray, homes: list[slice]) -> Questions:
    """Positives from the blocks `homes`; a query's cosine with each of its own is about the same, 0.1 to 0.5."""
    generator = np.random.default_rng(1)
    pool = np.concatenate([np.arange(home.start, home.stop) for home in homes])
    drawn = [generator.choice(pool, POSITIVES_PER_QUERY, replace=False) for _ in range(problem.queries)]
    index = np.concatenate(drawn)
    positives = candidates[index].astype(np.float32)
    noise = generator.standard_normal((problem.queries, problem.width)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosine = generator.uniform(0.1, 0.5, (problem.queries, 1)).astype(np.float32)
    own = positives.reshape(problem.queries, POSITIVES_PER_QUERY, -1).sum(axis=1)
    queries = cosine * own + np.sqrt(1 - POSITIVES_PER_QUERY * cosine**2) * noise
    return Questions(queries, index, positives)


class MemoryWatch:
    """Reads this process's anonymous memory every 2 ms, on a thread of its own, until the end of the `with`."""

    def __enter__(self) -> MemoryWatch:
        self.before = self.peak = status_bytes("RssAnon")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, status_bytes("RssAnon"))


def status_bytes(key: str) -> int:
    """A figure of /proc/self/status; RssAnon: memory that stands for no file, VmHWM: peak of all resident memory."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}: this needs Linux")


@dataclass(frozen=True)
class Added:
    """What some blocks added to the counts greater, tied before and tied after, [3, P, G]."""

    blocks: list[slice]
    counts: np.ndarray


class Stream:
    """Streams the blocks through a counter, those in `homes` first, and notes what `checked` blocks added."""

    def __init__(self, problem: Problem, candidates: np.ndarray, questions: Questions, backend: str) -> None:
        self._problem, self._candidates = problem, candidates
        arrays = (questions.queries, questions.positive_embeddings, questions.positive_index, questions.offsets)
        self.counter = RankCounter(*map(torch.from_numpy, arrays), GROUPS, backend=backend)
        self.seconds = self.processor_seconds = 0.0

    def run(self, homes: list[slice], checked: list[slice]) -> list[Added]:
        rest = [block for block in self._problem.blocks() if block not in homes]
        bar = tqdm(total=self._problem.candidates, desc="counting", unit="candidate", unit_scale=True, leave=False)
        with bar:
            for block in homes:
                self._add(block, bar)
            added = [Added(homes, self._counts())]
            for block in rest:
                before = self._counts() if block in checked else None
                self._add(block, bar)
                if before is not None:
                    added.append(Added([block], self._counts() - before))
        self.counter.finish(self._problem.candidates)
        return added

    def _add(self, block: slice, bar: tqdm) -> None:
        start, processor = time.perf_counter(), time.process_time()
        self.counter.add(self._candidates[block], self._problem.groups(block), block.start)
        self.seconds += time.perf_counter() - start
        self.processor_seconds += time.process_time() - processor
        bar.update(block.stop - block.start)

    def _counts(self) -> np.ndarray:
        """A copy of the counts so far, [3, P, G]."""
        counts = self.counter.finish()
        return np.stack([table.numpy() for table in (counts.greater, counts.tied_before, counts.tied_after)])


def check(problem: Problem, candidates: np.ndarray, questions: Questions, added: list[Added]) -> dict[str, Any]:
    """Compare with counts in numpy; a count is wrong if it lies outside what undecided candidates leave open."""
    totals = {"blocks": 0, "counts": 0, "candidates_above": 0, "undecided": 0, "wrong": 0}
    for one in added:
        sure = possible = 0
        for block in one.blocks:
            low, high = numpy_counts(problem, candidates, questions, block)
            sure, possible = sure + low, possible + high
        reached = one.counts.sum(axis=0)
        totals["blocks"] += len(one.blocks)
        totals["counts"] += reached.size
        totals["candidates_above"] += int(one.counts[0].sum())
        totals["undecided"] += int((possible - sure).sum())
        totals["wrong"] += int(((one.counts[0] < sure) | (reached > possible)).sum())
    return totals


def numpy_counts(
    problem: Problem, candidates: np.ndarray, questions: Questions, block: slice
) -> tuple[np.ndarray, np.ndarray]:
    """[P, G]: candidates of the block surely above each positive; and those that are, or may be or tie. No self."""
    rows_DH = candidates[block].astype(np.float64)
    groups_D = problem.groups(block)
    queries_QH, positives_PH = questions.queries.astype(np.float64), questions.positive_embeddings.astype(np.float64)
    longest = np.linalg.norm(rows_DH, axis=1).max()
    sure, possible = (np.zeros((len(positives_PH), GROUPS), dtype=np.int64) for _ in range(2))
    for query in range(len(queries_QH)):
        scores_D = rows_DH @ queries_QH[query]
        rounding = 2 * problem.width * 2.0**-24 * np.linalg.norm(queries_QH[query]) * longest
        for p in range(query * POSITIVES_PER_QUERY, (query + 1) * POSITIVES_PER_QUERY):
            gap_D = scores_D - positives_PH[p] @ queries_QH[query]
            own = int(questions.positive_index[p]) - block.start
            if 0 <= own < len(gap_D):
                gap_D[own] = -np.inf
            sure[p] = np.bincount(groups_D[gap_D > 2 * rounding], minlength=GROUPS)
            possible[p] = np.bincount(groups_D[gap_D >= -2 * rounding], minlength=GROUPS)
    return sure, possible


def measure(problem: Problem, path: Path, backend: str) -> dict[str, Any]:
    """Stream the file once; then check."""
    candidates = np.load(path, mmap_mode="r")
    blocks = problem.blocks()
    # Spread over the file, its first and last block among them; every other one holds the positives.
    places = np.unique(np.linspace(0, len(blocks) - 1, 2 * CHECKED_BLOCKS).astype(int))
    homes, checked = ([blocks[place] for place in places[start::2]] for start in (0, 1))
    questions = make_questions(problem, candidates, homes)
    with MemoryWatch() as memory:
        stream = Stream(problem, candidates, questions, backend)
        added = stream.run(homes, checked)
    peak_resident = status_bytes("VmHWM")
    ranks_P = stream.counter.finish(problem.candidates).rank_overall().numpy()
    return {
        **asdict(problem),
        "groups": GROUPS,
        "positives": len(ranks_P),
        "backend": stream.counter.backend,
        "threads": torch.get_num_threads(),
        "seconds": stream.seconds,
        "processor_seconds": stream.processor_seconds,
        "candidates_per_second": problem.candidates / stream.seconds,
        "candidates_per_processor_second": problem.candidates / stream.processor_seconds,
        "file_bytes": path.stat().st_size,
        "anonymous_bytes": {"before": memory.before, "peak": memory.peak, "growth": memory.peak - memory.before},
        "peak_resident_bytes_with_file_pages": peak_resident,
        "ranks": {f"p{p}": int(np.percentile(ranks_P, p)) for p in (0, 50, 100)},
        "check": check(problem, candidates, questions, added),
        "environment": environment(torch.device("cpu")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=5_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help="of the file")
    parser.add_argument("--block", type=int, default=65536, help="candidates added at once")
    parser.add_argument("--backend", choices=["auto", "torch", "cpu"], default="auto")
    parser.add_argument("--folder", type=Path, required=True, help="where the candidates are kept")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    sizes = ("candidates", "queries", "width", "dtype", "block")
    problem = Problem(**{name: getattr(arguments, name) for name in sizes})
    result = measure(problem, stored_candidates(problem, arguments.folder), arguments.backend)
    print(json.dumps(result, indent=1))
    if arguments.json:
        write_figures(arguments.json, result, finished=True)
    return 1 if result["check"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
