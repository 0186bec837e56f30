"""One gateway for the tests of a module, and one kernel of each language."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from harness.clients.channels import Channels
from harness.clients.languages import LANGUAGES, Language, culled_kernel
from harness.clients.notebook_server import NotebookServer
from harness.engines.leftovers import find_kernel_containers
from harness.gateways.gateway import Gateway
from harness.kernels.kernelspecs import add_setting, derive_kernelspec
from harness.waiting import wait_until

CULL_IDLE_SECONDS = 8
"""A client must be connected before: connected kernels are not culled."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway, which tests may kill if they start it again.

    Its launch scripts are edited as a site would: each language has its limit of memory.
    """
    env = {"EG_CLIENT_ENVS": "JDK_JAVA_OPTIONS"}
    shared = Gateway(tmp_path_factory.mktemp("gateway"), env=env)
    kernels = shared.home / "share/jupyter/kernels"
    try:
        for language in LANGUAGES:
            script = kernels / language.kernel / "scripts/launch_docker.py"
            text = add_setting(script.read_text(), "mem_limit", repr(language.memory_limit))
            script.write_text(text)
            derive_kernelspec(
                kernels,
                language.kernel,
                culled_kernel(language),
                cull_idle_timeout=CULL_IDLE_SECONDS,
                cull_interval=1,
            )
        shared.start()
        yield shared
    finally:
        shared.close()


@pytest.fixture(scope="module")
def server(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookServer]:
    """A Jupyter server, which has its kernels from the gateway."""
    server = NotebookServer(gateway, tmp_path_factory.mktemp("server"))
    try:
        server.start("server")
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module", params=LANGUAGES, ids=lambda language: language.kernel)
def language(request: pytest.FixtureRequest) -> Language:
    """Each language, all tests of one before those of the next."""
    chosen: Language = request.param
    return chosen


@pytest.fixture(scope="module")
def kernel(gateway: Gateway, server: NotebookServer, language: Language) -> Iterator[str]:
    """The id of a kernel of the language, started by way of the Jupyter server."""
    response = server.request("POST", "/api/kernels", json={"name": language.kernel})
    assert response.status_code == 201, response.text
    kernel_id = str(response.json()["id"])
    yield kernel_id
    gateway.delete_kernel(kernel_id)
    wait_until(lambda: not find_kernel_containers(kernel_id), what="end of the container")


@pytest.fixture(params=["gateway", "jupyter_server"])
def host(
    request: pytest.FixtureRequest, gateway: Gateway, server: NotebookServer
) -> Gateway | NotebookServer:
    """What a client speaks to: the gateway itself, or a Jupyter server in front of it."""
    return gateway if request.param == "gateway" else server


@pytest.fixture
def channels(host: Gateway | NotebookServer, kernel: str) -> Iterator[Channels]:
    """A WebSocket to the shared kernel."""
    with closing(host.connect(kernel)) as connected:
        yield connected
