"""Owners of kernels in containers: what the container's name says, through any gateway."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from harness.gateways.gateway import Gateway
from harness.gateways.users import make_token
from harness.waiting import wait_until

from enterprise_gateway.web.access.identity.token_document import encode_tokens

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

USERS = ("ann@example.org", "bob")
ANSWER_SECONDS = 180.0


class Pair:
    """Two gateways on one engine, which know the same users."""

    def __init__(self, folder: Path) -> None:
        made = {user: make_token(user) for user in USERS}
        self.tokens = {user: token for user, (token, _) in made.items()}
        path = folder / "tokens.json"
        path.write_bytes(encode_tokens(entry for _, entry in made.values()))
        env = {"EG_CLUSTER_SECRET": "what-two-gateways-share", "EG_USER_TOKENS_FILE": str(path)}
        first = Gateway(folder / "0", env=env)
        self.gateways = (first, Gateway(folder / "1", env=env, username=first.username))

    def ask(self, number: int, user: str, method: str, path: str, **options: Any) -> Any:
        """Make a user's request to one of the gateways."""
        gateway = self.gateways[number]
        headers = {"Authorization": f"token {self.tokens[user]}"}
        url = f"http://{gateway.host}:{gateway.port}{path}"
        return requests.request(method, url, headers=headers, timeout=ANSWER_SECONDS, **options)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two gateways that run."""
    made = Pair(tmp_path)
    with ExitStack() as stack:
        for gateway in made.gateways:
            stack.callback(gateway.close)
            gateway.start()
        yield made


def test_container_is_its_owners_whatever_its_environment_says(pair: Pair) -> None:
    """Another gateway launches a dead kernel again in the name that the container had."""
    ann, bob = USERS
    body = {"name": "python_docker", "env": {"KERNEL_USERNAME": bob}}
    answer = pair.ask(0, ann, "POST", "/api/kernels", json=body)
    assert answer.status_code == 201, answer.text
    kernel_id = answer.json()["id"]
    name = f"ann--40example--2eorg-{kernel_id}"
    path = f"/api/kernels/{kernel_id}"
    for number in (0, 1):
        assert pair.ask(number, ann, "GET", path).status_code == 200
        for method, action in (("GET", ""), ("DELETE", ""), ("POST", "/interrupt")):
            assert pair.ask(number, bob, method, path + action).status_code == 404
        assert pair.ask(number, bob, "GET", "/api/kernels").json() == []
    shares = [{"user": bob, "access": "read"}]
    assert pair.ask(0, ann, "PUT", f"{path}/shares", json=shares).status_code == 200
    wait_until(lambda: pair.ask(1, bob, "GET", path).status_code == 200, what="the share")
    assert pair.ask(1, bob, "POST", f"{path}/interrupt").status_code == 403
    with closing(docker.from_env()) as client:
        client.containers.get(name).kill()
        wait_until(
            lambda: pair.ask(1, ann, "GET", path).json().get("execution_state") == "dead",
            what="the death",
        )
        assert pair.ask(1, ann, "POST", f"{path}/restart").status_code == 200
        assert client.containers.get(name).status == "running"
    wait_until(lambda: pair.ask(0, bob, "GET", path).status_code == 200, what="the share")
    assert pair.ask(0, bob, "POST", f"{path}/restart").status_code == 403
    assert pair.ask(0, ann, "DELETE", path).status_code == 204
