"""Tokens of users, from the command that makes them to the kernels that they start."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.clients.gateway_client import GatewayClient
from harness.gateways.gateway import Gateway
from harness.waiting import wait_until

MakeGateway = Callable[..., Gateway]


@pytest.fixture
def gateway(make_gateway: MakeGateway, tmp_path: Path) -> Gateway:
    """A gateway with a file of tokens and without a shared one; the test starts it."""
    return make_gateway(
        {
            "EG_AUTH_TOKEN": "",
            "EG_USER_TOKENS_FILE": str(tmp_path / "tokens.json"),
            "EG_ALLOWED_KERNELS": "python3",
        }
    )


@pytest.fixture
def connect(gateway: Gateway) -> Iterator[Callable[[str], GatewayClient]]:
    """Make a client that states the name of the gateway's own user, whatever its token."""
    made: list[GatewayClient] = []

    def make(token: str) -> GatewayClient:
        made.append(GatewayClient(gateway.url, token=token, username=gateway.username))
        return made[-1]

    yield make
    for client in made:
        client.disconnect()


def run(gateway: Gateway, *arguments: str) -> str:
    """Return what a command of the tokens prints; it must succeed."""
    done = gateway.run_command("tokens", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.kernel
def test_user_starts_kernels_until_the_token_is_removed(
    gateway: Gateway, connect: Callable[[str], GatewayClient]
) -> None:
    """In the user's own name, with a real kernel; no restart of the gateway in between."""
    ann = connect(run(gateway, "add", "ann"))
    lab = connect(run(gateway, "add", "lab", f"--acts-for={gateway.username}"))
    gateway.start()
    assert "Authentication is off" not in gateway.read_log()
    assert gateway.request("GET", "/api/kernels").status_code == 401
    kernels = [ann.start_kernel("python3"), lab.start_kernel("python3")]
    listed = json.loads(gateway.run_command("kernels", "list", "--json").stdout)
    owners = {kernel["id"]: kernel["username"] for kernel in listed}
    assert [owners[kernel] for kernel in kernels] == ["ann", gateway.username]
    channels = ann.connect(kernels[0])
    done = channels.execute("import os; print(os.environ['KERNEL_USERNAME'])")
    assert done.stdout == "ann\n"

    token_id = json.loads(run(gateway, "list", "--json"))[0]["id"]
    assert run(gateway, "remove", token_id) == f"Removed {token_id}"
    wait_until(lambda: ann.request("GET", "/api/me").status_code == 401, what="401 for ann")
    bob = connect(run(gateway, "add", "bob"))
    wait_until(lambda: bob.request("GET", "/api/me").ok, what="the new token")
    lab.delete_kernel(kernels[1])
    assert lab.request("DELETE", f"/api/kernels/{kernels[0]}").status_code == 404
    stopped = gateway.run_command("kernels", "stop", kernels[0])
    assert stopped.returncode == 0, stopped.stderr
    assert ann.token not in gateway.read_log()


def test_token_is_shown_once(gateway: Gateway) -> None:
    """The list, the file and the log have its id only."""
    options = ["--groups=ml", "--scopes=kernels", "--scopes=admin", "--uid=20001", "--gid=20002"]
    token = run(gateway, "add", "ann", *options)
    header, line = run(gateway, "list").splitlines()
    assert header.split()[:3] == ["ID", "USER", "SCOPES"]
    assert line.split()[1:5] == ["ann", "kernels,", "admin", "ml"]
    (listed,) = json.loads(run(gateway, "list", "--json"))
    assert (listed["uid"], listed["gid"]) == (20001, 20002)
    path = Path(gateway.env["EG_USER_TOKENS_FILE"])
    for text in (line, run(gateway, "list", "--json"), path.read_text()):
        assert token not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add"], "Name the user"),
        (["add", "ann", "bob"], "Name the user"),
        (["add", "*"], "'*' cannot be the name of a user"),
        (["add", "ann", "--scopes=root"], "'root' is not a valid Scope"),
        (["add", "ann", "--days=-1"], "days"),
        (["add", "ann", "--uid=-1"], "uid"),
        (["remove"], "Name the tokens"),
        (["remove", "00000000"], "There is no token 00000000"),
        ([], "Name a subcommand"),
    ],
)
def test_mistake_is_said_in_one_line(gateway: Gateway, arguments: list[str], message: str) -> None:
    """And changes nothing."""
    run(gateway, "add", "ann")
    done = gateway.run_command("tokens", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads(run(gateway, "list", "--json"))) == 1


def test_gateway_without_its_file_does_not_start(gateway: Gateway) -> None:
    """The operator reads which file is missing."""
    done = gateway.run_command()
    assert done.returncode == 1
    assert (
        f"user_tokens_file {gateway.env['EG_USER_TOKENS_FILE']}: it cannot be read" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_command_needs_the_setting(make_gateway: MakeGateway) -> None:
    """It writes no file that no gateway reads."""
    done = make_gateway().run_command("tokens", "add", "ann")
    assert done.returncode == 1
    assert "EG_USER_TOKENS_FILE" in done.stderr


def test_short_token_is_warned_of(make_gateway: MakeGateway) -> None:
    """It could be found by trying."""
    gateway = make_gateway({"EG_AUTH_TOKEN": "secret"})
    gateway.token = "secret"
    gateway.start()
    assert "short enough to be found by trying" in gateway.read_log()
