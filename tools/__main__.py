"""Run a command of `scripts/` in the environment that `scripts/install` has made."""

import sys

from cli import main

sys.exit(main())
