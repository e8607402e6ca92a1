"""`hybatch batches`: what a run would train on, without loading or training a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from hybatch.models import Role
from hybatch.models.backbone.reading import read_tokenizer
from hybatch.models.config import check_config
from hybatch.models.folder.finding import locate
from hybatch.models.folder.layout import read_layout
from hybatch.models.parts import check_backbone
from hybatch.models.tokenization import train_tokenizer, untruncated_lengths
from hybatch.ops.contrastive import EMPTY_SLOT
from hybatch.options import number_of
from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch, summarise, summary_tables
from hybatch.sampling.companions.positives import draw_positives, positive_counts
from hybatch.sampling.companions.translations import translation_languages
from hybatch.terminal import table_console
from hybatch.training.config import RunConfig, instantiate, run_parser
from hybatch.training.prompts import prompted, tokenize_each
from hybatch.training.run.assembly import (
    OpenCorpora,
    build_sampler,
    open_corpora,
    report_shared_texts,
    report_translations,
    tokenizer_texts,
)
from hybatch.training.run.run_folder import RunFolder
from hybatch.training.step.batches import describe

SUMMARY = "show what would be trained, without loading a model"


def main(argv: Sequence[str]) -> int:
    """Print plan, languages, texts, masked negatives and truncation of a configuration; return 0.

    Raises:
        UserError: the configuration or the data do not allow the run.
    """
    parser = run_parser("hybatch batches", SUMMARY, argv)
    parser.add_argument(
        "--steps",
        type=number_of("--steps", int, ge=1, le=1_000_000),
        default=20,
        help="draw and count the batches of so many steps",
    )
    parser.add_argument(
        "--samples",
        type=number_of("--samples", int, ge=0, le=1_000_000),
        default=3,
        help="examples to print of each of the first batches",
    )
    config, options = instantiate(parser, argv)
    check_config(config.model)
    check_backbone(config.model)
    console = table_console(width_of_files=160)
    corpora = open_corpora(config, progress=True)
    sampler = build_sampler(config, corpora, progress=True)
    untranslated = report_translations(config, sampler)
    batches = [sampler.batch(step) for step in range(min(options.steps, sampler.total_steps))]
    for table in summary_tables(summarise(sampler, batches)):
        console.print(table)
    texts = [sampler.texts(batch) for batch in batches]
    for batch, its_texts in islice(zip(batches, texts, strict=True), 3):
        console.print(_sample_table(sampler, batch, its_texts, options.samples))
    console.print(_masked_line(batches, texts))
    if any(corpus.has_positives for corpus in sampler.corpora):
        console.print(_positives_line(sampler, batches, config.loss.most_positives))
    if config.loss.aligns:
        console.print(_translations_table(sampler, batches))
    for line in untranslated:
        console.print(line)
    tokenizer = _tokenizer(config, corpora, sampler)
    tokenize_each(tokenizer, config.model, config.corpora)  # refuses what the run would
    further = [_further_positives(sampler, batch, config.loss.most_positives) for batch in batches]
    console.print(_truncation_table(tokenizer, config, batches, texts, further))
    report_shared_texts(config, corpora, console.print)
    return 0


def _sample_table(sampler: BatchSampler, batch: GlobalBatch, texts: BatchTexts, number: int) -> Table:
    codes = sampler.corpora[batch.dataset].languages
    names = describe(batch, sampler)
    table = Table(title=f"step {batch.step + 1}: {names['kind']}, {names['dataset']}, {names['language']}")
    for name in ("languages", texts.query_text, "passage"):
        table.add_column(name)
    for row in range(min(number, len(texts.questions))):
        pair = f"{codes[batch.question_languages[row]]} {codes[batch.passage_languages[row]]}"
        table.add_row(pair, _shorten(texts.questions[row]), _shorten(texts.passages[row]))
    return table


def _shorten(text: str, width: int = 100) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _masked_line(batches: Sequence[GlobalBatch], texts: Sequence[BatchTexts]) -> str:
    """Count the passages and hard negatives that the loss leaves out because they answer some other query."""
    listed = masked = passages = 0
    for batch, its_texts in zip(batches, texts, strict=True):
        groups, sizes = np.unique(batch.passage_groups, return_counts=True)
        passages += int((sizes * (sizes - 1)).sum())
        for negative_groups in its_texts.hard_negative_groups:
            listed += len(negative_groups)
            masked += sum(group in groups or group == EMPTY_SLOT for group in negative_groups)
    among = f"{passages:,} among the passages" if passages else "none among the passages"
    return (
        f"Masked negatives: {among} (no passage group stands twice in a batch; one that answers the same question may "
        f"stand beside it); of {listed:,} hard negatives listed {masked:,} are the positive of a query of their batch "
        "and are left out for that query."
    )


def _positives_line(sampler: BatchSampler, batches: Sequence[GlobalBatch], most: int | None) -> str:
    listed, taken = (np.concatenate([positive_counts(sampler, batch, m) for batch in batches]) for m in (None, most))
    return (
        f"Positives: {(listed > 1).sum():,} of {len(listed):,} examples have several, {listed.sum():,} in all, at most "
        f"{listed.max():,}; a step takes {taken.sum() / len(taken):.2f} of each on average, at most {taken.max():,}."
    )


def _further_positives(sampler: BatchSampler, batch: GlobalBatch, most: int | None) -> list[str]:
    """The texts that a step encodes beside one passage of each example."""
    drawn = draw_positives(sampler, batch, slice(0, len(batch.examples)), most)
    return [text for listed in drawn or () for text, _ in listed[1:]]


def _translations_table(sampler: BatchSampler, batches: Sequence[GlobalBatch]) -> Table:
    """Of each kind, how many queries are given a translation, and into which languages."""
    languages: dict[str, Counter[str]] = defaultdict(Counter)
    for batch in batches:
        codes = (*sampler.corpora[batch.dataset].languages, "none")  # by NO_LANGUAGE, the last
        languages[batch.kind].update(codes[index] for index in translation_languages(sampler, batch).tolist())
    table = Table(title="Translations of the queries, which loss.alignment brings together with them")
    for name in ("kind", "queries", "with a translation", "into"):
        table.add_column(name, justify="right" if name in ("queries", "with a translation") else "left")
    for kind, counts in sorted(languages.items()):
        alone = counts.pop("none", 0)
        share = counts.total() / (counts.total() + alone)
        into = ", ".join(f"{code} {count:,}" for code, count in sorted(counts.items()))
        table.add_row(kind, f"{counts.total() + alone:,}", f"{share:.2%}", into)
    return table


def _truncation_table(
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
    batches: Sequence[GlobalBatch],
    texts: Sequence[BatchTexts],
    further: Sequence[list[str]],
) -> Table:
    table = Table(title="Tokens of the drawn texts, prefix and special tokens included")
    for name in ("", "texts", "mean", "longest", "maximum", "cut"):
        table.add_column(name, justify="right" if name else "left")
    lengths_of: dict[Role, list[int]] = {"query": [], "passage": []}
    for batch, its_texts, its_others in zip(batches, texts, further, strict=True):
        model = prompted(config.model, config.corpora[batch.dataset])
        asking: Role = "query" if its_texts.query_text == "question" else "passage"
        lengths_of[asking] += untruncated_lengths(tokenizer, model, its_texts.questions, asking)
        lengths_of["passage"] += untruncated_lengths(tokenizer, model, its_texts.passages + its_others, "passage")
    for role, lengths in lengths_of.items():
        if not lengths:
            continue
        maximum = config.model.max_length(role)
        cut = sum(length > maximum for length in lengths)
        table.add_row(
            role,
            f"{len(lengths):,}",
            f"{sum(lengths) / len(lengths):.1f}",
            f"{max(lengths)}",
            f"{maximum}",
            f"{cut / len(lengths):.2%}",
        )
    return table


def _tokenizer(config: RunConfig, corpora: OpenCorpora, sampler: BatchSampler) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the run folder's if it has one, the backbone's, or one trained as the run would."""
    folder = RunFolder(config)
    if config.model.fresh is None:
        assert config.model.backbone is not None
        return read_tokenizer(read_layout(locate(config.model.backbone)).backbone_folder)
    if folder.initial.exists():
        return read_tokenizer(folder.initial)
    return train_tokenizer(config.model.fresh, tokenizer_texts(config.model, corpora, sampler.languages))
