"""What a replica believes of a kernel that another one has taken from its pool."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from harness.waiting import eventually

from enterprise_gateway.services.kernels.registry.records import RecoveredLaunch
from enterprise_gateway.services.kernels.registry.recovery import LaunchRecovery
from enterprise_gateway.settings import LiveSettings, Settings

OF_THE_ENGINE = {
    "KERNEL_USERNAME": "enterprise-gateway-pool",
    "KERNEL_IMAGE": "team/kernel:1",
    "KERNEL_UID": "1000",
    "EG_AGENT_SETTINGS": '{"kernel_name": "py"}',
}


class _Hashable(SimpleNamespace):
    """A stand-in of a record, which is a key of tasks."""

    __hash__ = object.__hash__


async def recover(told: Mapping[str, str | None]) -> RecoveredLaunch:
    """Recover the launch of ann's kernel, whose agent tells of these changes."""

    async def launched_with(_workload: object) -> Mapping[str, str]:
        return OF_THE_ENGINE

    async def taken() -> Any:
        return SimpleNamespace(env=told)

    found: list[RecoveredLaunch] = []
    record: Any = _Hashable(
        kernel_id="k",
        launch=None,
        recovered=None,
        is_pooled=False,
        is_paused=False,
        is_over=asyncio.Event(),
        workload=SimpleNamespace(pool="p", username="ann"),
        proxy=SimpleNamespace(launched_with=launched_with),
        agent=SimpleNamespace(taken=taken),
        apply_recovered=found.append,
    )
    recovery = LaunchRecovery(LiveSettings(Settings()))
    recovery.recover(record)
    await eventually(lambda: found)
    await recovery.close()
    return found[0]


async def test_agent_tells_what_its_user_has_chosen() -> None:
    """So that the kernel can be launched again as it was."""
    recovered = await recover({"KERNEL_WORKING_DIR": "/work", "KERNEL_USERNAME": "ann"})
    assert recovered.client_env["KERNEL_WORKING_DIR"] == "/work"


async def test_agent_chooses_neither_image_nor_kernelspec_nor_user() -> None:
    """Code in the kernel may have become its agent."""
    recovered = await recover(
        {
            "KERNEL_USERNAME": "bob",
            "KERNEL_IMAGE": "registry.example.org/private:1",
            "EG_AGENT_SETTINGS": '{"kernel_name": "root"}',
            "KERNEL_UID": "1001",
            "KERNEL_GID": "1001",
        }
    )
    assert recovered.client_env["KERNEL_IMAGE"] == "team/kernel:1"
    assert recovered.client_env["KERNEL_USERNAME"] == "ann"
    assert recovered.client_env["KERNEL_UID"] == "1000"
    assert "KERNEL_GID" not in recovered.client_env
    assert recovered.kernel_name == "py"
