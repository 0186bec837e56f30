"""The limit of open files."""

import resource
import subprocess
import sys

PROGRAM = """
import resource
from enterprise_gateway.app.descriptors import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    """A gateway with the usual limits serves more than a few hundred WebSockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 512
    assert hard == resource.RLIM_INFINITY or hard >= 512
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "(512, 512)"
