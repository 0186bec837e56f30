"""Kernels for the client tests: what works in a container must work in a local process."""

import pytest


@pytest.fixture(params=["python3", pytest.param("python_docker", marks=pytest.mark.docker)])
def kernel_name(request: pytest.FixtureRequest) -> str:
    """The kernelspec that the test uses: a local process, then a container."""
    return str(request.param)
