"""Kernelspecs as sites have them that come from Jupyter Enterprise Gateway."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from devtools import images, machine
from devtools.base_image import SUITE
from enterprise_gateway._version import __version__
from enterprise_gateway.services.processproxies.registry import (
    DOCKER_PROCESS_PROXY,
    SWARM_PROCESS_PROXY,
)
from harness.clients.channels import Channels
from harness.gateways.gateway import Gateway
from harness.proxies.rigs import ROOT

EG_IMAGE = f"localhost/enterprise-gateway/eg-kernel-py:{__version__}"
"""As `elyra/kernel-py`: Enterprise Gateway's entry point and launcher, and no agent."""
_FOLDER = "tests/harness/kernels/eg_image"
_INPUTS = (_FOLDER, "requirements/test.txt")

OLD_ARGUMENTS = "--RemoteProcessProxy."
NEW_ARGUMENTS = "--"


def ensure_eg_image(client: docker.DockerClient) -> str:
    """Have the image on the engine, and return its name."""
    inputs = images.read_inputs(ROOT, _INPUTS)
    base = str(client.images.get(images.KERNEL.tag).id)
    wanted = images.digest({**inputs, "base": (0, base.encode())})
    with suppress(ImageNotFound):
        if client.images.get(EG_IMAGE).labels.get(images.INPUTS_LABEL) == wanted:
            return EG_IMAGE
    own = {
        f"{images.MACHINE}/{name}": (0o644, content)
        for name, content in machine.build_files(SUITE).items()
    }
    client.images.build(
        fileobj=images.context({**inputs, **own}),
        custom_context=True,
        dockerfile=f"{_FOLDER}/Dockerfile",
        tag=EG_IMAGE,
        buildargs={"BASE_IMAGE": images.KERNEL.tag, **machine.proxies(os.environ)},
        labels={images.INPUTS_LABEL: wanted},
        network_mode="host",
        rm=True,
        forcerm=True,
    )
    return EG_IMAGE


def install_site_kernelspec(
    kernels: Path, name: str, image: str, *, arguments: str = OLD_ARGUMENTS, swarm: bool = False
) -> Path:
    """Put a kernelspec into a folder of kernelspecs, and return its folder.

    Args:
        kernels: where kernelspecs are.
        name: the kernelspec's.
        image: the kernels'.
        arguments: how the names of the script's arguments begin.
        swarm: whether kernels are services.
    """
    folder = kernels / name
    (folder / "scripts").mkdir(parents=True)
    script = folder / "scripts" / "launch_docker.py"
    shutil.copy(ROOT / "tests/harness/kernels/site_kernelspec/launch_docker.py", script)
    data = folder / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "note").write_text("from the volume")
    given = ("kernel-id", "port-range", "response-address", "public-key")
    spec = {
        "display_name": f"Site's {name}",
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {
            "process_proxy": {
                "class_name": SWARM_PROCESS_PROXY if swarm else DOCKER_PROCESS_PROXY,
                "config": {"image_name": image},
            }
        },
        "env": {"SITE_DATA": str(data)},
        "argv": [
            "python",
            str(script),
            *(
                word
                for argument in given
                for word in (f"{arguments}{argument}", f"{{{argument.replace('-', '_')}}}")
            ),
        ],
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder


def expect_input_and_interrupt(gateway: Gateway, client: Channels, kernel_id: str) -> None:
    """Check that a Python kernel asks for input and can be interrupted; `x` is 1 then."""
    asking = client.start_execution("input('who? ')", allow_stdin=True)
    prompt = client.receive_until(lambda message: message.type == "input_request")
    client.send("input_reply", {"value": "Ada"}, channel="stdin", parent_header=prompt.header)
    assert client.finish_execution(asking).result == "'Ada'"

    endless = client.start_execution("x = 1\nprint('on')\nwhile True: pass")
    client.receive_until(lambda message: message.type == "stream")
    assert gateway.request("POST", f"/api/kernels/{kernel_id}/interrupt").status_code == 204
    (error,) = client.finish_execution(endless).of_type("error")
    assert error.content["ename"] == "KeyboardInterrupt"
    assert client.execute("x").result == "1"
