"""What a command imports before it has read its options, while somebody waits for what is wrong with them."""

from __future__ import annotations

import subprocess
import sys

from hybatch.cli import COMMANDS

# transformers' code of models, and torch's compiler that it takes with it: as much again as all else.
SLOW = ("transformers.modeling_utils", "torch._dynamo")
HELP = """
import contextlib, io, sys
from hybatch.cli import main
for command in sys.argv[1:]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([command, "--help"])
print(*sys.modules)
"""


def test_no_command_imports_what_is_slow_before_it_knows_its_options() -> None:
    command = [sys.executable, "-c", HELP, *COMMANDS]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "torch" in modules
    assert not set(SLOW) & set(modules)
