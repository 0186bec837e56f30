"""The load balancer by itself."""

from collections.abc import Iterator
from contextlib import closing

import docker
import pytest
from harness.engines.balancer import Balancer


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """A balancer, to which each test gives its replicas."""
    folder = tmp_path_factory.mktemp("balancer")
    with closing(docker.from_env()) as client, closing(Balancer(client, folder)) as balancer:
        yield balancer
