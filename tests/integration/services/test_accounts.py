"""What the file of tokens says of users, also where services start their kernels."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import TOKEN, Answer, Service, is_state, serve_settings
from harness.gateways.users import know_users, make_token
from harness.waiting import eventually

from enterprise_gateway.settings import LiveSettings, ResourceSettings
from enterprise_gateway.settings.values.amounts import Quota
from enterprise_gateway.settings.values.times import Times

MADE = {
    "ann": make_token("ann", groups=("lab",)),
    "bob": make_token("bob", groups=("lab", "others")),
    "carl": make_token("carl", groups=("others",)),
    "dora": make_token("dora", uid=20004, gid=20005),
    "server": make_token("server", ("*",)),
}
SPEC = {
    "argv": ["launch"],
    "display_name": "Container",
    "metadata": {"process_proxy": {"class_name": "site.Proxy"}},
}


@pytest.fixture
def accounts(engine: FakeEngine, live: LiveSettings, tmp_path: Path) -> LiveSettings:
    """Settings with a file of tokens beside the shared one, and a kernelspec of containers."""
    del engine
    know_users(live, tmp_path / "tokens.json", (entry for _, entry in MADE.values()))
    kernels = tmp_path / "kernels"
    (kernels / "container").mkdir(parents=True)
    (kernels / "container" / "kernel.json").write_text(json.dumps(SPEC))
    host = replace(live.current.host, kernelspec_folders=(kernels,))
    live.replace(replace(live.current, host=host))
    change(live, allowed_kernels=frozenset({"container", "python3"}))
    return live


def change(live: LiveSettings, **kernels: Any) -> None:
    """Put settings of kernels in force."""
    live.replace(replace(live.current, kernels=replace(live.current.kernels, **kernels)))


async def start(
    service: Service, sender: str, user: str, kernel_name: str = "container", **env: str
) -> Answer:
    """Start a kernel in the name of a user, with the token of another one; "": the shared token."""
    token = MADE[sender][0] if sender else TOKEN
    return await service.ask(
        "POST",
        "/api/kernels",
        headers={"Authorization": f"token {token}"},
        json={"name": kernel_name, "env": {"KERNEL_USERNAME": user, **env}},
    )


@pytest.mark.parametrize("kernel_name", ["container", "python3"])
async def test_quota_of_a_group_counts_its_members_kernels(
    accounts: LiveSettings, kernel_name: str
) -> None:
    """Whichever client starts them: a member, a service that acts for it, or the shared token."""
    change(accounts, resources=ResourceSettings(group_quotas=(("lab", Quota(kernels=2)),)))
    async with serve_settings(accounts) as service:
        first = await start(service, "ann", "ann", kernel_name)
        second = await start(service, "server", "bob", kernel_name)
        assert (first.status, second.status) == (201, 201)
        for sender, user in (("ann", "ann"), ("server", "ann"), ("bob", "bob"), ("", "bob")):
            refused = await start(service, sender, user, kernel_name)
            assert refused.status == 403
            assert "The quota of group 'lab' is 2 kernels" in refused.message
        for sender, user in (("carl", "carl"), ("server", "carl"), ("server", "dora"), ("", "x")):
            assert (await start(service, sender, user, kernel_name)).status == 201
        ended = await service.ask("DELETE", f"/api/kernels/{second.body['id']}")
        assert ended.status == 204
        assert (await start(service, "server", "ann", kernel_name)).status == 201


async def test_quota_of_a_group_is_exact_across_replicas(
    accounts: LiveSettings, engine: FakeEngine
) -> None:
    """Two replicas with starts by members and for members leave what the quota allows."""
    change(accounts, resources=ResourceSettings(group_quotas=(("lab", Quota(kernels=5)),)))
    ways = (("ann", "ann"), ("bob", "bob"), ("server", "ann"), ("server", "bob"))
    async with serve_settings(accounts) as one, serve_settings(accounts) as other:
        answers = await asyncio.gather(
            *(start(service, *way) for way in ways * 2 for service in (one, other))
        )
        assert Counter(answer.status for answer in answers) == {201: 5, 403: 11}
    assert len(engine.agents) == 5


async def test_times_of_a_group_are_those_of_its_members(
    accounts: LiveSettings, engine: FakeEngine
) -> None:
    """Also of a kernel that a service starts for one."""
    change(accounts, resources=ResourceSettings(group_times=(("lab", Times(max_kernel_age=60)),)))
    async with serve_settings(accounts) as service:
        for sender, user in (("ann", "ann"), ("server", "bob"), ("server", "carl")):
            assert (await start(service, sender, user)).status == 201
    ages = [request.agent_settings["max_kernel_age"] for request in engine.requests]
    assert ages == [60, 60, 0]


async def test_ids_of_the_file_are_those_of_the_users_kernels(
    accounts: LiveSettings, engine: FakeEngine
) -> None:
    """Also if a service starts them, whatever is asked for; other users get what is allowed.

    The shared token's word counts, as in Jupyter Enterprise Gateway.
    """
    change(accounts, allowed_uids=(range(1000, 1001),))
    bobs = {"KERNEL_UID": "20002", "KERNEL_GID": "20002"}
    async with serve_settings(accounts) as service:
        for sender, env in (("dora", {}), ("dora", bobs), ("server", bobs)):
            assert (await start(service, sender, "dora", **env)).status == 201
        for sender, user in (("ann", "ann"), ("server", "ann"), ("", "dora")):
            refused = await start(service, sender, user, **bobs)
            assert refused.status == 403
            assert "KERNEL_UID asks for 20002" in refused.message
        assert (await start(service, "ann", "ann", KERNEL_UID="1000")).status == 201
        change(accounts, allowed_uids=())
        assert (await start(service, "", "dora", **bobs)).status == 201
    found = [request.env.get("KERNEL_UID") for request in engine.requests]
    assert found == ["20004"] * 3 + ["1000", "20002"]
    assert [request.env.get("KERNEL_GID") for request in engine.requests[:3]] == ["20005"] * 3


async def test_ids_stay_when_another_replica_launches_the_kernel_again(
    accounts: LiveSettings, engine: FakeEngine
) -> None:
    """Though no request may name them."""
    engine.keeps_dead = True
    change(accounts, allowed_uids=(range(1000, 1001),))
    async with serve_settings(accounts) as one:
        kernel_id = (await start(one, "dora", "dora")).body["id"]
    async with serve_settings(accounts) as other:
        await other.get(f"/api/kernels/{kernel_id}")

        async def is_launched_again() -> bool:
            path = f"/api/kernels/{kernel_id}/restart"
            return (await other.ask("POST", path)).status == 200

        await engine.kill(kernel_id, "exit code 1")
        await eventually(lambda: is_state(other, kernel_id, "dead"))
        await eventually(is_launched_again)
    assert [request.env["KERNEL_UID"] for request in engine.requests] == ["20004"] * 2


@asynccontextmanager
async def warned(
    live: LiveSettings, caplog: pytest.LogCaptureFixture, **identity: Any
) -> AsyncIterator[list[str]]:
    """Start a gateway with other settings of identity; yields what it warned of."""
    settings = live.current
    live.replace(replace(settings, identity=replace(settings.identity, **identity)))
    caplog.clear()
    async with serve_settings(live):
        yield [line for line in caplog.messages if "group_quotas" in line]


async def test_operator_is_warned_of_groups_that_only_the_hub_knows(
    accounts: LiveSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Not where no service acts for others, no quota asks for groups, or the file knows all."""
    hub = "http://127.0.0.1:9/hub/api"
    async with warned(accounts, caplog, jupyterhub_api_url=hub) as lines:
        assert lines == []
    change(accounts, resources=ResourceSettings(group_quotas=(("lab", Quota(kernels=2)),)))
    async with warned(accounts, caplog) as lines:
        assert len(lines) == 1
        assert "only JupyterHub can tell" in lines[0]
    async with warned(accounts, caplog, jupyterhub_api_url="") as lines:
        assert lines == []
    async with warned(accounts, caplog, jupyterhub_api_url=hub, user_tokens_file="") as lines:
        assert lines == []
    async with warned(accounts, caplog, acts_for=frozenset({("server", "ann")})) as lines:
        assert len(lines) == 1
