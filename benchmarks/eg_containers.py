"""EG's own way into a container, so that it can be measured beside ours.

EG's wheel holds neither kernelspecs nor launchers. Its sister project gateway_provisioners ships
the same ones (launcher version 1 of both); they are laid over the gateway's kernel image, so that
both start the same ipykernel from the same layers.
"""

import json
import shutil
from pathlib import Path

from benchmarks import engine, peers

IMAGE = "enterprise-gateway-bench/eg-kernel-py:latest"
KERNELSPEC = "bench_eg_docker"
LAUNCHERS = "gateway_provisioners==0.5.0"
DOCKER_PROXY = "enterprise_gateway.services.processproxies.docker_swarm.DockerProcessProxy"
SWARM_PROXY = "enterprise_gateway.services.processproxies.docker_swarm.DockerSwarmProcessProxy"
DOCKER_ENV = {"DOCKER_MODE": "docker", "DOCKER_NETWORK": "bridge"}
SWARM_ENV = {"DOCKER_MODE": "swarm"}
DOCKERFILE = """\
FROM {image}
COPY launcher /usr/local/bin
ENV PYTHONPATH=/usr/local/bin/site KERNEL_LAUNCHERS_DIR=/usr/local/bin/kernel-launchers
ENTRYPOINT []
CMD ["bash", "/usr/local/bin/bootstrap-kernel.sh"]
"""


def prepare(image: str, folder: Path, jupyter_path: Path) -> None:
    """Build EG's kernel image on top of ours and write its kernelspec, once a run.

    Args:
        image: the gateway's kernel image.
        folder: temporary.
        jupyter_path: where the kernelspec goes.

    Raises:
        PeerUnreachableError: EG or its launchers cannot be had.
    """
    if not (jupyter_path / "kernels" / KERNELSPEC).exists():
        build_image(image, folder / "eg-image")
        write_kernelspec(jupyter_path, DOCKER_PROXY, DOCKER_ENV)


def prepare_swarm(image: str, folder: Path, jupyter_path: Path) -> None:
    """Likewise for kernels that are services; EG itself is told their network."""
    build_image(image, folder / "eg-swarm-image")
    write_kernelspec(jupyter_path, SWARM_PROXY, SWARM_ENV)


def build_image(image: str, context: Path) -> None:
    """Build EG's kernel image; `context` is a folder to be made for it."""
    eg = peers.install(peers.ENTERPRISE_GATEWAY)
    launchers = _launchers()
    launcher = context / "launcher"
    shutil.copytree(launchers / "python", launcher / "kernel-launchers" / "python")
    shutil.copy(
        launchers / "shared" / "scripts" / "server_listener.py",
        launcher / "kernel-launchers" / "python" / "scripts",
    )
    bootstrap = (launchers / "bootstrap" / "bootstrap-kernel.sh").read_text(encoding="utf-8")
    # ipykernel 7 looks for the parent that it makes up, and ends at once; 1 means: do not look.
    bootstrap = bootstrap.replace("JPY_PARENT_PID=$$$$", "JPY_PARENT_PID=1")
    (launcher / "bootstrap-kernel.sh").write_text(bootstrap, encoding="utf-8")
    (crypto,) = eg.parent.parent.glob("lib/python3*/site-packages/Cryptodome")
    shutil.copytree(crypto, launcher / "site" / "Cryptodome")
    (context / "Dockerfile").write_text(DOCKERFILE.format(image=image), encoding="utf-8")
    engine.build_image(context, IMAGE)


def write_kernelspec(jupyter_path: Path, proxy: str, env: dict[str, str]) -> None:
    """Write the kernelspec that starts EG's kernel image."""
    eg = peers.install(peers.ENTERPRISE_GATEWAY)
    spec_folder = jupyter_path / "kernels" / KERNELSPEC
    spec_folder.mkdir(parents=True)
    spec = {
        "argv": [
            str(eg.parent / "python"),
            str(_launchers() / "docker" / "scripts" / "launch_docker.py"),
            *("--kernel-id", "{kernel_id}"),
            *("--port-range", "{port_range}"),
            *("--response-address", "{response_address}"),
            *("--public-key", "{public_key}"),
        ],
        "env": env,
        "display_name": KERNELSPEC,
        "language": "python",
        "metadata": {"process_proxy": {"class_name": proxy, "config": {"image_name": IMAGE}}},
    }
    (spec_folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def _launchers() -> Path:
    return peers.install_files(LAUNCHERS) / "gateway_provisioners" / "kernel-launchers"
