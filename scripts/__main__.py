"""What the commands in scripts/ do once scripts/install has made the environment."""

import sys

from bringup.commands import main

sys.exit(main())
