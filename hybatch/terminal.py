"""Where commands print their tables: texts are shown as they are, whatever stands in them."""

from __future__ import annotations

import sys

from rich.console import Console


def table_console(*, width_of_files: int = 120) -> Console:
    """A console for tables: as wide as the terminal, and of a fixed width where the output goes to a file or a pipe.

    COLUMNS is not asked: readline sets it to 80 for whatever a process that has imported it starts.

    Names that people gave, such as paths, labels and languages, reach the tables: square brackets in them are no markup
    of rich (which would swallow them, or end the command with an error after its work), `:name:` is no emoji.
    """
    return Console(width=None if sys.stdout.isatty() else width_of_files, markup=False, emoji=False)
