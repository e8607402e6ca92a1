"""`hybatch card`: put what `hybatch evaluate` measured of an encoder into its model card."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hybatch.atomic import write_text
from hybatch.errors import UserError
from hybatch.models import Encoder
from hybatch.models.card import CARD
from hybatch.models.folder.finding import check_holds_model, finished_encoder
from hybatch.models.folder.layout import read_layout
from hybatch.paths import check_writable, expand_path, path_of
from hybatch.publishing.card_results import with_results
from hybatch.reporting.figures.files import save_figure
from hybatch.reporting.figures.heatmaps import draw_heatmap
from hybatch.reporting.inputs import read_inputs
from hybatch.reporting.results import PairResults, Results
from hybatch.reporting.tables.measured import Measured
from hybatch.reporting.tables.table import file_name

SUMMARY = "put results, as tables and a figure, into an encoder's model card"
_FIGURES = "figures"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch card` and return its exit code.

    What people wrote into the card stays: only the part that this command wrote before, and the metadata of the same
    tasks, are replaced.

    Raises:
        UserError: the folder holds no encoder, a result cannot be read, none is of this encoder, or the card cannot be
            read or written.
    """
    arguments = _parser().parse_args(argv)
    folder = finished_encoder(arguments.model, "MODEL")
    layout = read_layout(folder)
    check_holds_model(layout.backbone_folder)
    output = arguments.output or folder
    check_writable(output, "--output" if arguments.output else "MODEL")
    inputs = read_inputs(arguments.results)
    measured: list[Measured[Results]] = [*inputs.measured, *inputs.by_language]
    if not measured:
        raise UserError(
            "--results: holds no results of hybatch evaluate; give a results.json, or a folder that has one"
        )
    own = _of_this_encoder(measured, folder, arguments.measured_as)
    pairs = [one.results for one in own if isinstance(one.results, PairResults)]
    figures = {one.task: f"{_FIGURES}/settings-{file_name(one.task)}.png" for one in pairs}
    text = with_results(_card_of(folder), measured, own, figures, place=str(folder / CARD))
    for one in pairs:
        _draw(one, output / figures[one.task])
    write_text(output / CARD, text)
    print(f"wrote {output / CARD}" + (f" and {', '.join(figures.values())}" if figures else ""))
    return 0


def _of_this_encoder(
    measured: Sequence[Measured[Results]], folder: Path, measured_as: str | None
) -> list[Measured[Results]]:
    """Those of the results that are of the encoder in the folder; others stand beside them in the tables alone."""
    own = [one for one in measured if _is_of(one.results.model, folder, measured_as)]
    if not own:
        models = ", ".join(sorted({one.results.model for one in measured}))
        raise UserError(
            f"--results: are of {models}, not of {folder}; give those of hybatch evaluate --model {folder}, "
            "or say what they call it: --measured-as MODEL"
        )
    tasks = [one.results.task for one in own]
    if twice := sorted({task for task in tasks if tasks.count(task) > 1}):
        raise UserError(f"--results: has several of this encoder on {', '.join(twice)}; give one of each task")
    return own


def _is_of(model: str, folder: Path, measured_as: str | None) -> bool:
    if measured_as is not None:
        return model == measured_as
    path = Path(model).expanduser()
    return path.is_dir() and finished_encoder(path, "--results").resolve() == folder.resolve()


def _card_of(folder: Path) -> str:
    try:
        return (folder / CARD).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Encoder.load(folder, languages_known=True).model_card()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / CARD}: cannot be read ({error})") from error


def _draw(results: PairResults, path: Path) -> None:
    try:
        save_figure(draw_heatmap(results, title=results.task), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch card", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "model", type=path_of("MODEL"), metavar="MODEL", help="a saved encoder's folder, or a training run's"
    )
    parser.add_argument(
        "--results",
        required=True,
        nargs="+",
        metavar="[LABEL=]RESULT",
        help="of hybatch evaluate or hybatch mteb, as hybatch report takes them; those of other models stand beside",
    )
    parser.add_argument(
        "--measured-as",
        type=lambda model: expand_path(model, "--measured-as"),
        metavar="MODEL",
        help="what the results call this encoder, where they were made elsewhere",
    )
    parser.add_argument(
        "--output", type=path_of("--output"), metavar="DIR", help="write card and figures there (default: into MODEL)"
    )
    return parser
