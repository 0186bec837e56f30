"""The wheels hold all that a gateway needs: installed where no checkout is, it runs kernels."""

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engines.empty_engine import empty_engine
from harness.engines.leftovers import kill_local_kernels
from harness.gateways.gateway import Gateway

ROOT = Path(__file__).resolve().parents[3]
RUN_DEADLINE = 140.0


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of an environment with the wheels and their dependencies."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    # Dependencies are those of the tests; nothing that is installed there for editing is seen.
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = ["--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    options = ["--ignore-installed", "--no-warn-script-location"]
    run(sys.executable, "-m", "pip", *install, *options, *map(str, distributions.glob("*.whl")))
    return folder / "bin"


class InstalledGateway(Gateway):
    """A gateway of an environment without a checkout."""

    commands = Path()

    def command(self) -> list[str]:
        """Return the command line of the process."""
        return [str(self.commands / "jupyter-enterprisegateway")]

    def remove_kernels(self) -> None:
        """Kill its kernels, which are all local: these tests need no engine."""
        kill_local_kernels(self.username)


@pytest.fixture
def gateway(installed: Path, tmp_path: Path) -> Iterator[InstalledGateway]:
    """A gateway that is installed, with local kernels."""
    with empty_engine(tmp_path) as host:
        gateway = InstalledGateway(tmp_path / "home", env={"DOCKER_HOST": host})
        gateway.commands = installed
        gateway.env["PATH"] = f"{installed}:/usr/bin:/bin"
        del gateway.env["JUPYTER_PATH"]
        try:
            yield gateway
        finally:
            gateway.close()


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Return what a command printed; it must succeed."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=env, timeout=RUN_DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kernelspecs_come_with_the_package(installed: Path, tmp_path: Path) -> None:
    """One command installs them, where it is told."""
    command = [str(installed / "jupyter-enterprisegateway"), "kernelspecs", "install"]
    said = run(*command, f"--prefix={tmp_path}", "--mode=swarm", "python_docker", "R_docker")
    kernels = tmp_path / "share/jupyter/kernels"
    assert said.splitlines() == [
        f"Installed kernelspec {kernels / name}" for name in ("python_docker", "R_docker")
    ]
    spec = json.loads((kernels / "python_docker/kernel.json").read_text())
    assert spec["metadata"]["process_proxy"]["class_name"].endswith("DockerSwarmProcessProxy")
    assert (kernels / "python_docker/scripts/launch_docker.py").is_file()


@pytest.mark.kernel
def test_installed_gateway_runs_a_local_kernel(gateway: InstalledGateway) -> None:
    """Nothing of a checkout is used."""
    run(str(gateway.commands / "jupyter-enterprisegateway"), "--version", env=gateway.env)
    gateway.start()
    kernel_id = gateway.start_kernel("python3")
    channels = gateway.connect(kernel_id)
    code = "import kernel_agent, enterprise_gateway as g; print(kernel_agent.__file__, g.__file__)"
    printed = channels.execute(code).stdout
    channels.close()
    assert printed.count(str(gateway.commands.parent)) == 2
    assert str(ROOT / "kernel_agent") not in printed
