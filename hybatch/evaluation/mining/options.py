"""The options of `hybatch mine`, and what they say of the corpus and of what a hard negative must be."""

from __future__ import annotations

import argparse
import dataclasses

import jsonargparse
import yaml

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.evaluation.collection.search import METHODS
from hybatch.evaluation.encoder_options import add_encoder_options
from hybatch.evaluation.mining.selection import Rule
from hybatch.evaluation.mining.texts import RELATIONS
from hybatch.options import number_of
from hybatch.paths import expand_path, folder_of


def mine_parser(summary: str) -> argparse.ArgumentParser:
    """The parser; `summary` is what the command does, as a phrase."""
    parser = argparse.ArgumentParser(prog="hybatch mine", description=summary[0].upper() + summary[1:] + ".")
    parser.add_argument("--model", required=True, metavar="PATH_OR_HUB_ID", help="the encoder that says what is hard")
    _add_corpus_options(parser)
    _add_output_options(parser)
    _add_candidate_options(parser.add_argument_group("which passages are considered"))
    _add_rule_options(parser.add_argument_group("which of them become negatives"))
    add_encoder_options(parser)
    return parser


def _add_corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--corpus",
        required=True,
        metavar="PATH",
        help="as in a recipe: a folder, a file, a hub id or 'embedded'; is not changed",
    )
    parser.add_argument(
        "--corpus-options",
        default="{}",
        metavar="YAML",
        help="what else the recipe says of it, such as '{format: squad, languages: [de, en]}'",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        required=True,
        type=folder_of("--output"),
        metavar="DIR",
        help="the new corpus, which training reads",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the mined corpus in --output")
    parser.add_argument(
        "--save-scores",
        action="store_true",
        help="write a row's scores, of its passage and each negative, as `scores`: the teacher's, else the encoder's",
    )


def _add_candidate_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--relation",
        choices=RELATIONS,
        default="same",
        help="negatives in the question's own language, in another, or in the pool of all (default same)",
    )
    group.add_argument(
        "--ranks",
        nargs=2,
        type=number_of("--ranks", int, ge=1, le=1_000_000),
        default=[Rule.first_rank, Rule.last_rank],
        metavar=("FIRST", "LAST"),
        help="window of ranks, 1 the most similar passage that is no answer (default 10 200)",
    )
    group.add_argument("--search", choices=METHODS, default="torch", help="what retrieves (default torch, exact)")


def _add_rule_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--negatives",
        type=number_of("--negatives", int, ge=1, le=10_000),
        default=Rule.negatives,
        help="at most, a question (default 8)",
    )
    group.add_argument(
        "--margin",
        type=number_of("--margin", float, ge=-1000, le=1000),
        help="a negative must score below its question's positive less this",
    )
    group.add_argument(
        "--ratio",
        type=number_of("--ratio", float, gt=0, le=1),
        help="a negative must score below the positive less a share of 1 - ratio of it; say 0.95",
    )
    group.add_argument(
        "--max-score",
        type=number_of("--max-score", float, ge=-1000, le=1000),
        metavar="SCORE",
        help="a negative must score below this, whatever its positive scores",
    )
    group.add_argument(
        "--teacher",
        metavar="PATH_OR_HUB_ID",
        help="another encoder, or a cross-encoder of sentence-transformers, whose scores --margin, --ratio and "
        "--max-score then go by; what is considered, and in which order, stays the encoder's",
    )
    group.add_argument(
        "--random", action="store_true", help="draw the negatives from the window in the place of the most similar"
    )
    group.add_argument(
        "--seed", type=number_of("--seed", int, ge=0, lt=1 << 63), default=0, help="of --random (default 0)"
    )


def rule_of(arguments: argparse.Namespace) -> Rule:
    """What a hard negative must be.

    Raises:
        UserError: the window of ranks ends before it begins.
    """
    first, last = arguments.ranks
    if first > last:
        raise UserError(f"--ranks {first} {last}: the first must be at least 1, the last no less than the first")
    return Rule(
        negatives=arguments.negatives,
        first_rank=first,
        last_rank=last,
        margin=arguments.margin,
        ratio=arguments.ratio,
        max_score=arguments.max_score,
        random_seed=arguments.seed if arguments.random else None,
    )


def corpus_config(arguments: argparse.Namespace) -> CorpusConfig:
    """What --corpus and --corpus-options say, as a recipe's entry would.

    Raises:
        UserError: they are no such entry.
    """
    try:
        options = yaml.safe_load(arguments.corpus_options)
    except yaml.YAMLError as error:
        raise UserError(f"--corpus-options {arguments.corpus_options!r}: not YAML ({error})") from error
    known = [field.name for field in dataclasses.fields(CorpusConfig) if field.name != "path"]
    if not isinstance(options, dict) or not set(options) <= set(known):
        raise UserError(
            f"--corpus-options {arguments.corpus_options!r}: expected {{option: value, ...}} of {', '.join(known)}"
        )
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CorpusConfig)
    path = expand_path(arguments.corpus, "--corpus")
    try:
        return CorpusConfig(**parser.parse_object({"path": path, **options}).as_dict())
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"--corpus-options {arguments.corpus_options!r}: {error}") from error
