"""Times encoding for an evaluation: hybatch, with padding and without, and sentence-transformers.

    python benchmarks/bench_encoding.py --json FILE --model DIR [--texts 512] [--rounds 5] [--device cpu]

The texts are sentences of XQuAD-R (data below $HYBATCH_DATA_DIR or --data-dir), evenly spaced over its languages, and
beside them one language alone (--language). The floor is the encoder's own matrix products by `torch.mm`, for as many
tokens as the texts have, at the precision; rates in float32 stand beside the peak of the processor's fused
multiply-adds. sentence-transformers encodes with its default batch, and with that of hybatch; the better one is
reported. Contenders take turns, round by round; their vectors are compared, and the greatest difference stands beside
the figures.

Writes FILE, and a Markdown table beside it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Contender, Timing, environment, interleaved, rate_cells, write_figures, write_report
from torch import Tensor

from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.evaluation.encoding.precision import autocast_dtype
from hybatch.evaluation.tasks.lareqa import load_lareqa
from hybatch.models import Encoder
from hybatch.models.backbone.traits import unused_parameters

FLOOR = "torch.mm, the products alone"
OURS = "hybatch"
PADDED = "hybatch, padded"
OTHER = "sentence-transformers"


def some_texts(data_dir: Path, language: str | None, count: int) -> list[str]:
    """Distinct sentences, evenly spaced over the task's candidates."""
    task = load_lareqa("xquad-r", data_dir, None if language is None else [language])
    texts = sorted({text for rows in task.candidates.values() for text in rows})
    return [texts[i * len(texts) // count] for i in range(count)]


def products(encoder: Encoder, tokens: int, dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], None], int]:
    """The products of all layers on that many tokens, and their floating-point operations."""
    unused = unused_parameters(encoder.backbone)  # type: ignore[arg-type]
    tables = {id(m.weight) for m in encoder.backbone.modules() if isinstance(m, torch.nn.Embedding)}
    shapes = [
        tuple(parameter.shape)
        for name, parameter in encoder.backbone.named_parameters()
        if parameter.ndim == 2 and id(parameter) not in tables and name not in unused
    ]
    distinct = {shape: shapes.count(shape) for shape in dict.fromkeys(shapes)}
    operands: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
    for out, width in distinct:
        made = (torch.randn(tokens, width), torch.randn(width, out), torch.empty(tokens, out))
        operands[out, width] = tuple(one.to(device, dtype) for one in made)  # type: ignore[assignment]

    def run() -> None:
        for shape, times in distinct.items():
            tokens_NI, weight_IO, out_NO = operands[shape]
            for _ in range(times):
                torch.mm(tokens_NI, weight_IO, out=out_NO)

    return run, sum(2 * tokens * out * width * times for (out, width), times in distinct.items())


def contenders(
    arguments: argparse.Namespace, texts: list[str], precision: str
) -> tuple[list[Contender], dict[str, Any]]:
    """All of one table, and what is to be said of it."""
    from sentence_transformers import SentenceTransformer

    device = torch.device(arguments.device)
    dtype = autocast_dtype(precision, device)  # type: ignore[arg-type]
    encoder = Encoder.load(arguments.model).to(device)
    padded = Encoder.load(arguments.model).to(device)
    padded.pad("it is a contender")
    encoder.autocast_dtype = padded.autocast_dtype = dtype
    theirs = SentenceTransformer(arguments.model, device=arguments.device)
    vectors: dict[str, np.ndarray] = {}

    def ours(name: str, one: Encoder) -> None:
        vectors[name] = encode_texts(one, texts, "passage", batch_size=arguments.batch_size, progress=False)

    def others(name: str, batch_size: int) -> None:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            vectors[name] = theirs.encode_document(texts, batch_size=batch_size, show_progress_bar=False)

    tokens = sum(encoder.lengths(texts, "passage"))
    floor, flops = products(encoder, tokens, dtype or torch.float32, device)
    names = {OTHER: 32, f"{OTHER}, batches of {arguments.batch_size}": arguments.batch_size}
    made = [
        Contender(FLOOR, floor),
        Contender(OURS, partial(ours, OURS, encoder), FLOOR),
        Contender(PADDED, partial(ours, PADDED, padded), FLOOR),
        *(Contender(name, partial(others, name, size), FLOOR) for name, size in names.items()),
    ]
    return made, {"tokens": tokens, "flops": flops, "vectors": vectors}


def measure(arguments: argparse.Namespace, language: str | None, precision: str) -> dict[str, Any]:
    texts = some_texts(arguments.data_dir, language, arguments.texts)
    made, facts = contenders(arguments, texts, precision)
    timings = interleaved(made, arguments.rounds, torch.device(arguments.device))
    best = min((one for one in timings if one.name.startswith(OTHER)), key=lambda one: np.median(one.wall))
    kept = [one for one in timings if one is best or not one.name.startswith(OTHER)]
    vectors = facts.pop("vectors")
    return {
        "texts": len(texts),
        "language": language or "all",
        "precision": precision,
        **facts,
        "rows": [row(one, best, facts["tokens"], facts["flops"]) for one in kept],
        "largest_difference": float(max(np.abs(vectors[OURS] - other).max() for other in vectors.values())),
    }


def row(one: Timing, other: Timing, tokens: int, flops: int) -> dict[str, Any]:
    seconds = float(np.median(one.wall))
    speed_up = float(np.median(np.array(other.wall) / np.array(one.wall)))
    return {
        **one.summary(),
        "tokens_per_second": tokens / seconds,
        "gflops": flops / seconds / 1e9,
        "speed_up": None if one.name == FLOOR else speed_up,
    }


def markdown(result: dict[str, Any]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in result["environment"].items() if value is not None)]
    for table in result["tables"]:
        peak = result["environment"] if table["precision"] == "float32" else {}  # measured in float32
        lines += ["", f"{table['texts']} sentences of XQuAD-R ({table['language']}), {table['tokens']:,} tokens, "
                  f"{table['precision']}; vectors of all within {table['largest_difference']:.1e}:", ""]  # fmt: skip
        lines += ["| | seconds | tokens/s | of the floor | GFLOP/s | of peak | over sentence-transformers |"]
        lines += ["|" + "---|" * 7]
        for one in table["rows"]:
            ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}x"
            over = "" if one["speed_up"] is None else f"{one['speed_up']:.2f}x"
            rate = rate_cells({**one, "gflop": table["flops"] / 1e9}, peak)
            lines.append(f"| {one['name']} | {one['p50']:.2f} | {one['tokens_per_second']:,.0f} | {ratio} "
                         f"| {' | '.join(rate)} | {over} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write; .md goes beside it")
    parser.add_argument("--model", required=True, help="folder of an encoder in sentence-transformers' layout")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HYBATCH_DATA_DIR"), help="parent of xquad-r/")
    parser.add_argument("--language", default="de", help="of the second set of texts")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bf16", "fp16"], default=["float32"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("--data-dir is needed: the folder that holds xquad-r/")
    arguments.data_dir = Path(arguments.data_dir)
    return arguments


def main() -> None:
    arguments = parse()
    result: dict[str, Any] = {
        "environment": environment(torch.device(arguments.device), peak="float32" in arguments.precision),
        "settings": {"model": Path(arguments.model).name, "batch_size": arguments.batch_size},
        "tables": [],
    }
    for precision in arguments.precision:
        for language in (None, arguments.language):
            result["tables"].append(measure(arguments, language, precision))
            write_figures(arguments.json, result, finished=False)
    write_report(arguments.json, result, markdown)


if __name__ == "__main__":
    main()
