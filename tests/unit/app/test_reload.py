"""Changed configuration files come into force without a restart."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from enterprise_gateway.app import EnterpriseGatewayApp
from enterprise_gateway.app.reload import ConfigWatcher
from enterprise_gateway.settings import LiveSettings, Settings

MakeApp = Callable[..., EnterpriseGatewayApp]
DEADLINE = 60.0


class Running:
    """A watched configuration file."""

    def __init__(self, app: EnterpriseGatewayApp, file: Path) -> None:
        self.app = app
        self.file = file
        self.live = LiveSettings(app.read_settings())
        self.changed: asyncio.Queue[Settings] = asyncio.Queue()
        self.live.subscribe(self.changed.put_nowait)
        self._clock = file.stat().st_mtime_ns

    def write(self, *lines: str) -> None:
        """Change the file, in a way that its time shows."""
        self.file.write_text("\n".join(lines))
        self._clock += 10**9
        os.utime(self.file, ns=(self._clock, self._clock))

    async def next(self) -> Settings:
        """Wait for the next settings in force."""
        return await asyncio.wait_for(self.changed.get(), DEADLINE)


async def wait_for_text(capfd: pytest.CaptureFixture[str], text: str) -> None:
    """Wait until the log has the text."""
    printed = ""
    async with asyncio.timeout(DEADLINE):
        while text not in printed:
            await asyncio.sleep(0.05)
            printed += capfd.readouterr().err


@pytest.fixture
def running(make_app: MakeApp, config_file: Path) -> Running:
    """A configuration file that sets one option, looked at every second."""
    config_file.write_text("c.EnterpriseGatewayApp.max_kernels = 1\n")
    argv = (
        "--EnterpriseGatewayApp.dynamic_config_interval=1",
        "--EnterpriseGatewayApp.max_age=line",
    )
    return Running(make_app(*argv), config_file)


@pytest.fixture
def json_log(config_file: Path) -> Path:
    """A configuration file by which the log is JSON."""
    config_file.write_text("c.EnterpriseGatewayApp.log_json = True\n")
    return config_file


@pytest.mark.parametrize(
    "fault",
    ["c.EnterpriseGatewayApp.max_kernles = 1", "c.EnterpriseGatewayApp.port_range = '5..1'", "(("],
)
async def test_fault_changes_nothing_of_the_log(
    make_app: MakeApp, json_log: Path, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    """A collector of JSON lines can read the line about the fault, too."""
    running = Running(make_app("--EnterpriseGatewayApp.dynamic_config_interval=1"), json_log)
    async with ConfigWatcher(running.app, running.live):
        capfd.readouterr()
        running.write(fault)
        printed = ""
        async with asyncio.timeout(DEADLINE):
            while "is not used" not in printed:
                await asyncio.sleep(0.05)
                printed += capfd.readouterr().err
    assert [json.loads(line)["level"] for line in printed.splitlines()] == ["ERROR"]


@pytest.fixture
def switched_on(config_file: Path) -> Path:
    """A configuration file that switches dynamic configuration on."""
    config_file.write_text("c.EnterpriseGatewayApp.dynamic_config_interval = 1")
    return config_file


async def test_changed_file_comes_into_force(running: Running) -> None:
    """Settings of the web layer change, too, unlike in Enterprise Gateway."""
    async with ConfigWatcher(running.app, running.live):
        running.write(
            "c.EnterpriseGatewayApp.auth_token = 'new'",
            "c.EnterpriseGatewayApp.allow_origin = '*'",
            "c.EnterpriseGatewayApp.list_kernels = True",
            "c.MappingKernelManager.cull_idle_timeout = 60",
        )
        settings = await running.next()
    assert settings is running.live.current
    assert settings.access.auth_token == "new"
    assert settings.access.allow_origin == "*"
    assert settings.access.list_kernels
    assert settings.kernels.culling.cull_idle_timeout == 60
    assert settings.kernels.max_kernels is None, "an option no longer in the file has its default"


async def test_command_line_is_not_changed_by_a_file(running: Running) -> None:
    """Options on the command line keep their values."""
    async with ConfigWatcher(running.app, running.live):
        running.write("c.EnterpriseGatewayApp.max_age = 'file'")
        assert (await running.next()).access.max_age == "line"


async def test_generated_secrets_and_addresses_stay(running: Running) -> None:
    """A reload changes neither the generated token nor settings that are read only at a start."""
    before = running.live.current
    async with ConfigWatcher(running.app, running.live):
        running.write("c.EnterpriseGatewayApp.port = 1")
        after = await running.next()
    assert after.access.auth_token == before.access.auth_token
    assert after.cluster_secret == before.cluster_secret
    assert after.server == before.server


async def test_engine_stays_the_one_that_the_gateway_follows(running: Running) -> None:
    """A launch script on another engine would create containers that no gateway knows."""
    async with ConfigWatcher(running.app, running.live):
        running.write(
            "c.EnterpriseGatewayApp.docker_host = 'tcp://elsewhere:2375'",
            "c.EnterpriseGatewayApp.docker_network = 'other'",
        )
        docker = (await running.next()).docker
    assert (docker.host, docker.network) == ("", "other")


@pytest.mark.parametrize(
    "broken",
    [
        "c.EnterpriseGatewayApp.max_kernels = 'many'",
        "this is no Python",
        "c.EnterpriseGatewayApp.port_range = 'x'",
        "1 / 0",
    ],
)
async def test_broken_file_leaves_the_settings_as_they_are(
    running: Running, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The gateway keeps running, logs the fault, and reads the corrected file."""
    before = running.live.current
    async with ConfigWatcher(running.app, running.live):
        running.write(broken)
        await wait_for_text(capfd, "is not used")
        assert running.live.current is before
        running.write("c.EnterpriseGatewayApp.max_kernels = 2")
        assert (await running.next()).kernels.max_kernels == 2


async def test_interval_of_zero_ends_watching(
    make_app: MakeApp, switched_on: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in Enterprise Gateway, a file can switch dynamic configuration off, but not on again."""
    running = Running(make_app(), switched_on)
    async with ConfigWatcher(running.app, running.live):
        running.write("c.EnterpriseGatewayApp.dynamic_config_interval = 0")
        await wait_for_text(capfd, "only a restart")
