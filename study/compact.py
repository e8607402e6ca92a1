"""Make records of the full ones, which hybatch 0.1.0 wrote as folders:

    python study/compact.py results/study --output results/study

Each folder with a study.json below the given ones, <name>/, becomes OUTPUT/<name>.record.json, from which
`hybatch report` makes the same tables and figures. The folders stay where they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.reporting.grids.record_file import write_record_file
from hybatch.reporting.grids.record_folder import STUDY, read_record_folder
from hybatch.reporting.grids.records import RECORD


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; 2 where there is no full record, or a damaged one."""
    parser = argparse.ArgumentParser(description="Make records of full ones.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="is searched for full records")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where <name>.record.json is written")
    arguments = parser.parse_args(argv)
    try:
        found = [path.parent for folder in arguments.folders for path in sorted(folder.rglob(STUDY))]
        if not found:
            raise UserError(f"{' '.join(map(str, arguments.folders))}: no folder with a {STUDY}")
        for folder in found:
            run = read_record_folder(folder)
            write_record_file(run, arguments.output / f"{run.name}{RECORD}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(found)} records are in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
