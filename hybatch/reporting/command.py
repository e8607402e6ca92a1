"""`hybatch report`: tables and figures from finished runs and evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hybatch.paths import check_writable, path_of
from hybatch.reporting.inputs import read_inputs
from hybatch.reporting.report import write_report
from hybatch.reporting.tables.render import terminal
from hybatch.terminal import table_console

SUMMARY = "tables beside the published figures, and heatmaps, from results, run folders and grids of runs"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch report`: write the report folder and print the summary tables.

    Raises:
        UserError: an input is missing or malformed, or the folder cannot be written.
    """
    parser = argparse.ArgumentParser(prog="hybatch report", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[LABEL=]RUN_OR_RESULT",
        help="a results.json, a folder that holds one, a training run's folder, or the folder of a grid's records",
    )
    parser.add_argument("--output", type=path_of("--output"), required=True, metavar="DIR", help="the report's folder")
    arguments = parser.parse_args(argv)
    check_writable(arguments.output, "--output")
    tables = write_report(read_inputs(arguments.inputs), arguments.output)
    console = table_console()
    for table in tables:
        if table.slug.endswith("-summary"):
            console.print(terminal(table))
    console.print(f"wrote {arguments.output}: report.html and report.md, with their tables and figures", soft_wrap=True)
    return 0
