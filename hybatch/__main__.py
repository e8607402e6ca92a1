"""`python -m hybatch` and `accelerate launch -m hybatch` are the `hybatch` command."""

import sys

from hybatch.cli import main

sys.exit(main())
