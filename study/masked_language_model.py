"""Make mini-xlmr: a small backbone by masked-language modelling on the monolingual text of all languages.

    python study/masked_language_model.py --config study/recipes/backbone-mini-xlmr.yaml

The recipe of BERT and XLM-R (arXiv 1810.04805, 1911.02116) in small: tokens of whole texts packed into equal chunks of
one language, 15% of them to be predicted, of which 80% are masked and 10% exchanged. A backbone without layers sees
nothing of a token's neighbours; there the token is predicted from their mean, as CBOW does (arXiv 1301.3781), and at
the end the embeddings are whitened (arXiv 2103.15316): a mean of raw ones says little more than the text's language.
The folder then holds a backbone and its tokenizer in transformers' layout, and metrics.json with the held-out loss and
accuracy. The same command goes on from the last checkpoint where it was interrupted, and ends with the same weights.

B rows of a batch, T tokens of a chunk, M tokens to predict, H width, V vocabulary.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hybatch.atomic import atomic_file
from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.config import FreshBackboneConfig
from hybatch.models.precision import why_not_bf16
from hybatch.models.tokenization import train_tokenizer
from hybatch.paths import check_writable, expand_path
from hybatch.training.run.run_folder import differing_fields
from hybatch.training.texts import all_texts

Chunk = dict[str, list[int]]
METRICS = "metrics.json"
RECIPE = "recipe.yaml"
_IGNORED = -100  # torch's and transformers' label of what is not to be predicted
_SAMPLE = 50_000  # chunks whose mean and covariance stand for those of all texts


@dataclass(kw_only=True)
class PretrainingConfig:
    """What mini-xlmr is made of."""

    output_dir: str
    """Folder of the backbone. The last checkpoints stay in its checkpoints/, of which nothing needs them once
    metrics.json stands."""
    corpora: list[CorpusConfig]
    """Their questions and passages are the text, each distinct one once."""
    held_out: list[CorpusConfig] = field(default_factory=list)
    """Its passages measure the backbone at the end."""
    fresh: FreshBackboneConfig
    """Architecture, sizes, tokenizer."""
    neighbours: int | None = None
    """Predict a token from the mean of so many tokens on either side, those to be predicted left out; by default from
    what the backbone says at its place, which needs layers."""
    chunk_length: int = 64
    """Tokens of a chunk."""
    batch_size: int = 128
    """Chunks of a step."""
    steps: int = 1000
    """Updates."""
    learning_rate: float = 1e-3
    """Peak, after `warmup_steps`; falls to zero in a line."""
    warmup_steps: int = 100
    """Updates until the peak."""
    weight_decay: float = 0.01
    """Of AdamW."""
    mask_share: float = 0.15
    """Share of the tokens that are to be predicted."""
    checkpoint_every_steps: int = 200
    """Updates between checkpoints; the last two are kept."""
    mixed_precision: bool = True
    """Whether the backbone computes in bf16."""
    seed: int = 0
    """Of weights, order and masks."""

    def __post_init__(self) -> None:
        for name in ("chunk_length", "batch_size", "steps", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if (self.neighbours is None) == (self.fresh.layers == 0) or not (
            self.neighbours is None or self.neighbours > 0
        ):
            raise UserError("neighbours: give at least 1 for a backbone without layers, and none for others")
        if not 0 < self.mask_share < 1:
            raise UserError(f"mask_share is {self.mask_share}: it must be between 0 and 1")


class MaskedLanguageModel(nn.Module):
    """A backbone, and XLM-R's head over it whose output matrix is the matrix of token embeddings.

    Args:
        neighbours: None: a token is predicted from its own hidden state; else from the mean of those around it.
    """

    def __init__(self, backbone: nn.Module, *, width: int, vocabulary_size: int, neighbours: int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neighbours = neighbours
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss over the tokens to predict, and the logits of these alone: [B, T] three times -> [], [M, V].

        The other tokens' logits would be computed for nothing, and they are most of the work of a small model.
        """
        hidden_BTH = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        wanted_BT = labels != _IGNORED
        if self.neighbours is not None:
            hidden_BTH = mean_of_neighbours(hidden_BTH, ~wanted_BT, self.neighbours)
        embeddings_VH = self.backbone.get_input_embeddings().weight  # type: ignore[operator]
        logits_MV = F.linear(self.transform(hidden_BTH[wanted_BT]), embeddings_VH, self.bias)
        return {"loss": F.cross_entropy(logits_MV.float(), labels[wanted_BT]), "logits": logits_MV}


def mean_of_neighbours(hidden_BTH: Tensor, seen_BT: Tensor, number: int) -> Tensor:
    """The mean of the seen hidden states among `number` places on either side; zero where none is seen."""
    window = 2 * number + 1
    weights_BT1 = seen_BT.unsqueeze(-1).to(hidden_BTH.dtype)
    both = torch.cat([hidden_BTH * weights_BT1, weights_BT1], dim=-1).transpose(1, 2)
    # The same divisor in both: it cancels out.
    means = F.avg_pool1d(both, window, stride=1, padding=number).transpose(1, 2)
    return means[..., :-1] / means[..., -1:].clamp_min(0.5 / window)


class Chunks(Dataset[Chunk]):
    """Equal chunks of tokens, int32 [N, T]."""

    def __init__(self, ids_NT: np.ndarray) -> None:
        self.ids_NT = ids_NT

    def __len__(self) -> int:
        return len(self.ids_NT)

    def __getitem__(self, index: int) -> Chunk:
        return {"input_ids": self.ids_NT[index].tolist(), "index": [index]}


class Masking:
    """Chooses and masks the tokens to predict, by the chunks of a batch and the seed alone.

    Drawn from the generator that everything shares, they would change where a run goes on: batches are made ahead of
    the checkpoint that the generator is kept in.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, share: float, seed: int) -> None:
        self._tokenizer, self._share, self._seed = tokenizer, share, seed

    def __call__(self, chunks: Sequence[Chunk]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `labels`, int64 [B, T]."""
        words = [self._seed, *(chunk["index"][0] for chunk in chunks)]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        collate = DataCollatorForLanguageModeling(self._tokenizer, mlm_probability=self._share, seed=seed)
        return collate([{"input_ids": chunk["input_ids"]} for chunk in chunks])


def chunks_of(texts: Iterable[Sequence[str]], tokenizer: PreTrainedTokenizerFast, length: int) -> Chunks:
    """Tokens of each sequence of texts one behind the other, cut into chunks; what is left of a sequence is dropped.

    Raises:
        UserError: there is not one chunk.
    """
    rows = []
    for sequence in texts:
        encodings = tokenizer.backend_tokenizer.encode_batch_fast(list(sequence))
        tokens = np.concatenate([np.array(encoding.ids, dtype=np.int32) for encoding in encodings] or [np.empty(0)])
        number = len(tokens) // length
        rows.append(tokens[: number * length].reshape(number, length))
    if not sum(map(len, rows)):
        raise UserError(f"the corpora have not enough text for one chunk of {length} tokens: lower chunk_length")
    return Chunks(np.concatenate(rows).astype(np.int32))


def texts_by_language(configs: Sequence[CorpusConfig]) -> dict[str, list[str]]:
    """Every distinct question and passage of each language, in the order of the corpora.

    Raises:
        UserError: a corpus cannot be read.
    """
    texts: dict[str, dict[str, None]] = {}
    for corpus in (open_corpus(config) for config in configs):
        for language in corpus.languages:
            texts.setdefault(language, {}).update(dict.fromkeys(all_texts([corpus], [language])))
    return {language: list(distinct) for language, distinct in sorted(texts.items())}


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer's own state comes last."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(re.sub(r"\D", "", path.name) or 0)):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def claim_for_recipe(folder: Path, config: PretrainingConfig) -> None:
    """Write down what the folder's backbone is made of, or hold it against what was written.

    Raises:
        UserError: the folder holds a backbone of another recipe (the fields that differ are named), or cannot be
            written.
    """
    check_writable(folder, "output_dir")
    path = folder / RECIPE
    if path.exists():
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        if changes := differing_fields(before, asdict(config)):
            mend = "name another output_dir, or remove it"
            raise UserError(f"{folder} holds a backbone of another recipe: {'; '.join(changes)}; {mend}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        yaml.safe_dump(asdict(config), file, sort_keys=False)


def pretrain(config: PretrainingConfig) -> dict[str, float]:
    """Make the backbone, or go on making it, and return the held-out figures.

    Raises:
        UserError: a corpus cannot be read.
    """
    folder = Path(expand_path(config.output_dir, "output_dir"))
    texts = texts_by_language(config.corpora)
    tokenizer = train_tokenizer(config.fresh, (text for listed in texts.values() for text in listed))
    train_set = chunks_of(texts.values(), tokenizer, config.chunk_length)
    print(f"{len(train_set):,} chunks of {config.chunk_length} tokens in {', '.join(texts)}", flush=True)
    trainer = _trainer(config, folder / "checkpoints", tokenizer, train_set)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(folder / "checkpoints"))
    figures = {"steps": config.steps, "tokens": config.steps * config.batch_size * config.chunk_length}
    if config.held_out:
        figures |= held_out_figures(trainer.model, tokenizer, config)
    if config.fresh.layers == 0:
        whiten(trainer.model.backbone, train_set.ids_NT[:: max(1, len(train_set) // _SAMPLE)])
    trainer.model.backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with atomic_file(folder / METRICS) as file:
        json.dump(figures, file, indent=1)
    return figures


def _trainer(
    config: PretrainingConfig, checkpoints: Path, tokenizer: PreTrainedTokenizerFast, train_set: Chunks
) -> Trainer:
    set_seed(config.seed)
    backbone = fresh_backbone(
        config.fresh,
        vocabulary_size=len(tokenizer),
        max_positions=config.fresh.max_positions or config.chunk_length,
        attn_implementation=None,
    )
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        bf16=config.mixed_precision,
        use_cpu=not torch.cuda.is_available(),
        save_steps=config.checkpoint_every_steps,
        save_total_limit=2,
        logging_steps=50,
        report_to=[],
        seed=config.seed,
        data_seed=config.seed,
        dataloader_drop_last=True,
        remove_unused_columns=False,
    )
    return Trainer(
        model=MaskedLanguageModel(
            backbone, width=config.fresh.width, vocabulary_size=len(tokenizer), neighbours=config.neighbours
        ),
        args=arguments,
        train_dataset=train_set,
        data_collator=Masking(tokenizer, config.mask_share, config.seed),
    )


@torch.no_grad()
def whiten(backbone: PreTrainedModel, ids_NT: np.ndarray) -> None:
    """Change token embeddings so that their means over chunks have mean zero and the same variance in every direction.

    Pooling by the mean is linear, so that whitening the pooled vectors is whitening the embeddings. Their average
    length becomes that of fresh ones: cosines are blind to it, but Adam's steps are not. Positions are put to zero.
    """
    embeddings_VH = backbone.get_input_embeddings().weight
    old_VH = embeddings_VH.double()
    pooled_NH = torch.stack([old_VH[torch.from_numpy(row).long()].mean(dim=0) for row in ids_NT])
    mean_H = pooled_NH.mean(dim=0)
    covariance_HH = (pooled_NH - mean_H).T @ (pooled_NH - mean_H) / len(pooled_NH)
    variances_H, directions_HH = torch.linalg.eigh(covariance_HH)
    # Directions that hardly vary are noise; a thousandth of the mean variance keeps them from being blown up.
    scales_H = (variances_H + 1e-3 * variances_H.mean()).rsqrt()
    new_VH = (old_VH - mean_H) @ (directions_HH * scales_H) @ directions_HH.T
    fresh_norm = backbone.config.initializer_range * new_VH.shape[1] ** 0.5
    embeddings_VH.copy_(new_VH * (fresh_norm / new_VH.norm(dim=1).mean()))
    for name, parameter in backbone.named_parameters():
        if "position" in name:
            parameter.zero_()


@torch.no_grad()
def held_out_figures(
    model: MaskedLanguageModel, tokenizer: PreTrainedTokenizerFast, config: PretrainingConfig
) -> dict[str, float]:
    """Loss and accuracy of the masked tokens of each held-out language, the same tokens whatever was trained."""
    figures: dict[str, float] = {}
    model.eval()
    for language, texts in texts_by_language(config.held_out).items():
        chunks = chunks_of([texts], tokenizer, config.chunk_length)
        collate = Masking(tokenizer, config.mask_share, 0)
        sums = torch.zeros(3, dtype=torch.float64)
        for start in range(0, len(chunks), config.batch_size):
            batch = collate([chunks[row] for row in range(start, min(start + config.batch_size, len(chunks)))])
            batch = {name: tensor.to(model.bias.device) for name, tensor in batch.items()}
            out = model(**batch)
            labels_M = batch["labels"][batch["labels"] != _IGNORED]
            hits = (out["logits"].argmax(dim=1) == labels_M).sum()
            sums += torch.stack([out["loss"] * len(labels_M), hits, torch.tensor(len(labels_M))]).double().cpu()
        figures |= {f"{language}/loss": float(sums[0] / sums[2]), f"{language}/accuracy": float(sums[1] / sums[2])}
    for name in ("loss", "accuracy"):
        values = [value for key, value in figures.items() if key.endswith(f"/{name}")]
        figures[f"mean/{name}"] = sum(values) / len(values)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Make the backbone; 0 also where it was finished before, 2 on bad input."""
    parser = ArgumentParser(description="Make a small backbone by masked-language modelling.")
    parser.add_argument("--config", action="config", help="YAML file")
    parser.add_class_arguments(PretrainingConfig)
    try:
        namespace = parser.parse_args(argv)
        # jsonargparse 4.49 renamed it.
        config = (getattr(parser, "instantiate", None) or parser.instantiate_classes)(namespace)
        del config.config
        settings = PretrainingConfig(**vars(config))
        folder = Path(expand_path(settings.output_dir, "output_dir"))
        claim_for_recipe(folder, settings)
        if (folder / METRICS).exists():
            print(f"{folder} is finished")
            return 0
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if settings.mixed_precision and (reason := why_not_bf16(device)):
            print(f"warning: {reason}: bf16 is slower there; set mixed_precision to false", file=sys.stderr)
        print(json.dumps(pretrain(settings), indent=1))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
