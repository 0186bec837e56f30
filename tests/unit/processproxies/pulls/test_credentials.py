"""The credentials of registries, from config.json and from helpers."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from enterprise_gateway.services.processproxies.engine.images import DOCKER_HUB
from enterprise_gateway.services.processproxies.pulls import credentials
from enterprise_gateway.services.processproxies.pulls.credentials import find_credentials

REGISTRY = "registry.example.org:5000"
ANN = {"username": "ann", "password": "se:cret"}
NESTED = '{"cret": ' + "[" * 10_000
"""JSON that no decoder follows to its end."""


def write_config(folder: Path, **config: Any) -> None:
    """Write config.json."""
    (folder / "config.json").write_text(json.dumps(config))


def write_helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have the credential helper `mine`."""
    program = folder / "docker-credential-mine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def encoded(text: str) -> str:
    """Return what `docker login` makes of user name and password."""
    return base64.b64encode(text.encode()).decode()


def sent(header: str) -> Any:
    """Return what the engine reads."""
    return json.loads(base64.urlsafe_b64decode(header))


@pytest.mark.parametrize("key", [REGISTRY, f"https://{REGISTRY}", f"https://{REGISTRY}/v1/"])
async def test_entry_of_the_file_is_used(tmp_path: Path, key: str) -> None:
    """Old versions of Docker wrote the key as a URL."""
    write_config(tmp_path, auths={"other": {"auth": "eDp5"}, key: {"auth": encoded("ann:se:cret")}})
    found = await find_credentials(REGISTRY, tmp_path)
    assert sent(found.header) == {**ANN, "serveraddress": REGISTRY}
    assert found.source == str(tmp_path / "config.json")
    assert found.header not in repr(found)


async def test_docker_hub_has_a_key_of_its_own(tmp_path: Path) -> None:
    """It is the key that `docker login` without a registry writes."""
    write_config(tmp_path, auths={"https://index.docker.io/v1/": {"auth": encoded("ann:se:cret")}})
    found = await find_credentials(DOCKER_HUB, tmp_path)
    assert sent(found.header) == {**ANN, "serveraddress": "https://index.docker.io/v1/"}


async def test_identity_token_replaces_the_password(tmp_path: Path) -> None:
    """Registries of clouds give them."""
    write_config(tmp_path, auths={REGISTRY: {"auth": encoded("ann:"), "identitytoken": "t"}})
    found = await find_credentials(REGISTRY, tmp_path)
    assert sent(found.header)["identitytoken"] == "t"


@pytest.mark.parametrize("place", [{"credsStore": "mine"}, {"credHelpers": {REGISTRY: "mine"}}])
async def test_helper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: dict[str, Any]
) -> None:
    """It reads the registry, and the file has an empty entry."""
    answer = json.dumps({"ServerURL": "x", "Username": "ann", "Secret": "se:cret"})
    write_helper(
        tmp_path, monkeypatch, f"[ $1 = get ] && [ $(cat) = {REGISTRY} ] && echo '{answer}'"
    )
    write_config(tmp_path, auths={REGISTRY: {}}, **place)
    found = await find_credentials(REGISTRY, tmp_path)
    assert sent(found.header) == {**ANN, "serveraddress": REGISTRY}
    assert "docker-credential-mine" in found.source


async def test_token_of_a_helper_is_an_identity_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the protocol of helpers says."""
    answer = json.dumps({"ServerURL": "x", "Username": "<token>", "Secret": "t"})
    write_helper(tmp_path, monkeypatch, f"cat >/dev/null; echo '{answer}'")
    write_config(tmp_path, credsStore="mine")
    found = await find_credentials(REGISTRY, tmp_path)
    assert sent(found.header) == {"identitytoken": "t", "serveraddress": REGISTRY}


async def test_helper_without_credentials_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is asked without, or with those of the file."""
    refusal = "cat >/dev/null; echo credentials not found in native keychain; exit 1"
    write_helper(tmp_path, monkeypatch, refusal)
    write_config(tmp_path, credsStore="mine")
    found = await find_credentials(REGISTRY, tmp_path)
    assert (found.header, found.obstacle) == ("", "")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("cat >/dev/null; echo se:cret; exit 1", "exit code 1"),
        ("cat >/dev/null; echo se:cret", "its answer is malformed"),
        (f"cat >/dev/null; echo '{NESTED}'", "its answer is malformed"),
        ("sleep 60", "did not answer in 0 s"),
    ],
)
async def test_helper_that_fails_is_named_without_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    """What it prints may be secret."""
    if "sleep" in script:
        monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.2)
    write_helper(tmp_path, monkeypatch, script)
    write_config(tmp_path, credsStore="mine")
    found = await find_credentials(REGISTRY, tmp_path)
    assert found.header == ""
    assert "docker-credential-mine" in found.obstacle
    assert str(tmp_path / "config.json") in found.obstacle
    assert words in found.obstacle
    assert "cret" not in found.obstacle


@pytest.mark.parametrize("name", ["no-such", "../../bin/sh", "a b"])
async def test_helper_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    """And nothing outside the PATH is run."""
    write_config(tmp_path, credsStore=name)
    found = await find_credentials(REGISTRY, tmp_path)
    assert f"docker-credential-{name}" in found.obstacle


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"auths": 1}', '{"auths": {"a": {"auth": "cret"', NESTED],
)
async def test_file_that_is_malformed_is_named(tmp_path: Path, text: str) -> None:
    """Without its contents."""
    (tmp_path / "config.json").write_text(text)
    found = await find_credentials(REGISTRY, tmp_path)
    assert str(tmp_path / "config.json") in found.obstacle
    assert "cret" not in found.obstacle


async def test_no_file_is_no_obstacle(tmp_path: Path) -> None:
    """Most gateways have none."""
    found = await find_credentials(REGISTRY, tmp_path)
    assert (found.header, found.source, found.obstacle) == ("", "", "")
