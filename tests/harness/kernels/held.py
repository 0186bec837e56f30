"""A kernelspec whose launch script waits before it does anything."""

import json
import shutil
from pathlib import Path

from harness.gateways.gateway import Gateway

NAME = "python_held"
SCRIPT = '''"""Remove the file KERNEL_HOLD, wait for KERNEL_HOLD.go, then be the real script."""

import os
import runpy
import time
from pathlib import Path

hold = Path(os.environ["KERNEL_HOLD"])
hold.unlink(missing_ok=True)
while not hold.with_suffix(".go").exists():
    time.sleep(0.02)
runpy.run_path(str(Path(__file__).with_name("launch_docker.py")), run_name="__main__")
'''


def install_held_kernelspec(gateway: Gateway) -> None:
    """Install it beside `python_docker`."""
    kernels = Path(gateway.env["JUPYTER_PATH"]) / "kernels"
    folder = kernels / NAME
    shutil.copytree(kernels / "python_docker", folder)
    (folder / "scripts" / "held.py").write_text(SCRIPT)
    spec = json.loads((folder / "kernel.json").read_text())
    spec["argv"][1] = spec["argv"][1].replace("launch_docker.py", "held.py")
    (folder / "kernel.json").write_text(json.dumps(spec))
