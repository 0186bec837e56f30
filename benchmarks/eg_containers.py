"""EG's own way into a container, so that it can be measured beside ours.

EG's wheel holds neither kernelspecs nor launchers. Its sister project gateway_provisioners ships
the same ones (launcher version 1 of both); they are laid over the gateway's kernel image, so that
both start the same ipykernel from the same layers.
"""

import json
import shutil
from pathlib import Path

from benchmarks import engine, peers

IMAGE = "enterprise-gateway-bench/eg-kernel-py"
KERNELSPEC = "bench_eg_docker"
LAUNCHERS = "gateway_provisioners==0.5.0"
PROXY = "enterprise_gateway.services.processproxies.docker_swarm.DockerProcessProxy"
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
    spec_folder = jupyter_path / "kernels" / KERNELSPEC
    if spec_folder.exists():
        return
    eg = peers.install(peers.ENTERPRISE_GATEWAY)
    launchers = peers.install_files(LAUNCHERS) / "gateway_provisioners" / "kernel-launchers"
    context = folder / "eg-image"
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
    spec_folder.mkdir(parents=True)
    spec = {
        "argv": [
            str(eg.parent / "python"),
            str(launchers / "docker" / "scripts" / "launch_docker.py"),
            *("--kernel-id", "{kernel_id}"),
            *("--port-range", "{port_range}"),
            *("--response-address", "{response_address}"),
            *("--public-key", "{public_key}"),
        ],
        "env": {"DOCKER_MODE": "docker", "DOCKER_NETWORK": "bridge"},
        "display_name": KERNELSPEC,
        "language": "python",
        "metadata": {"process_proxy": {"class_name": PROXY, "config": {"image_name": IMAGE}}},
    }
    (spec_folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
