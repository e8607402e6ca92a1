"""The same training on hybatch and on sentence-transformers' trainer, in processes that wait between their rounds.

    python benchmarks/training_contenders.py SETTINGS.json CONTENDER

is one process of one contender (RANK and WORLD_SIZE as torchrun sets them). The main one reads numbers of rounds from
its standard input and answers each with one line of JSON; every round trains anew from the same weights, on the same
batches in the same order.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from measure import reset_host_peak, status_bytes

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.losses import ContrastiveConfig, ContrastiveLoss
from hybatch.models import Encoder, EncoderConfig
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.training.config import RunConfig, TrainingConfig
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.caching import loss_of_embeddings

HYBATCH, HYBATCH_CACHED = "hybatch", "hybatch, cached"
OTHER, OTHER_CACHED = "sentence-transformers", "sentence-transformers, cached"
FLOORS = {HYBATCH: OTHER, HYBATCH_CACHED: OTHER_CACHED}
"""What each contender of ours is compared with."""
HELD_OUT_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training, whoever runs it.

    Attributes:
        folder: holds the encoder to start from in initial/; what a round writes goes below.
        corpus: path as in `corpora`.
        warmup_steps: first steps that are trained but not timed.
        chunk_size: texts that the cached contenders encode at once.
        precision: no or bf16.
    """

    folder: str
    corpus: str
    batch_size: int
    chunk_size: int
    steps: int
    warmup_steps: int
    max_length: int
    precision: str
    learning_rate: float = 1e-3
    temperature: float = 0.05

    @classmethod
    def read(cls, path: Path) -> Settings:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def run_config(self, output_dir: Path, *, cached: bool) -> RunConfig:
        """The options under which hybatch does it; everything else is at its default."""
        encoder = EncoderConfig(
            backbone=str(Path(self.folder, "initial")),
            query_max_length=self.max_length,
            passage_max_length=self.max_length,
        )
        training = TrainingConfig(
            steps=self.steps,
            chunk_size=self.chunk_size if cached else None,
            learning_rate=self.learning_rate,
            schedule="constant",
            warmup_steps=0,
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            checkpoint_every_steps=None,
            trackers=[],
        )
        return RunConfig(
            output_dir=str(output_dir),
            corpora=[CorpusConfig(path=self.corpus)],
            model=encoder,
            sampling=SamplingConfig(batch_size=self.batch_size),
            loss=ContrastiveConfig(temperature=self.temperature),
            training=training,
        )

    def sampler(self, *, seed: int) -> BatchSampler:
        corpus = open_corpus(CorpusConfig(path=self.corpus), progress=False)
        config = SamplingConfig(batch_size=self.batch_size)
        return BatchSampler([corpus], config, seed=seed, total_steps=self.steps, progress=False)


Train = Callable[[Settings, Path], tuple[float, dict[str, torch.Tensor]]]
"""Train once, writing below a folder: seconds of the timed steps, and the backbone's weights at the end."""


def hybatch_trainer(settings: Settings, *, cached: bool) -> Train:
    from hybatch.training.run.launch import build_accelerator
    from hybatch.training.run.loop import train
    from hybatch.training.survival.stopping import StopRequest

    accelerator = build_accelerator(settings.run_config(Path(), cached=cached).training, settings.folder)

    def train_once(settings: Settings, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
        with StopRequest() as stop:
            train(settings.run_config(folder, cached=cached), accelerator, stop)
        if not accelerator.is_main_process:
            return 0.0, {}
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        seconds = [settings.batch_size / row["examples_per_second"] for row in rows if "loss" in row]
        return sum(seconds[settings.warmup_steps :]), Encoder.load(folder / "final").backbone.state_dict()

    return train_once


def sentence_transformers_trainer(settings: Settings, *, cached: bool) -> Train:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
    from sentence_transformers.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *arguments: Any, **others: Any) -> None:
            self.ends.append(time.perf_counter())

    class InOrder(DefaultBatchSampler):
        def __init__(self, dataset: Any, **options: Any) -> None:
            super().__init__(SequentialSampler(dataset), **options)

    sampler = settings.sampler(seed=0)
    texts = [sampler.texts(sampler.batch(step)) for step in range(settings.steps)]
    columns = {
        "anchor": [text for batch in texts for text in batch.questions],
        "positive": [text for batch in texts for text in batch.passages],
    }
    dataset = Dataset.from_dict(columns)
    processes = int(os.environ["WORLD_SIZE"])

    def train_once(settings: Settings, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
        model = SentenceTransformer(str(Path(settings.folder, "initial")), device="cpu")
        options: dict[str, Any] = {"scale": 1 / settings.temperature, "gather_across_devices": processes > 1}
        if cached:
            loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=settings.chunk_size, **options)
        else:
            loss = MultipleNegativesRankingLoss(model, **options)
        prompts = {"anchor": model.prompts["query"], "positive": model.prompts["passage"]}
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch_size // processes,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=1e-2,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=settings.precision == "bf16",
            batch_sampler=InOrder,
            prompts=prompts,
            use_cpu=True,
            ddp_backend="gloo" if processes > 1 else None,
            ddp_broadcast_buffers=False if processes > 1 else None,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        clock = Clock()
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=dataset, loss=loss, callbacks=[clock]
        ).train()
        return clock.ends[-1] - clock.ends[settings.warmup_steps - 1], model[0].auto_model.state_dict()

    return train_once


@torch.no_grad()
def held_out_loss(settings: Settings, weights: dict[str, torch.Tensor] | None) -> float:
    """Mean loss of the trained encoder (None: as it was before) on batches of another draw, by one code for all."""
    encoder = Encoder.load(Path(settings.folder, "initial"))
    if weights is not None:
        encoder.backbone.load_state_dict(weights)
    loader = BatchLoader(sampler=settings.sampler(seed=1), tokenize=encoder.tokenize)
    loss = ContrastiveLoss(temperature=settings.temperature)
    losses = []
    for local in map(loader.load, range(HELD_OUT_STEPS)):
        embeddings = torch.cat([encoder(chunk.features) for chunk in local.chunks])
        losses.append(float(loss_of_embeddings(loss, local, embeddings).loss))
    return sum(losses) / len(losses)


def build_initial(settings: Settings, model: EncoderConfig) -> None:
    """Make the encoder that all start from: a backbone as it is, or a trained tokenizer and random weights."""
    from hybatch.models import build_encoder
    from hybatch.training.texts import some_texts

    if model.fresh is None:
        build_encoder(model, seed=0).save(Path(settings.folder, "initial"))
        return
    corpus = open_corpus(CorpusConfig(path=settings.corpus), progress=False)
    texts = list(some_texts([corpus], corpus.languages, model.fresh.tokenizer_texts))
    build_encoder(model, seed=0, texts=texts).save(Path(settings.folder, "initial"))


def _answer(settings: Settings, train_once: Train, number: int) -> dict[str, Any]:
    """Train in a folder of this round; in round 0 leave the weights there for the parent to measure."""
    folder = Path(settings.folder, f"{sys.argv[2]}-{os.environ['WORLD_SIZE']}-{number}")
    before = reset_host_peak()
    seconds, weights = train_once(settings, folder)
    answer = {"seconds": seconds, "peak_bytes": None if before is None else status_bytes("VmHWM") - before}
    if number == 0:
        answer["weights"] = str(folder.with_suffix(".pt"))
        torch.save(weights, answer["weights"])
    return answer


def _rounds(is_main: bool) -> Iterator[int]:
    """The rounds asked for, on every process."""
    while True:
        line = sys.stdin.readline() if is_main else ""
        number = [int(line) if line else -1]
        if dist.is_initialized():
            dist.broadcast_object_list(number)
        if number[0] < 0:
            return
        yield number[0]


def main() -> None:
    settings, name = Settings.read(Path(sys.argv[1])), sys.argv[2]
    answers: TextIO = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print goes to the log
    is_main = os.environ["RANK"] == "0"
    if os.environ["WORLD_SIZE"] != "1":
        dist.init_process_group("gloo")
    make = hybatch_trainer if name in (HYBATCH, HYBATCH_CACHED) else sentence_transformers_trainer
    train_once = make(settings, cached=name in (HYBATCH_CACHED, OTHER_CACHED))
    for number in _rounds(is_main):
        answer = _answer(settings, train_once, number)
        if is_main:
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
