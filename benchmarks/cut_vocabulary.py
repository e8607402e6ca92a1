"""Writes an encoder with no more of its vocabulary than given texts use, small enough to carry to another machine.

    python benchmarks/cut_vocabulary.py --model DIR --output DIR [--corpora PATH ...] [--tasks NAME ...]

For encoders with a unigram tokenizer: most weights of XLM-R's kin are rows of tokens that a data set never uses. The
texts' tokens are the same but for their numbers, and their vectors the same bit for bit; the tokens of all texts and
the vectors of some are compared before the folder appears. Other texts are cut into other pieces than before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn

from hybatch.atomic import atomic_directory
from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.task import TextsTask
from hybatch.models import Encoder
from hybatch.paths import check_writable, path_of
from hybatch.training.texts import all_texts

_TOKENIZER = "tokenizer.json"
_BLOCK = 10_000
_SAMPLE = 16
"""Texts whose vectors are compared."""


def texts_of(corpora: Sequence[str], tasks: Sequence[str], data_dir: Path | None) -> list[str]:
    """Every distinct text, in the order in which they are met.

    Raises:
        UserError: a corpus or a task cannot be read, or there is no text.
    """
    texts = dict.fromkeys(all_texts([open_corpus(CorpusConfig(path=path)) for path in corpora]))
    for name in tasks:
        task = load_task(name, data_dir)
        if not isinstance(task, TextsTask):
            raise UserError(f"--tasks {name}: searches a collection; name a task whose texts are read at once")
        for tables in (task.queries, task.candidates):
            texts |= dict.fromkeys(text for listed in tables.values() for text in listed)
    if not texts:
        raise UserError("there is no text: name --corpora or --tasks")
    return list(texts)


def token_rows(encoder: Encoder, texts: Sequence[str]) -> Iterator[list[int]]:
    """The tokens of each text as a query and as a passage, uncut."""
    backend: Tokenizer = encoder.tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = encoder.tokenizer.split_special_tokens
    for prefix in dict.fromkeys((encoder.config.prefix("query"), encoder.config.prefix("passage"))):
        for start in range(0, len(texts), _BLOCK):
            for encoding in backend.encode_batch_fast([prefix + text for text in texts[start : start + _BLOCK]]):
                yield encoding.ids


def kept_tokens(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Numbers of the tokens to keep, ascending: those used, special ones, and what else the cutting rests on.

    Raises:
        UserError: the tokenizer is of another kind.
    """
    if not getattr(encoder.tokenizer, "is_fast", False):
        raise UserError("the encoder's tokenizer is not one of the tokenizers library: its vocabulary cannot be cut")
    state = tokenizer_state(encoder.tokenizer.backend_tokenizer)
    used = np.zeros(len(encoder.tokenizer), dtype=bool)
    for row in token_rows(encoder, texts):
        used[row] = True
    used[[token["id"] for token in state["added_tokens"]]] = True
    used[encoder.tokenizer.all_special_ids] = True
    # An unknown character costs 10 more than the unlikeliest piece: without it unknown ones would become likelier.
    used[np.argmin([score for _, score in state["model"]["vocab"]])] = True
    return np.flatnonzero(used)


def tokenizer_state(backend: Tokenizer) -> dict[str, Any]:
    """The tokenizer as its file has it.

    Raises:
        UserError: it is of a kind whose vocabulary is not cut here.
    """
    state: dict[str, Any] = json.loads(backend.to_str())
    kinds = (state["model"]["type"], (state["post_processor"] or {}).get("type"))
    if kinds != ("Unigram", "TemplateProcessing"):
        raise UserError(f"the encoder's tokenizer is {' and '.join(map(str, kinds))}: only unigram ones can be cut")
    return state


def cut_tokenizer(backend: Tokenizer, kept: np.ndarray) -> str:
    """The file of the tokenizer that has the kept tokens alone, numbered in their order."""
    state = tokenizer_state(backend)
    number = {old: new for new, old in enumerate(kept.tolist())}
    model = state["model"]
    model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in number]
    model["unk_id"] = number[model["unk_id"]]
    for token in state["added_tokens"]:
        token["id"] = number[token["id"]]
    for token in state["post_processor"]["special_tokens"].values():
        token["ids"] = [number[old] for old in token["ids"]]
    return json.dumps(state, ensure_ascii=False)


@torch.no_grad()
def cut_backbone(backbone: Any, kept: np.ndarray) -> None:
    """Leave the rows of the kept tokens in a backbone's embeddings.

    Raises:
        UserError: the padding token gets another number, from which some architectures count their positions.
    """
    old = backbone.get_input_embeddings()
    number = {old: new for new, old in enumerate(kept.tolist())}
    for name, value in backbone.config.to_dict().items():
        if name.endswith("_token_id") and value in number:
            setattr(backbone.config, name, number[value])
            if name == "pad_token_id" and number[value] != value:
                raise UserError(f"the padding token's number {value} would become {number[value]}: it cannot be cut")
    new = nn.Embedding(len(kept), old.embedding_dim, padding_idx=old.padding_idx)
    new.weight.copy_(old.weight[torch.from_numpy(kept)])
    backbone.set_input_embeddings(new)
    backbone.config.vocab_size = len(kept)


def write_cut(model: Path, output: Path, texts: Sequence[str]) -> int:
    """Write the encoder with what the texts use; return how many tokens that are.

    Raises:
        UserError: the model cannot be read or cut, or a text would get other tokens or another vector.
        OSError, SafetensorError: the folder cannot be written.
    """
    encoder = Encoder.load(model)
    kept = kept_tokens(encoder, texts)
    file = cut_tokenizer(encoder.tokenizer.backend_tokenizer, kept)
    smaller = Encoder.load(model)
    cut_backbone(smaller.backbone, kept)
    with atomic_directory(output) as partial:
        folder = partial / "encoder"
        smaller.save(folder)
        (folder / _TOKENIZER).write_text(file, encoding="utf-8")
        check_same(encoder, Encoder.load(folder), kept, texts)
        for path in folder.iterdir():
            path.rename(partial / path.name)
        folder.rmdir()
    return len(kept)


@torch.no_grad()
def check_same(encoder: Encoder, smaller: Encoder, kept: np.ndarray, texts: Sequence[str]) -> None:
    """Check that a cut encoder does with the texts what the whole one does.

    Raises:
        UserError: names the first text with other tokens, or the role of other vectors.
    """
    for place, (whole, cut) in enumerate(zip(token_rows(encoder, texts), token_rows(smaller, texts), strict=True)):
        if whole != kept[cut].tolist():
            raise UserError(f"the text {texts[place % len(texts)]!a} would get other tokens: nothing was written")
    sample = list(texts[:: max(1, len(texts) // _SAMPLE)])
    for role in ("query", "passage"):
        if not torch.equal(encoder(encoder.tokenize(sample, role)), smaller(smaller.tokenize(sample, role))):
            raise UserError(f"the cut encoder gives other vectors as a {role}: nothing was written")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; 2 on bad input."""
    parser = argparse.ArgumentParser(description="Write an encoder with the part of its vocabulary that texts use.")
    parser.add_argument("--model", type=path_of("--model"), required=True, metavar="DIR", help="folder of the encoder")
    parser.add_argument("--output", type=path_of("--output"), required=True, metavar="DIR", help="replaced if there")
    parser.add_argument("--corpora", nargs="*", default=[], metavar="PATH", help="as in a recipe's corpora")
    parser.add_argument("--tasks", nargs="*", default=[], metavar="NAME", help="of hybatch evaluate")
    data_dir = os.environ.get("HYBATCH_DATA_DIR") or None
    parser.add_argument("--data-dir", type=path_of("--data-dir"), default=data_dir, metavar="DIR", help="of the tasks")
    try:
        arguments = parser.parse_args(argv)
        if not arguments.model.is_dir():
            raise UserError(f"--model {arguments.model}: there is no such folder")
        check_writable(arguments.output, "--output")
        texts = texts_of(arguments.corpora, arguments.tasks, arguments.data_dir)
        number = write_cut(arguments.model, arguments.output, texts)
    except (UserError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output}: {number:,} tokens, those of {len(texts):,} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
