"""A gateway that sees only local kernels."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from harness.engines.empty_engine import empty_engine
from harness.gateways.gateway import Gateway

MakeGateway = Callable[..., Gateway]


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    """Lay out a gateway; the test starts it."""
    made: list[Gateway] = []
    with empty_engine(tmp_path) as host:

        def make(env: Mapping[str, str] | None = None, *, unset: str = "") -> Gateway:
            gateway = Gateway(
                tmp_path / f"home{len(made)}", env={"DOCKER_HOST": host, **(env or {})}
            )
            gateway.env.pop(unset, None)
            made.append(gateway)
            return gateway

        try:
            yield make
        finally:
            for gateway in made:
                gateway.close()
