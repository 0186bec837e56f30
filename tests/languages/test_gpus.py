"""The kernelspec with GPUs, on an engine that has none."""

import re
from collections.abc import Mapping

import pytest
from harness.gateways.gateway import Gateway

from devtools.images import KERNEL

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"KERNEL_IMAGE": KERNEL.tag}, r"asks for GPUs \(KERNEL_GPUS=1\), but .* engine has none"),
        ({}, "scripts/images kernel-tf-gpu-py|asks for GPUs"),
    ],
    ids=["any image", "its own image"],
)
def test_reason_is_told_soon(gateway: Gateway, env: Mapping[str, str], words: str) -> None:
    """That the engine has no GPUs, or that the image, which is built on request, is missing."""
    long = {"KERNEL_USERNAME": gateway.username, "KERNEL_LAUNCH_TIMEOUT": "600"}
    body = {"name": "python_tf_gpu_docker", "env": {**long, **env}}
    response = gateway.request("POST", "/api/kernels", json=body)  # which has less patience
    assert not response.ok
    assert re.search(words, response.json()["message"]), response.text
    gateway.wait_until_no_kernels()


def test_kernel_does_without_gpus_if_told_so(gateway: Gateway) -> None:
    """`KERNEL_GPUS=0`, as the error says."""
    env = {"KERNEL_GPUS": "0", "KERNEL_IMAGE": KERNEL.tag}
    gateway.delete_kernel(gateway.start_kernel("python_tf_gpu_docker", env))
