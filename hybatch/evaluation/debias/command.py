"""`hybatch debias`: take what tells languages apart out of a finished encoder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.debias.fit import debiased_encoder, distances, key_table, language_means
from hybatch.evaluation.debias.method import LanguageMeans, Method, MethodOptions
from hybatch.evaluation.debias.origin import debiased_origin
from hybatch.evaluation.debias.registry import METHODS
from hybatch.evaluation.debias.texts import Texts, draw_texts
from hybatch.evaluation.encoder_options import add_encoder_options, check_device, device_of
from hybatch.evaluation.results import versions
from hybatch.evaluation.settings.task import SETTINGS
from hybatch.models import Encoder
from hybatch.models.folder.debiased import RECORD, Debiased
from hybatch.models.folder.finding import check_holds_model, locate
from hybatch.models.folder.layout import read_layout
from hybatch.options import number_of
from hybatch.paths import check_new_folder, expand_path, folder_of
from hybatch.processes import fail_together, launched_group, main_first, rank
from hybatch.terminal import table_console

SUMMARY = "take what tells languages apart out of a finished encoder"


def main(argv: Sequence[str]) -> int:
    """Fit, print what the languages' means are like, write the encoder; return 0.

    Under a launcher with several processes all of them encode, and the first one writes.

    Raises:
        UserError: an option, a corpus or the model cannot be used; said before the encoding begins, but for means that
            do not give what was asked for and a disk that fills up.
    """
    arguments = _parser().parse_args(argv)
    method = METHODS[arguments.method]
    with launched_group():
        corpora, texts, options = main_first(lambda: _checked(arguments, method))
        device = device_of(arguments)
        encoder = Encoder.load(arguments.model).to(device)
        means = language_means(
            encoder, texts, batch_size=arguments.batch_size, progress=rank() == 0, model=arguments.model
        )
        record = _record(arguments, method, options, corpora, texts)
        debiased = Debiased(record=record, text_keys=key_table(texts))
        without = debiased_encoder(encoder, means, method, options, debiased)
        problem = _write(arguments, without, record, texts, means) if rank() == 0 else None
        fail_together(problem)
    return 0


def _write(
    arguments: argparse.Namespace, encoder: Encoder, record: Mapping[str, Any], texts: Texts, means: LanguageMeans
) -> str | None:
    """What went wrong, if anything did."""
    try:
        encoder.save(arguments.output, origin=debiased_origin(record))
    except OSError as error:
        return f"--output {arguments.output}: cannot be written ({error.strerror or error})"
    table_console().print(_table(arguments, texts, distances(means)))
    print(f"wrote {arguments.output}: an encoder for --model")
    return None


def _checked(arguments: argparse.Namespace, method: Method) -> tuple[list[ParallelCorpus], Texts, MethodOptions]:
    """Check every option and read the corpora, before the model is loaded."""
    given = MethodOptions(arguments.directions, arguments.put_back, arguments.pivot)
    for name, value in given._asdict().items():
        if value is not None and name not in method.options:
            takers = " and ".join(one.name for one in METHODS.values() if name in one.options)
            raise UserError(f"--{name.replace('_', '-')}: is of --method {takers}, not of {method.name}; leave it out")
    check_device(arguments)
    check_new_folder(arguments.output, "--output")
    _check_model(arguments.model)
    paths = [expand_path(path, "--fit") for path in arguments.fit]
    for path in paths:
        _refuse_task(path)
    corpora = [open_corpus(CorpusConfig(path=path), progress=rank() == 0) for path in dict.fromkeys(paths)]
    texts = draw_texts(corpora, arguments.languages, arguments.examples)
    return corpora, texts, method.settle(sorted(texts["query"]), given)


def _refuse_task(path: str) -> None:
    """Refuse the folder of a task that is not to be trained on; texts of others are told when they are evaluated."""
    entry = TASKS.get(Path(path).name)
    if entry is not None and entry.needs_data and entry.settings == SETTINGS and entry.name != "parallel":
        raise UserError(f"--fit {path}: is what task {entry.name} evaluates on; give training data")


def _check_model(model: str) -> None:
    folder = locate(model)
    if (folder / RECORD).is_file():
        raise UserError(f"--model {model}: is debiased already ({RECORD}); give the model that it was made of")
    check_holds_model(read_layout(folder).backbone_folder)


def _record(
    arguments: argparse.Namespace,
    method: Method,
    options: MethodOptions,
    corpora: Sequence[ParallelCorpus],
    texts: Texts,
) -> dict[str, Any]:
    return {
        "method": method.name,
        "options": {name: getattr(options, name) for name in method.options},
        "model": arguments.model,
        "corpora": [{"name": corpus.name, "fingerprint": corpus.fingerprint} for corpus in corpora],
        "languages": sorted(texts["query"]),
        "texts": {role: {x: len(listed) for x, listed in sorted(found.items())} for role, found in texts.items()},
        "versions": versions(),
    }


def _table(arguments: argparse.Namespace, texts: Texts, apart: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(
        title=f"{arguments.method}: {arguments.model}, fitted on {' '.join(arguments.fit)}",
        caption="distance: between the mean of a language's unit vectors and the mean over all languages, before",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("language")
    for column in ("queries", "distance", "passages", "distance"):
        table.add_column(column, justify="right")
    for language, lengths in apart.items():
        cells = [cell for role in texts for cell in (f"{len(texts[role][language]):,}", f"{lengths[role]:.3f}")]
        table.add_row(language, *cells)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch debias", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument("--model", required=True, metavar="PATH_OR_HUB_ID", help="the encoder; is not changed")
    parser.add_argument(
        "--fit",
        required=True,
        nargs="+",
        metavar="CORPUS",
        help="training data, as in a recipe: a folder, a file, a hub id or 'embedded'; never what is evaluated on",
    )
    methods = "; ".join(f"{method.name}: {method.summary}" for method in METHODS.values())
    parser.add_argument("--method", required=True, choices=list(METHODS), help=methods)
    parser.add_argument(
        "--output", required=True, type=folder_of("--output"), metavar="DIR", help="a new folder for the new encoder"
    )
    parser.add_argument("--languages", nargs="+", metavar="LANG", help="only these (default: all of --fit)")
    parser.add_argument(
        "--examples",
        type=number_of("--examples", int, ge=1, le=10_000_000),
        default=300,
        help="questions, and passages, of each language and corpus at most (default 300)",
    )
    parser.add_argument(
        "--directions",
        type=number_of("--directions", int, ge=1, le=100_000),
        help="of lir (default: all in which the means differ, one fewer than languages)",
    )
    parser.add_argument(
        "--put-back", action="store_true", default=None, help="of centre: add the mean over all languages afterwards"
    )
    parser.add_argument("--pivot", metavar="LANG", help="of shift: where passages are moved to (default en)")
    add_encoder_options(parser)
    return parser
