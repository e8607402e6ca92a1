"""Figures as files: PNG and SVG, equal figures in equal bytes, and the looks that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hybatch.atomic import atomic_file

LINE_STYLES = ("-", "--", "-.", ":")
# Okabe and Ito's palette, made to be told apart with any colour vision.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Text stays text (small files, searchable), and ids in the SVG follow from what is drawn.
_DRAWING = {"svg.fonttype": "none", "svg.hashsalt": "hybatch"}
DPI = 150


@dataclass(frozen=True)
class FigureFile:
    """A drawn figure: its PNG in the report folder, the SVG beside it, and what it shows."""

    name: str
    caption: str

    @property
    def vector_name(self) -> str:
        """The SVG's name."""
        return f"{self.name.removesuffix('.png')}.svg"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that lays itself out; sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def save_figure(figure: Figure, *paths: Path) -> None:
    """Write a figure as PNG or SVG, whichever a path ends in; each file appears whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once; each drawing would repeat it
    for path in paths:
        # By the canvas itself: `Figure.savefig` draws everything twice.
        with atomic_file(path, "wb") as file, matplotlib.rc_context(_DRAWING):
            if path.suffix == ".svg":
                FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
            else:
                FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


class FigureFolder:
    """Where the figures of one report are written; each has files of its own, however alike their names are.

    Names of files are made of labels, of which more differ than file names can tell: "e5" and "e5+", "a.b" and "a-b",
    and on some systems "E5" and "e5".
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._taken: set[str] = set()

    def write(self, figure: Figure, name: str, caption: str) -> FigureFile:
        """Write `<name>.png` and `<name>.svg`, with a number to the name where it is taken.

        Raises:
            OSError: a file cannot be written.
        """
        free, number = name, 1
        while free.casefold() in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free.casefold())
        file = FigureFile(f"{free}.png", caption)
        save_figure(figure, self.directory / file.name, self.directory / file.vector_name)
        return file
