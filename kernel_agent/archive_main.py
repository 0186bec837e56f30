"""`__main__` of the bundle's archive."""

from __future__ import annotations

import sys

from kernel_agent.__main__ import main

sys.exit(main())
