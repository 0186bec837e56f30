"""What a kernel may take."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernels.planning.launches import StartRequest, plan_launch
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY
from enterprise_gateway.services.processproxies.resources import (
    KernelResources,
    Ulimit,
    Usage,
    labels_of_usage,
    usage_of_labels,
)
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import KernelSettings, ResourceSettings, Settings
from enterprise_gateway.settings.values.amounts import Amounts, Quota
from enterprise_gateway.settings.values.times import Times

GIB = 1024**3
CPU = 10**9


def make_spec(
    env: dict[str, str] | None = None, class_name: str = "site.Proxy", **config: Any
) -> Kernelspec:
    """Return a kernelspec with this environment and config."""
    content = {
        "argv": ["launch"],
        "display_name": "Py",
        "env": env or {},
        "metadata": {"process_proxy": {"class_name": class_name, "config": config}},
    }
    return parse_kernelspec("py", Path("/specs/py"), msgspec.json.encode(content), ())


def plan(
    client: dict[str, str] | None = None,
    spec: Kernelspec | None = None,
    groups: frozenset[str] = frozenset(),
    inherited: dict[str, str] | None = None,
    **settings: Any,
) -> KernelResources:
    """Return what a kernel may take whose client sends these variables."""
    kernels = KernelSettings(resources=ResourceSettings(**settings), inherited_env=inherited or {})
    all_settings = Settings(kernels=kernels)
    launch = plan_launch(
        StartRequest(env=dict(client or {})), spec or make_spec(), all_settings, Account(groups)
    )
    return launch.resources


def test_kernel_has_many_processes_and_shared_memory_by_default() -> None:
    """A fork bomb ends, and data loaders do not by a bus error."""
    amounts = Amounts(pids=4096, shm_size=2 * GIB)
    assert plan().amounts == amounts


def test_local_kernel_is_not_limited() -> None:
    """Nothing of the request counts, even if it is nonsense."""
    spec = make_spec(class_name=LOCAL_PROCESS_PROXY)
    assert plan({"KERNEL_MEMORY": "much"}, spec) == KernelResources()


def test_local_kernel_counts_in_the_quotas_of_groups() -> None:
    """A quota of kernels does not ask what a kernel is made of."""
    spec = make_spec(class_name=LOCAL_PROCESS_PROXY)
    quotas = (("lab", Quota(kernels=1)),)
    planned = plan({}, spec, frozenset({"lab", "others"}), group_quotas=quotas)
    assert planned == KernelResources(groups=frozenset({"lab"}))


@pytest.mark.parametrize("class_name", [LOCAL_PROCESS_PROXY, "site.Proxy"])
def test_groups_that_settings_name_are_noted(class_name: str) -> None:
    """Those with a quota or times; only a quota needs a launch script that knows it."""
    spec = make_spec(class_name=class_name)
    times = {"group_times": (("lab", Times(max_kernel_age=1)),)}
    planned = plan({}, spec, frozenset({"lab", "others"}), **times)
    assert (planned.groups, planned.is_binding) == ({"lab"}, False)
    quotas = {"group_quotas": (("others", Quota(kernels=1)),)}
    planned = plan({}, spec, frozenset({"lab", "others"}), **times, **quotas)
    assert planned.groups == {"lab", "others"}


@pytest.mark.parametrize(
    ("memory", "shm_size"), [("4g", 2 * GIB), ("64m", 64 * 1024**2), ("1000m", 500 * 1024**2)]
)
def test_shared_memory_is_half_of_the_memory(memory: str, shm_size: int) -> None:
    """As Linux itself sizes a tmpfs; but no less than Docker's own."""
    assert plan({"KERNEL_MEMORY": memory}).amounts.shm_size == shm_size


SIZES = (("small", Amounts(memory=GIB, nano_cpus=CPU)), ("large", Amounts(memory=8 * GIB, gpus=1)))


def test_what_is_nearer_to_the_kernel_wins() -> None:
    """Request, its size, env of kernel.json, resources of the config, its size, the gateway."""
    settings = {
        "sizes": SIZES,
        "default_amounts": Amounts(memory=9 * GIB, pids=7),
        "max_amounts": Amounts(memory=16 * GIB),
    }
    in_size = make_spec(size="large")
    in_config = make_spec(size="large", resources={"memory": "3g"})
    in_env = make_spec({"KERNEL_MEMORY": "4g"}, size="large", resources={"memory": "3g"})
    expected = [
        (plan({}, make_spec(), **settings), 9),
        (plan({}, in_size, **settings), 8),
        (plan({}, in_config, **settings), 3),
        (plan({}, in_env, **settings), 4),
        (plan({"KERNEL_SIZE": "small"}, in_env, **settings), 1),
        (plan({"KERNEL_SIZE": "small", "KERNEL_MEMORY": "5g"}, in_env, **settings), 5),
    ]
    assert [one.amounts.memory for one, _ in expected] == [gib * GIB for _, gib in expected]
    assert {one.amounts.pids for one, _ in expected} == {7}
    assert [one.amounts.gpus for one, _ in expected] == [None, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("client", "amounts"),
    [
        ({"KERNEL_CPUS": "2"}, Amounts(nano_cpus=2 * CPU)),
        ({"KERNEL_CPUS_LIMIT": "1500m"}, Amounts(nano_cpus=CPU * 3 // 2)),
        (
            {"KERNEL_CPUS": "1", "KERNEL_CPUS_LIMIT": "2"},
            Amounts(nano_cpus=2 * CPU, reserved_nano_cpus=CPU),
        ),
        (
            {"KERNEL_MEMORY": "9Gi", "KERNEL_MEMORY_LIMIT": "4Gi"},
            Amounts(memory=4 * GIB, reserved_memory=4 * GIB),
        ),
        ({"KERNEL_GPUS": "0"}, Amounts(gpus=0)),
        ({"KERNEL_SHM_SIZE": "1g"}, Amounts(shm_size=GIB)),
        ({"KERNEL_CPUS": "", "KERNEL_MEMORY": ""}, Amounts()),
    ],
)
def test_request_may_be_in_enterprise_gateways_words(
    client: dict[str, str], amounts: Amounts
) -> None:
    """Those for Kubernetes; where nothing is limited any CPUs and memory may be asked for."""
    shm_size = amounts.memory // 2 if amounts.memory else 2 * GIB
    assert plan(client).amounts == amounts.over(Amounts(pids=4096, shm_size=shm_size))


@pytest.mark.parametrize(
    ("client", "given", "most", "figures"),
    [
        ({"KERNEL_MEMORY": "17g"}, Amounts(), Amounts(memory=16 * GIB), ("17 GiB", "16 GiB")),
        ({"KERNEL_MEMORY_LIMIT": "17g"}, Amounts(), Amounts(memory=16 * GIB), ("_LIMIT asks",)),
        ({"KERNEL_CPUS": "4.5"}, Amounts(nano_cpus=CPU), Amounts(nano_cpus=4 * CPU), ("4.5 CPUs",)),
        ({"KERNEL_CPUS": "1.5"}, Amounts(nano_cpus=CPU), Amounts(), ("1.5 CPUs", "1 CPU at most")),
        ({"KERNEL_GPUS": "1"}, Amounts(gpus=0), Amounts(), ("1 GPU", "0 GPUs")),
        ({"KERNEL_GPUS": "1"}, Amounts(), Amounts(), ("1 GPU", "0 GPUs")),
        ({"KERNEL_GPUS_LIMIT": "1"}, Amounts(), Amounts(memory=GIB), ("1 GPU", "0 GPUs")),
        ({"KERNEL_GPUS": "3"}, Amounts(gpus=1), Amounts(gpus=2), ("3 GPUs", "2 GPUs")),
        ({"KERNEL_SHM_SIZE": "2g"}, Amounts(), Amounts(shm_size=GIB), ("2 GiB", "1 GiB")),
        ({"KERNEL_SHM_SIZE": "3g"}, Amounts(), Amounts(), ("3 GiB", "2 GiB")),
        ({"KERNEL_SHM_SIZE": "3g"}, Amounts(memory=4 * GIB), Amounts(), ("3 GiB", "2 GiB")),
    ],
)
def test_request_beyond_the_maximum_is_refused_with_both_figures(
    client: dict[str, str], given: Amounts, most: Amounts, figures: tuple[str, ...]
) -> None:
    """And with the setting; without a maximum what the operator gives is the most."""
    with pytest.raises(ForbiddenError) as refusal:
        plan(client, default_amounts=given, max_amounts=most)
    assert all(each in str(refusal.value) for each in (*figures, "py", "EG_MAX_RESOURCES"))


@pytest.mark.parametrize("name", ["KERNEL_MEMORY", "KERNEL_MEMORY_LIMIT"])
@pytest.mark.parametrize("inherits", [False, True], ids=["kernel.json", "inherited"])
def test_request_does_not_replace_the_operators_own_limit(name: str, *, inherits: bool) -> None:
    """A variable that both set asks for no more than the operator's value of it, or the maximum."""
    limits = {name: "4g"}
    spec = make_spec({} if inherits else limits)
    inherited = limits if inherits else {}
    with pytest.raises(ForbiddenError, match=rf"{name} asks for 100 GiB .* 4 GiB of memory at m"):
        plan({name: "100g"}, spec, inherited=inherited)
    most = Amounts(memory=GIB)
    found = plan({name: "3g"}, spec, inherited=inherited, max_amounts=most)
    assert found.amounts.memory == 3 * GIB
    assert found.is_binding
    empty = plan({name: ""}, spec, inherited=inherited)
    assert empty.amounts.memory == 4 * GIB


def test_request_has_no_more_gpus_than_its_kernelspec_states() -> None:
    """Kernel.json's number is a ceiling, not a default for who sends none."""
    spec = make_spec({"KERNEL_GPUS": "1"})
    assert plan({"KERNEL_GPUS": "1"}, spec).amounts.gpus == 1
    assert plan({"KERNEL_GPUS": "0"}, spec).amounts.gpus == 0
    assert plan({"KERNEL_GPUS": "2"}, spec, max_amounts=Amounts(gpus=2)).amounts.gpus == 2
    with pytest.raises(ForbiddenError, match=r"8 GPUs, .* 1 GPU at most"):
        plan({"KERNEL_GPUS": "8"}, spec)


def test_request_names_no_variable_of_kernel_json_for_its_limit() -> None:
    """One that a request fills in would be no limit, so it is the operator's error."""
    spec = make_spec({"KERNEL_MEMORY": "${KERNEL_WISH}"})
    with pytest.raises(ConfigurationError, match=r"kernelspec py: KERNEL_MEMORY must be"):
        plan({"KERNEL_WISH": "100g"}, spec)


@pytest.mark.parametrize(
    ("client", "settings", "shm_size"),
    [
        ({}, {"max_amounts": Amounts(shm_size=GIB)}, GIB),
        ({}, {"max_amounts": Amounts(shm_size=9 * GIB)}, 2 * GIB),
        ({"KERNEL_SHM_SIZE": "9g"}, {"max_amounts": Amounts(shm_size=9 * GIB)}, 9 * GIB),
        ({"KERNEL_SHM_SIZE": "4g"}, {"max_amounts": Amounts(memory=8 * GIB)}, 4 * GIB),
        ({"KERNEL_SHM_SIZE": "3g", "KERNEL_MEMORY": "6g"}, {}, 3 * GIB),
        ({"KERNEL_SHM_SIZE": "2g", "KERNEL_MEMORY": "1g"}, {}, 2 * GIB),
        ({"KERNEL_SHM_SIZE": "4g", "KERNEL_SIZE": "large"}, {"sizes": SIZES}, 4 * GIB),
    ],
)
def test_request_may_have_the_shared_memory_that_it_would_get_without_asking(
    client: dict[str, str], settings: dict[str, Any], shm_size: int
) -> None:
    """By the memory that it asks for, too; a maximum limits who does not ask as well."""
    assert plan(client, **settings).amounts.shm_size == shm_size


def test_size_of_a_request_takes_nothing_from_what_it_may_ask_for() -> None:
    """It may have what it would get without the size."""
    found = plan(
        {"KERNEL_SIZE": "small", "KERNEL_MEMORY": "3g"},
        make_spec({"KERNEL_MEMORY": "4g"}),
        sizes=SIZES,
    )
    assert found.amounts.memory == 3 * GIB


def test_operator_may_give_more_than_requests_may_ask_for() -> None:
    """And a request for less than that is fine; a maximum limits who states nothing."""
    most = Amounts(memory=GIB)
    spec = make_spec(resources={"memory": "4g"})
    assert plan({}, spec, max_amounts=most).amounts.memory == 4 * GIB
    assert plan({"KERNEL_MEMORY": "3g"}, spec, max_amounts=most).amounts.memory == 3 * GIB
    assert plan({}, max_amounts=most).amounts.memory == GIB


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"KERNEL_MEMORY": "much"}, r"KERNEL_MEMORY must be a number of bytes .* but is 'much'"),
        ({"KERNEL_CPUS_LIMIT": "-1"}, "KERNEL_CPUS_LIMIT must be"),
        ({"KERNEL_GPUS": "all"}, "KERNEL_GPUS must be"),
        ({"KERNEL_CPUS": "x", "KERNEL_CPUS_LIMIT": "1"}, "KERNEL_CPUS must be"),
        ({"KERNEL_SIZE": "huge"}, r"KERNEL_SIZE is 'huge', but there are only: large, small"),
    ],
)
def test_request_that_is_nonsense_is_the_clients_error(client: dict[str, str], words: str) -> None:
    """400, with what may stand there."""
    with pytest.raises(InvalidRequestError, match=words):
        plan(client, sizes=SIZES)


@pytest.mark.parametrize(
    ("env", "config", "words"),
    [
        ({}, {"resources": {"memory": "x"}}, r"resources in .* kernelspec py: memory must be"),
        ({}, {"resources": {"mem": "1g"}}, "'mem' is none of"),
        ({}, {"resources": ["1g"]}, "resources in"),
        ({"KERNEL_CPUS": "x"}, {}, "KERNEL_CPUS must be"),
        ({}, {"size": "huge"}, r"py names the size .huge., but there are only: large, small"),
        ({}, {"size": 5}, "size in"),
        ({}, {"sizes": {"a": {"memory": 1}}}, r"sizes in .* kernelspec py: memory"),
        ({}, {"sizes": ["a"]}, "sizes in"),
        ({}, {"placement": {"constraint": []}}, "placement in"),
        ({}, {"placement": {"constraints": "x"}}, "placement in"),
        ({}, {"resources": {"ulimits": {"nofile": "x"}}}, "ulimits in"),
        ({}, {"resources": {"ulimits": {"--x": 1}}}, "ulimits in"),
        ({}, {"resources": {"ulimits": {"nofile": -2}}}, "ulimits in"),
        ({}, {"resources": {"ulimits": {"nofile": {"soft": 1}}}}, "ulimits in"),
    ],
)
def test_kernelspec_that_is_nonsense_is_the_operators_error(
    env: dict[str, str], config: dict[str, Any], words: str
) -> None:
    """With the kernelspec's name."""
    with pytest.raises(ConfigurationError, match=words):
        plan({}, make_spec(env, **config), sizes=SIZES)


def test_kernelspec_may_have_sizes_of_its_own_and_no_others() -> None:
    """As for a kernelspec that may have GPUs."""
    spec = make_spec(sizes={"gpu": {"gpus": 2}}, size="gpu")
    assert plan({}, spec, sizes=SIZES).amounts.gpus == 2
    with pytest.raises(InvalidRequestError, match="only: gpu"):
        plan({"KERNEL_SIZE": "small"}, spec, sizes=SIZES)


def test_ulimits_and_placement_are_the_operators() -> None:
    """Constraints add up, since each of them excludes; preferences replace the gateway's."""
    spec = make_spec(
        resources={"ulimits": {"nofile": 1024, "core": {"soft": 0, "hard": -1}}},
        placement={"constraints": ["node.labels.gpu == yes"], "preferences": ["node.labels.rack"]},
    )
    settings = {
        "placement_constraints": ("node.role == worker",),
        "placement_preferences": ("node.labels.zone",),
    }
    found = plan({}, spec, **settings)
    assert found.ulimits == (Ulimit("nofile", 1024, 1024), Ulimit("core", 0, -1))
    assert found.constraints == ("node.role == worker", "node.labels.gpu == yes")
    assert found.preferences == ("node.labels.rack",)
    assert plan({}, make_spec(), **settings).preferences == ("node.labels.zone",)


def test_quota_cannot_count_what_is_not_limited() -> None:
    """The operator is told, for a kernel without a limit could take everything."""
    quotas = (("*", Quota(memory=GIB)),)
    with pytest.raises(ConfigurationError, match=r"counts memory, but .* py .*EG_DEFAULT_RES"):
        plan(user_quotas=quotas)
    assert plan({"KERNEL_MEMORY": "1g"}, user_quotas=quotas).usage == Usage(memory=GIB)
    assert plan(group_quotas=(("lab", Quota(gpus=1, kernels=2)),)).usage == Usage()


def test_only_groups_with_a_quota_are_counted() -> None:
    """A directory may put a user into hundreds of groups."""
    groups = frozenset({"lab", "all", "staff"})
    assert plan(groups=groups, group_quotas=(("lab", Quota(kernels=1)),)).groups == {"lab"}
    assert plan(groups=groups).groups == frozenset()


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(1, 2, 3),
        Usage(1_500_000_000, 2 * GIB, 1, frozenset({"a,b", "ü x", "%2C"})),
        Usage(10 * CPU, groups=frozenset({"lab"})),
    ],
)
def test_labels_tell_every_gateway_what_a_kernel_counts_for(usage: Usage) -> None:
    """Exactly, whatever the names of groups."""
    expected = replace(usage, nano_cpus=0) if usage.nano_cpus == 1 else usage
    assert usage_of_labels(labels_of_usage(usage)) == expected


def test_labels_that_are_no_amounts_count_as_none() -> None:
    """A site may have edited them."""
    labels = {"enterprise-gateway.cpus": "x", "enterprise-gateway.memory": "2g"}
    assert usage_of_labels(labels) == Usage()


@pytest.mark.parametrize(
    ("client", "config", "settings", "is_binding"),
    [
        ({}, {}, {}, False),
        ({"KERNEL_MEMORY": "1g"}, {}, {}, False),
        ({}, {"resources": {"pids": 9, "shm_size": "1g"}}, {}, False),
        ({}, {"resources": {"memory": "1g"}}, {}, True),
        ({}, {}, {"default_amounts": Amounts(nano_cpus=CPU)}, True),
        ({}, {}, {"user_quotas": (("*", Quota(kernels=3)),)}, False),
        ({}, {}, {"user_quotas": (("*", Quota(gpus=3)),)}, True),
        ({}, {}, {"group_quotas": (("lab", Quota(kernels=3)),)}, True),
    ],
)
def test_operators_limits_and_quotas_are_binding(
    client: dict[str, str], config: Any, settings: Any, *, is_binding: bool
) -> None:
    """A launch script must apply them; what only a request asks for was never promised."""
    found = plan(client, make_spec(**config), frozenset({"lab"}), **settings)
    assert found.is_binding is is_binding
