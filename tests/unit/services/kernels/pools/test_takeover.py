"""Whether a kernel of a pool can become the one that a user asks for."""

import dataclasses
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.kernels.planning.launches import StartRequest, plan_launch
from enterprise_gateway.services.kernels.pools.pool import Pool, plan_pool, pool_size
from enterprise_gateway.services.kernels.pools.takeover import (
    MAX_BYTES,
    SET_WHILE_RUNNING,
    Process,
    Takeover,
    plan_takeover,
)
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.processproxies.config import ProxyConfig
from enterprise_gateway.services.processproxies.contract import POOL_USERNAME
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import (
    DockerSettings,
    KernelSettings,
    ResourceSettings,
    Settings,
)
from enterprise_gateway.settings.values.amounts import Amounts, Quota
from enterprise_gateway.settings.values.schedule import parse_schedule
from enterprise_gateway.settings.values.times import Times
from kernel_agent.launch.setup_code import setup_code

SETTINGS = Settings(
    kernels=KernelSettings(
        client_envs=frozenset({"*"}), resources=ResourceSettings(max_amounts=Amounts(gpus=1))
    ),
    cluster_secret=b"s" * 32,
)
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def make_spec(env: dict[str, str] | None = None, **config: Any) -> Kernelspec:
    """Return a kernelspec with this environment and config."""
    content = {
        "argv": ["launch"],
        "display_name": "Py",
        "language": "python",
        "env": env or {},
        "metadata": {"process_proxy": {"class_name": "site.Proxy", "config": config}},
    }
    return parse_kernelspec("py", Path("/specs/py"), msgspec.json.encode(content), ())


def takeover(
    spec: Kernelspec | None = None, *, may_move: bool = True, **env: str
) -> Takeover | None:
    """Plan the takeover of a kernel by a client that sends these variables."""
    spec = spec or make_spec(pool_size=1)
    wanted = plan_launch(StartRequest(env=dict(env)), spec, SETTINGS)
    pooled = plan_pool(spec, SETTINGS).launch
    return plan_takeover(pooled, wanted, spec.config, may_move=may_move)


def test_stock_client_is_served() -> None:
    """With what Jupyter servers send along."""
    planned = takeover(
        KERNEL_USERNAME="ann", KERNEL_LAUNCH_TIMEOUT="10", KERNEL_WORKING_DIR="/home/ann"
    )
    assert planned == Takeover(
        "ann",
        {
            "KERNEL_USERNAME": "ann",
            "KERNEL_LAUNCH_TIMEOUT": "10",
            "KERNEL_WORKING_DIR": "/home/ann",
        },
        "/home/ann",
        Process.RUNNING,
        7.5,
    )


def test_folder_is_ignored_where_users_choose_none() -> None:
    """As when the kernel is launched."""
    planned = takeover(may_move=False, KERNEL_USERNAME="ann", KERNEL_WORKING_DIR="/home/ann")
    assert planned is not None
    assert (planned.cwd, planned.env) == ("", {"KERNEL_USERNAME": "ann"})


def test_variables_of_kernel_json_are_the_users() -> None:
    """Those whose values name the user change with it."""
    planned = takeover(make_spec({"DATA": "/data/$KERNEL_USERNAME"}), KERNEL_USERNAME="ann")
    assert planned is not None
    assert planned.env == {"KERNEL_USERNAME": "ann", "DATA": "/data/ann"}


@pytest.mark.parametrize(
    "name",
    [
        "KERNEL_IMAGE",
        "KERNEL_UID",
        "KERNEL_GPUS",
        "KERNEL_VOLUMES",
        "KERNEL_OF_A_SITE",
        "NB_UID",
        "NVIDIA_VISIBLE_DEVICES",
        "IPYTHONDIR",
        "JUPYTER_PATH",
    ],
)
def test_what_a_container_is_made_of_needs_a_start(name: str) -> None:
    """Or what its entry point and agent read."""
    assert takeover(**{name: "1"}) is None


@pytest.mark.parametrize(
    "client",
    [
        {"KERNEL_CPUS": "2"},
        {"KERNEL_MEMORY_LIMIT": "1g"},
        {"KERNEL_SHM_SIZE": "1g"},
        {"KERNEL_SIZE": "small"},
    ],
)
def test_other_limits_need_a_start(client: dict[str, str]) -> None:
    """Also where the kernelspec says that its variables are harmless."""
    resources = ResourceSettings(sizes=(("small", Amounts(memory=2**30)),))
    settings = replace(SETTINGS, kernels=replace(SETTINGS.kernels, resources=resources))
    spec = make_spec(pool_env=["KERNEL_*"], pool_process_env=["KERNEL_S*"])
    pooled = plan_pool(spec, settings).launch
    same = plan_launch(StartRequest(env={"KERNEL_X": "1"}), spec, settings)
    assert plan_takeover(pooled, same, spec.config, may_move=True) is not None
    wanted = plan_launch(StartRequest(env=dict(client)), spec, settings)
    assert plan_takeover(pooled, wanted, spec.config, may_move=True) is None


def test_user_of_a_group_with_a_quota_needs_a_start() -> None:
    """A label names the group, and a container's labels cannot be changed."""
    resources = ResourceSettings(group_quotas=(("lab", Quota(kernels=9)),))
    settings = replace(SETTINGS, kernels=replace(SETTINGS.kernels, resources=resources))
    pooled = plan_pool(make_spec(), settings).launch
    for groups, is_taken in ((frozenset({"lab"}), False), (frozenset({"others"}), True)):
        wanted = plan_launch(StartRequest(), make_spec(), settings, Account(groups))
        assert (plan_takeover(pooled, wanted, ProxyConfig(), may_move=True) is not None) is is_taken


def test_user_with_other_times_needs_a_start() -> None:
    """A kernel that waits has those of the kernelspec, and would end at another time."""
    times = (
        ("ann", Times(max_kernel_age=9)),
        ("bob", Times(cull_idle_timeout=0)),
        ("carl", Times(cull_idle_timeout=9)),
    )
    resources = ResourceSettings(user_times=times)
    settings = replace(SETTINGS, kernels=replace(SETTINGS.kernels, resources=resources))
    pooled = plan_pool(make_spec(), settings).launch
    for user, is_taken in (("ann", False), ("bob", True), ("carl", False), ("dora", True)):
        start = StartRequest(env={"KERNEL_USERNAME": user})
        wanted = plan_launch(start, make_spec(), settings)
        assert (plan_takeover(pooled, wanted, ProxyConfig(), may_move=True) is not None) is is_taken


@pytest.mark.parametrize("name", ["PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", "BASH_ENV"])
def test_what_steers_the_agent_needs_a_start(name: str) -> None:
    """Clients may send these only by name, since they steer launch scripts, too."""
    assert takeover(make_spec({name: "/$KERNEL_USERNAME"}), KERNEL_USERNAME="ann") is None


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("PROJECT", Process.RUNNING),
        ("OMP_NUM_THREADS", Process.SPARE),
        ("CUDA_VISIBLE_DEVICES", Process.SPARE),
        ("MPLBACKEND", Process.SPARE),
        ("IPYTHON_X", Process.SPARE),
        ("LANG", Process.NEW),
        ("TZ", Process.SPARE),
        ("PYTHONPATH", Process.NEW),
        ("LD_LIBRARY_PATH", Process.NEW),
        ("https_proxy", Process.NEW),
    ],
)
def test_what_is_read_at_the_start_needs_a_process(name: str, process: Process) -> None:
    """In the container that waits; a spare has read less than others."""
    spec = make_spec({name: "/$KERNEL_USERNAME"})
    planned = takeover(spec, KERNEL_USERNAME="ann", OTHER="1")
    assert planned is not None
    assert (planned.process, planned.env[name]) == (process, "/ann")


def test_one_process_has_all_variables() -> None:
    """That of the variable that needs most."""
    planned = takeover(LANG="C", OMP_NUM_THREADS="1", PROJECT="x", KERNEL_USERNAME="ann")
    assert planned is not None
    assert planned.process is Process.NEW


def test_kernelspec_names_harmless_variables() -> None:
    """Exactly, or by a pattern."""
    spec = make_spec(pool_env=["KERNEL_PROJECT", "KERNEL_TEAM_*"])
    assert takeover(spec, KERNEL_PROJECT="x", KERNEL_TEAM_NAME="y") is not None
    assert takeover(spec, KERNEL_PROJECTS="x") is None


def test_kernelspec_names_variables_that_need_a_process() -> None:
    """Besides those that every kernel reads then, and before `pool_env`."""
    spec = make_spec(pool_env=["*"], pool_process_env=["KERNEL_LICENSE", "LIB_*"])
    for name in ("KERNEL_LICENSE", "LIB_HOME"):
        planned = takeover(spec, **{name: "x"})
        assert planned is not None
        assert (planned.process, planned.env[name]) == (Process.NEW, "x")
    planned = takeover(spec, KERNEL_LICENSES="x")
    assert planned is not None
    assert planned.process is Process.RUNNING


@pytest.mark.parametrize("language", ["scala", "julia", ""])
def test_other_languages_begin_anew(language: str) -> None:
    """Their agents can set no variable in a running kernel, and the user's name is one."""
    spec = parse_kernelspec(
        "other",
        Path("/specs/other"),
        msgspec.json.encode({"argv": ["k"], "display_name": "Other", "language": language}),
        (),
    )
    planned = takeover(spec, KERNEL_USERNAME="ann")
    assert planned is not None
    assert (planned.process, planned.env["KERNEL_USERNAME"]) == (Process.NEW, "ann")


def test_agents_know_the_languages_of_running_kernels() -> None:
    """Gateway and agent decide alike, or each kernel of a pool would refuse."""
    for language in SET_WHILE_RUNNING:
        assert setup_code(language, {"A": "1"}, "/") is not None


@pytest.mark.parametrize(
    "name",
    [
        "KERNEL_CLASS_NAME",
        "KERNEL_CPUS",
        "KERNEL_GID",
        "KERNEL_GPUS_LIMIT",
        "KERNEL_IMAGE",
        "KERNEL_LANGUAGE",
        "KERNEL_SIZE",
        "KERNEL_UID",
        "KERNEL_VOLUMES",
        "KERNEL_VOLUME_MOUNTS",
        "DOCKER_NETWORK",
        "EG_X",
        "REMOVE_CONTAINER",
    ],
)
@pytest.mark.parametrize("pattern", ["KERNEL_*", "*"])
@pytest.mark.parametrize("key", ["pool_env", "pool_process_env"])
def test_no_pattern_makes_what_launches_read_harmless(name: str, pattern: str, key: str) -> None:
    """In a running kernel it would do nothing: the user would miss a volume, or be another."""
    spec = make_spec(**{key: [pattern]})
    pooled = plan_pool(spec, SETTINGS).launch
    wanted = replace(pooled, env={**pooled.env, name: "1"})
    assert plan_takeover(pooled, wanted, spec.config, may_move=True) is None
    harmless = replace(pooled, env={**pooled.env, "KERNEL_OF_A_SITE": "1"})
    assert plan_takeover(pooled, harmless, spec.config, may_move=True) is not None


def test_large_environment_needs_a_start() -> None:
    """An agent takes no larger request."""
    assert takeover(**{f"A{n}": "x" * 4000 for n in range(MAX_BYTES // 4000 + 1)}) is None


@pytest.mark.parametrize("wrong", ["KERNEL_X", [1], {}])
def test_wrong_pool_env_is_said(wrong: object) -> None:
    """With the kernelspec's name and what is right."""
    with pytest.raises(ConfigurationError, match=r"pool_env .* kernelspec py must be a list"):
        takeover(make_spec(pool_env=wrong))


@pytest.mark.parametrize("wrong", [-1, 1001, True, "3", 1.5])
def test_wrong_pool_size_is_said(wrong: object) -> None:
    """With the kernelspec's name."""
    with pytest.raises(ConfigurationError, match=r"pool_size .* kernelspec py must be a number"):
        make_spec(pool_size=wrong)


def test_setting_goes_before_the_kernelspec() -> None:
    """An operator need not edit kernel.json."""
    settings = KernelSettings(pool_sizes=(("py", 4),))
    assert pool_size(make_spec(pool_size=1), settings, MONDAY_NOON) == 4
    assert pool_size(make_spec(pool_size=1), KernelSettings(), MONDAY_NOON) == 1
    assert pool_size(make_spec(pool_size=0), KernelSettings(), MONDAY_NOON) == 0


def test_pool_that_is_scheduled_off_is_one() -> None:
    """Another replica may fill it a moment earlier; a kernelspec without any size has none."""
    settings = KernelSettings(pool_schedule=parse_schedule(["07:00-08:00 py=20"]))
    assert pool_size(make_spec(), settings, MONDAY_NOON) == 0
    assert pool_size(make_spec(), KernelSettings(), MONDAY_NOON) is None


def test_schedule_goes_before_the_other_setting() -> None:
    """The first hours that hold and name the kernelspec count."""
    hours = ["mon-fri 07:00-13:00 r=1", "mon 11:00-13:00 py=2", "07:00-19:00 py=3"]
    settings = KernelSettings(pool_sizes=(("py", 4),), pool_schedule=parse_schedule(hours))
    sizes = [
        pool_size(make_spec(), settings, MONDAY_NOON.replace(hour=hour)) for hour in (6, 7, 12, 18)
    ]
    assert sizes == [4, 3, 2, 3]


def test_pool_is_another_when_its_launch_is() -> None:
    """Or its image; but neither its size nor the id of a kernel makes a difference."""
    keys = {pool.key for pool in _variants()}
    assert len(keys) == len(_variants())
    small, large = (
        make_spec(pool_size=1),
        make_spec(pool_size=2, pool_env=["KERNEL_A"], pool_process_env=["KERNEL_B"]),
    )
    assert plan_pool(small, SETTINGS).key == plan_pool(large, SETTINGS).key
    assert plan_pool(make_spec(), SETTINGS).launch.env["KERNEL_USERNAME"] == POOL_USERNAME
    elsewhere = dataclasses.replace(make_spec(), resource_dir=Path("/opt/specs/py"))
    assert plan_pool(elsewhere, SETTINGS).key == plan_pool(make_spec(), SETTINGS).key


def _variants() -> list[Pool]:
    changed = Settings(kernels=KernelSettings(shutdown_wait_time=9), cluster_secret=b"s" * 32)
    limits = ResourceSettings(default_amounts=Amounts(memory=2**30))
    limited = Settings(kernels=KernelSettings(resources=limits), cluster_secret=b"s" * 32)
    return [
        plan_pool(make_spec(), SETTINGS),
        plan_pool(make_spec({"A": "1"}), SETTINGS),
        plan_pool(make_spec(image_name="other"), SETTINGS),
        plan_pool(make_spec(), SETTINGS, image_id="sha256:1"),
        plan_pool(make_spec(), changed),
        plan_pool(make_spec(), limited),
        *(plan_pool(make_spec(), with_docker(**one)) for one in _OTHER_DOCKER_SETTINGS),
    ]


_OTHER_DOCKER_SETTINGS: tuple[dict[str, Any], ...] = (
    {"network": "kernels"},
    {"encrypt_agent_traffic": True},
    {"launch_env": {"DOCKER_NETWORK": "kernels"}},
    {"launch_env": {"EG_REMOVE_CONTAINER": "False"}},
)


def with_docker(**changes: Any) -> Settings:
    """Return settings with some of the engine's."""
    return replace(SETTINGS, docker=DockerSettings(**changes))


@pytest.mark.parametrize("name", ["DOCKER_HOST", "DOCKER_CONFIG", "EG_LOG_LEVEL"])
def test_pool_is_the_same_however_the_engine_is_reached(name: str) -> None:
    """Gateways on several machines share it."""
    elsewhere = with_docker(launch_env={name: "other"}, host="tcp://other")
    assert plan_pool(make_spec(), elsewhere).key == plan_pool(make_spec(), SETTINGS).key
