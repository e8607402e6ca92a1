"""The ways to rank every positive in every language setting that bench_ranking.py compares.

Shapes: Q queries, D candidates, G groups (languages), M positives of each query, H embedding width; lower case for a
tile of them.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from measure import Contender
from torch import Tensor

from hybatch.ops import rank_counts
from hybatch.ops.backend import why_missing

MATRIX_TILE = 131_072  # candidates of one product
COUNTING_TILE = 2**25  # scores compared at once by plain torch
BEST = 100  # candidates of each query that hybatch evaluate looks at the languages of
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Shape:
    """Candidates stand group by group; every query has M positives, spread evenly over the groups."""

    Q: int
    D: int
    G: int
    M: int


SHAPES = {
    "xquad-r": Shape(Q=13_090, D=13_014, G=11, M=11),
    "mlqa-r": Shape(Q=4_199, D=20_534, G=7, M=3),
    "2-million": Shape(Q=10_000, D=2_000_000, G=11, M=11),
}


@dataclass(frozen=True)
class Problem:
    queries: Tensor  # [Q, H]
    candidates: Tensor  # [D, H]
    groups: Tensor  # [D] int32
    positives_QM: Tensor  # int64
    offsets: Tensor  # [Q + 1] int64
    shape: Shape
    share: float
    """Of the scores, how many exceed their query's lowest threshold."""


def make_problem(shape: Shape, width: int, share: float, device: torch.device) -> Problem:
    """Random unit embeddings; queries lean towards their positives as far as gives the wanted share."""
    generator = torch.Generator(device).manual_seed(0)

    def unit_rows(count: int) -> Tensor:
        rows = torch.randn(count, width, generator=generator, device=device)
        return torch.nn.functional.normalize(rows, dim=1)

    candidates, noise_QH = unit_rows(shape.D), unit_rows(shape.Q)
    stride = shape.D // shape.M
    first_Q = torch.arange(shape.Q, device=device) % stride
    positives_QM = first_Q[:, None] + stride * torch.arange(shape.M, device=device)
    mean_QH = torch.zeros_like(noise_QH)
    for positives_Q in positives_QM.T:
        mean_QH += candidates[positives_Q]
    mean_QH = torch.nn.functional.normalize(mean_QH, dim=1)

    def lean(strength: float, count: int) -> Tensor:
        return torch.nn.functional.normalize(strength * mean_QH[:count] + (1 - strength) * noise_QH[:count], dim=1)

    def share_above(queries_qH: Tensor) -> float:
        scores_qd = queries_qH @ candidates[:MATRIX_TILE].T
        own_qM = (queries_qH[:, None] * candidates[positives_QM[: len(queries_qH)]]).sum(-1)
        return float((scores_qd > own_qM.amin(1, keepdim=True)).double().mean())

    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if share_above(lean(middle, 200)) > share else (low, middle)
    queries = lean(low, shape.Q)
    groups = (torch.arange(shape.D, device=device) * shape.G // shape.D).int()
    offsets = torch.arange(shape.Q + 1, device=device) * shape.M
    return Problem(queries, candidates, groups, positives_QM, offsets, shape, share_above(queries[:200]))


def contenders(problem: Problem, *, backends: list[str], precisions: list[str], slow: bool) -> Iterator[Contender]:
    """All that can run here, floors first.

    `precisions` other than fp32 are for accelerators; `slow` adds those that run on a sample and are scaled up.
    """
    on_cuda = problem.queries.is_cuda
    for precision in precisions:
        yield Contender(f"matrix product, {precision}", matrix_product(problem, precision))
    for precision in precisions:
        floor = f"matrix product, {precision}"
        yield Contender(f"torch + counting, {precision}", torch_counting(problem, precision), floor)
        for backend in backends:
            if why_missing(backend) is None and (precision == "fp32" or backend == "cuda"):
                rounds = 3 if backend == "torch" and not on_cuda else None  # float64: many times slower
                run = extension(problem, precision, backend)
                yield Contender(f"hybatch {backend}, {precision}", run, floor, rounds=rounds)
                if precision == "fp32":
                    keeping = extension(problem, precision, backend, best=BEST)
                    yield Contender(f"hybatch {backend}, {precision}, {BEST} best kept", keeping, floor, rounds=rounds)
                if on_cuda and backend == "cuda" and precision != "fp32":
                    name = f"hybatch cuda, {precision} + rescore"
                    yield Contender(name, extension(problem, precision, backend, rescore=True), floor)
                if precision == "fp32" and backend != "torch":
                    for kind, codes in CODES.items():
                        run = extension(codes(problem), "fp32", backend)
                        yield Contender(f"hybatch {backend}, {kind} codes", run, floor)
    if not slow:
        return
    floor = "matrix product, fp32"
    yield Contender("torch + argsort per pair", torch_argsort(problem), floor, rounds=3)
    if not on_cuda:
        for name, (module, make) in SAMPLED.items():
            if importlib.util.find_spec(module) is not None:
                run, scale = make(problem)
                yield Contender(f"{name} (one pair, scaled up)", run, floor, scale=scale, rounds=3)


def whole_numbers(problem: Problem) -> Problem:
    """The embeddings as int8."""
    tables = (problem.queries, problem.candidates)
    queries, candidates = ((rows * (127 / rows.abs().amax())).round().to(torch.int8) for rows in tables)
    return replace(problem, queries=queries, candidates=candidates)


def signs(problem: Problem) -> Problem:
    """Their signs in bits, the first in the highest; packed where they lie, for millions of rows."""
    places = (2 ** torch.arange(7, -1, -1, device=problem.queries.device)).to(torch.uint8)
    tables = (problem.queries, problem.candidates)
    queries, candidates = (((rows > 0).unflatten(1, (-1, 8)) * places).sum(2, dtype=torch.uint8) for rows in tables)
    return replace(problem, queries=queries, candidates=candidates)


CODES = {"int8": whole_numbers, "binary": signs}


def extension(
    problem: Problem, precision: str, backend: str, rescore: bool = False, best: int = 0
) -> Callable[[], object]:
    positives = problem.positives_QM.flatten()

    def run() -> object:
        return rank_counts(
            problem.queries, problem.candidates, problem.groups, positives, problem.offsets, problem.shape.G,
            precision=precision, rescore=rescore, best=best, backend=backend,
        )  # fmt: skip

    return run


def matrix_product(problem: Problem, precision: str) -> Callable[[], object]:
    """Only the scores, written over one another tile by tile: what no contender can do without."""
    queries, candidates = (m.to(DTYPES[precision]) for m in (problem.queries, problem.candidates))
    tile = min(MATRIX_TILE, problem.shape.D)
    out = torch.empty(problem.shape.Q * tile, dtype=queries.dtype, device=queries.device)

    def run() -> None:
        with _tf32(precision == "tf32"):
            for block in candidates.split(tile):
                torch.mm(queries, block.T, out=out[: len(queries) * len(block)].view(len(queries), len(block)))

    return run


def torch_counting(problem: Problem, precision: str) -> Callable[[], object]:
    """Product in tiles, and for each positive and group a comparison and a sum."""
    queries, candidates = (m.to(DTYPES[precision]) for m in (problem.queries, problem.candidates))
    bounds = _group_bounds(problem)

    def run() -> Tensor:
        greater = torch.zeros(*problem.positives_QM.shape, problem.shape.G, dtype=torch.int32, device=queries.device)
        with _tf32(precision == "tf32"):
            for group, (first, end) in enumerate(itertools.pairwise(bounds)):
                block_dH = candidates[first:end]
                step = max(1, COUNTING_TILE // len(block_dH))
                for start in range(0, len(queries), step):
                    rows = slice(start, start + step)
                    own_qM = _own_scores(queries[rows], candidates, problem.positives_QM[rows])
                    scores_qd = queries[rows] @ block_dH.T
                    for m in range(problem.shape.M):
                        greater[rows, m, group] = (scores_qd > own_qM[:, m, None]).sum(1, dtype=torch.int32)
        return greater

    return run


def _own_scores(queries_qH: Tensor, candidates: Tensor, positives_qM: Tensor) -> Tensor:
    """Plain torch scores a positive apart from the others, and so not bit-equal to them: that is its trap."""
    return torch.stack([(queries_qH * candidates[own_q]).sum(1) for own_q in positives_qM.T], 1)


def torch_argsort(problem: Problem) -> Callable[[], object]:
    """A product and a sort for each pair of languages; the ranks are read off the permutation."""
    bounds = _group_bounds(problem)
    step = -(-problem.shape.Q // problem.shape.G)

    def run() -> Tensor:
        ranks = torch.zeros(*problem.positives_QM.shape, dtype=torch.int64, device=problem.queries.device)
        for first, end in itertools.pairwise(bounds):
            for start in range(0, problem.shape.Q, step):
                rows = slice(start, start + step)
                order_qd = (problem.queries[rows] @ problem.candidates[first:end].T).argsort(1, descending=True)
                own_qM = problem.positives_QM[rows] - first
                inside_qM = (own_qM >= 0) & (own_qM < end - first)
                place_qd = torch.empty_like(order_qd).scatter_(
                    1, order_qd, torch.arange(end - first, device=order_qd.device).expand_as(order_qd)
                )
                found_qM = place_qd.gather(1, own_qM.clamp(0, end - first - 1)) + 1
                ranks[rows] = torch.where(inside_qM, found_qM, ranks[rows])
        return ranks

    return run


def faiss_ranking(problem: Problem) -> tuple[Callable[[], object], float]:
    """A flat index asked for as many neighbours as it has vectors; 200 queries of the first pair."""
    import faiss

    queries, candidates, _ = _one_pair(problem, 200)
    faiss.omp_set_num_threads(torch.get_num_threads())

    def run() -> object:
        index = faiss.IndexFlatIP(candidates.shape[1])
        index.add(candidates)
        return index.search(queries, len(candidates))

    return run, _scale(problem, queries, candidates)


def pytrec_eval_ranking(problem: Problem) -> tuple[Callable[[], object], float]:
    """Product, dictionaries, evaluator; 200 queries of the first pair."""
    import pytrec_eval

    queries, candidates, own = _one_pair(problem, 200)
    names = [str(d) for d in range(len(candidates))]
    relevant = {str(q): {names[d]: 1} for q, d in enumerate(own)}

    def run() -> object:
        scores = (queries @ candidates.T).tolist()
        results = {str(q): dict(zip(names, row, strict=True)) for q, row in enumerate(scores)}
        return pytrec_eval.RelevanceEvaluator(relevant, {"map"}).evaluate(results)

    return run, _scale(problem, queries, candidates)


def ranx_ranking(problem: Problem) -> tuple[Callable[[], object], float]:
    """Product, dictionaries, compiled evaluator; 200 queries of the first pair."""
    import ranx

    queries, candidates, own = _one_pair(problem, 200)
    names = [str(d) for d in range(len(candidates))]
    relevant = ranx.Qrels({str(q): {names[d]: 1} for q, d in enumerate(own)})

    def run() -> object:
        scores = (queries @ candidates.T).tolist()
        results = ranx.Run({str(q): dict(zip(names, row, strict=True)) for q, row in enumerate(scores)})
        return ranx.evaluate(relevant, results, "map")

    return run, _scale(problem, queries, candidates)


def sentence_transformers_ranking(problem: Problem) -> tuple[Callable[[], object], float]:
    """The library's evaluator on ready embeddings; 200 queries of the first pair."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    queries, candidates, own = _one_pair(problem, 200)
    embeddings = {f"q{i}": torch.from_numpy(row) for i, row in enumerate(queries)}
    corpus = {f"d{i}": torch.from_numpy(row) for i, row in enumerate(candidates)}

    class ReadyEmbeddings:
        similarity_fn_name = "cosine"

        def __call__(self, texts: list[str]) -> Tensor:
            everything = embeddings | corpus
            return torch.stack([everything[text] for text in texts])

    evaluator = InformationRetrievalEvaluator(
        {name: name for name in embeddings},
        {name: name for name in corpus},
        {f"q{q}": {f"d{d}"} for q, d in enumerate(own)},
        map_at_k=[len(candidates)],
        score_functions={"cosine": lambda a, b: a @ b.T},
        write_csv=False,
    )
    model = ReadyEmbeddings()
    evaluator.embed_inputs = lambda _model, texts, **_: model(texts)
    return lambda: evaluator.compute_metrices(model), _scale(problem, queries, candidates)


SAMPLED = {
    "faiss flat search": ("faiss", faiss_ranking),
    "sentence-transformers evaluator": ("sentence_transformers", sentence_transformers_ranking),
    "pytrec_eval": ("pytrec_eval", pytrec_eval_ranking),
    "ranx": ("ranx", ranx_ranking),
}


def _one_pair(problem: Problem, num_queries: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Some queries, the candidates of the first group, and each query's positive among them."""
    end = _group_bounds(problem)[1]
    queries = problem.queries[:num_queries].numpy()
    return queries, problem.candidates[:end].numpy(), problem.positives_QM[:num_queries, 0].tolist()


def _scale(problem: Problem, queries: np.ndarray, candidates: np.ndarray) -> float:
    return problem.shape.Q * problem.shape.D / (len(queries) * len(candidates))


def _group_bounds(problem: Problem) -> list[int]:
    return [0, *torch.bincount(problem.groups).cumsum(0).tolist()]


class _tf32:
    """Allow or forbid tf32 products for a while."""

    def __init__(self, allowed: bool) -> None:
        self._wanted = "high" if allowed else "highest"

    def __enter__(self) -> None:
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self._wanted)

    def __exit__(self, *exception: object) -> None:
        torch.set_float32_matmul_precision(self._before)
