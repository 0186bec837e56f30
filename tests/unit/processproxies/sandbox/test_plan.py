"""What a kernel's container may do and see, as kernelspecs, requests and settings say it."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.sandbox.plan import (
    SandboxPlan,
    expect_poolable,
    plan_sandbox,
)
from enterprise_gateway.services.processproxies.sandbox.request_volumes import check_permitted
from enterprise_gateway.services.processproxies.sandbox.volumes import NamedVolume, VolumeError
from enterprise_gateway.services.processproxies.workloads.names import escape_username
from enterprise_gateway.settings import DockerSettings, SandboxSettings, Settings
from enterprise_gateway.settings.values.volume_permission import parse_permissions

REQUEST = LaunchRequest(
    kernel_id="00000000-0000-0000-0000-000000000007",
    kernel_name="python_docker",
    username="ann@example.org",
    argv=(),
    env={},
    resource_dir="",
    config={},
    agent_settings={},
    agent_token="",
    timeout=60.0,
)
ANN = "ann--40example--2eorg"


def plan(
    config: dict[str, object] | None = None,
    *,
    env: dict[str, str] | None = None,
    username: str = REQUEST.username,
    is_service: bool = False,
    host: str = "",
    **settings: Any,
) -> SandboxPlan:
    """Return the plan of a kernel."""
    request = dataclasses.replace(REQUEST, config=config or {}, env=env or {}, username=username)
    every = Settings(
        sandbox=SandboxSettings(**settings), docker=DockerSettings(host=host, network="kernels")
    )
    return plan_sandbox(request, every, is_service=is_service)


def mounts(*volumes: dict[str, object], **arguments: Any) -> Any:
    """Return the mounts of a kernelspec's volumes, as the script gets them."""
    return json.loads(plan({"volumes": volumes}, **arguments).variable)["mounts"]


def requested(
    sources: object, places: object, *permissions: str, roots: tuple[str, ...] = ()
) -> Any:
    """Return the mounts of a request's volumes."""
    env = {"KERNEL_VOLUMES": json.dumps(sources), "KERNEL_VOLUME_MOUNTS": json.dumps(places)}
    made = plan(
        env=env,
        request_volumes=parse_permissions(permissions),
        allowed_volume_roots=roots,
    )
    return json.loads(made.variable)["mounts"]


def test_kernels_are_hardened_unless_the_kernelspec_says_otherwise() -> None:
    """The defaults are the safe ones."""
    security = json.loads(plan().variable)["security"]
    assert security["drop_capabilities"] is True
    assert security["no_new_privileges"] is True
    assert security["primary_group"] is True
    assert security["block_metadata"] is True
    assert security["seccomp"] == "default"
    assert (security["log_driver"], security["log_max_size"]) == ("json-file", "10m")
    assert plan().sandbox.is_stated is False


def test_kernelspec_switches_each_item() -> None:
    """Over the settings of the operator, which count for what it does not state."""
    stated = {"no_new_privileges": False, "capabilities": ["NET_RAW"], "runtime": "runsc"}
    made = plan({"security": stated}, read_only_root=True, drop_capabilities=False)
    security = made.sandbox.security
    assert (security.no_new_privileges, security.runtime) == (False, "runsc")
    assert security.capabilities == ("NET_RAW",)
    assert (security.read_only, security.drop_capabilities) == (True, False)
    assert made.sandbox.is_stated


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("strict", "must be an object"),
        ({"privileged": True}, "unknown field `privileged`"),
        ({"read_only": "yes"}, r"read_only"),
        ({"init": True}, "/proc/1/environ"),
        ({"seccomp": "/tmp/profile"}, "seccomp"),
        ({"capabilities": ["--privileged"]}, "capabilities"),
        ({"runtime": "runc --x"}, "runtime"),
        ({"log_max_size": "much"}, "log_max_size"),
        ({"log_max_size": "10m\n"}, "log_max_size"),
    ],
)
def test_security_that_is_not_understood_is_refused(stated: object, message: str) -> None:
    """A misspelled switch must not leave a kernel open."""
    with pytest.raises(ConfigurationError, match=message) as error:
        plan({"security": stated})
    assert "python_docker" in str(error.value)


@pytest.mark.parametrize(
    "stated", [{"runtime": "runsc"}, {"seccomp": "unconfined"}, {"block_metadata": True}]
)
def test_services_say_what_they_cannot_have(stated: object) -> None:
    """Swarm has no such settings; ignoring them would be a lie."""
    plan({"security": stated})
    with pytest.raises(ConfigurationError, match="cannot be set for services"):
        plan({"security": stated}, is_service=True)


def test_read_only_root_has_a_writable_tmp() -> None:
    """In memory, unless the kernelspec has its own."""
    read_only = {"security": {"read_only": True}}
    assert [mount.target for mount in plan(read_only).sandbox.mounts] == ["/tmp"]
    own = {"type": "tmpfs", "target": "/tmp", "size": "1g"}
    (mount,) = plan({**read_only, "volumes": [own]}).sandbox.mounts
    assert mount.tmpfs_options is not None
    assert mount.tmpfs_options.size_bytes == 1 << 30


def test_volumes_become_mounts_of_the_engine() -> None:
    """Of each kind; the user's name is escaped as in names of containers."""
    made = mounts(
        {"type": "volume", "source": "home-{username}", "target": "/home/jovyan"},
        {"type": "bind", "source": "/srv/{username}/", "target": "/data", "read_only": True},
        {"type": "tmpfs", "target": "/scratch", "size": "64m"},
        {"type": "volume", "source": "s3-{kernel_id}", "target": "/s3", "driver": "rclone",
         "options": {"path": "bucket/{username}"}},
        allowed_volume_roots=("/srv",),
    )  # fmt: skip
    assert made[0] == {"Target": "/home/jovyan", "Type": "volume", "Source": f"home-{ANN}"}
    assert made[1] == {
        "Target": "/data",
        "Type": "bind",
        "Source": f"/srv/{ANN}",
        "ReadOnly": True,
    }
    assert made[2]["TmpfsOptions"] == {"SizeBytes": 64 << 20}
    assert made[3]["Source"] == f"s3-{REQUEST.kernel_id}"
    options = {"path": f"bucket/{ANN}"}
    assert made[3]["VolumeOptions"]["DriverConfig"] == {"Name": "rclone", "Options": options}


def test_nfs_folder_is_a_volume_named_after_what_it_is() -> None:
    """Docker uses a volume that is there whatever its options; another folder has another name."""
    nfs = {"type": "nfs", "server": "nfs.example.org", "path": "/export/{username}", "target": "/n"}
    (first,) = mounts({**nfs, "options": "nfsvers=4,soft"})
    (other,) = mounts({**nfs, "options": "nfsvers=4,soft"}, username="bob")
    assert first["VolumeOptions"]["DriverConfig"] == {
        "Name": "local",
        "Options": {
            "type": "nfs",
            "o": "addr=nfs.example.org,rw,nfsvers=4,soft",
            "device": f":/export/{ANN}",
        },
    }
    assert first["Source"] != other["Source"]


@pytest.mark.parametrize(
    ("volume", "is_copied"),
    [
        ({"type": "nfs", "server": "nfs", "path": "/export"}, False),
        ({"type": "volume", "source": "v", "options": {"type": "nfs", "device": ":/x"}}, False),
        ({"type": "volume", "source": "v", "options": {"type": "nfs4", "device": ":/x"}}, False),
        ({"type": "volume", "source": "v", "options": {"type": "cifs", "device": "//h/x"}}, False),
        ({"type": "volume", "source": "v", "options": {"type": "tmpfs", "device": "x"}}, True),
        ({"type": "volume", "source": "v", "driver": "rclone", "options": {"type": "nfs"}}, True),
    ],
)
def test_nothing_of_the_image_is_copied_to_a_server(
    volume: dict[str, object], *, is_copied: bool
) -> None:
    """A server with root_squash would refuse it, and the kernel would not start."""
    (mount,) = mounts({**volume, "target": "/data"})
    assert ("NoCopy" not in mount["VolumeOptions"]) is is_copied


@pytest.mark.parametrize(
    "source",
    [
        "/srv/../etc",
        "/srv/{username}/../../etc",
        "/srvx",
        "/",
        "srv/data",
        "../srv",
        "/etc",
        "/srv/a\0b",
        "/srv/a\nb",
        "",
        "//etc",
        "/./etc",
    ],
)
def test_folder_of_the_host_outside_of_the_roots_is_refused(source: str) -> None:
    """However it is spelled."""
    volume = {"type": "bind", "source": source, "target": "/data"}
    with pytest.raises(ConfigurationError, match="volumes"):
        mounts(volume, allowed_volume_roots=("/srv",))


def test_no_folder_of_the_host_is_allowed_by_default() -> None:
    """The operator lists those that are."""
    with pytest.raises(ConfigurationError, match="EG_ALLOWED_VOLUME_ROOTS"):
        mounts({"type": "bind", "source": "/srv", "target": "/data"})


@pytest.mark.parametrize(
    "volume",
    [
        {"type": "bind", "source": "/srv/{username}/work"},
        {"type": "bind", "source": "/srv/x-{username}/{kernel_id}/"},
        {"type": "nfs", "server": "nfs", "path": "/srv/{username}/work"},
        {
            "type": "volume",
            "source": "w",
            "options": {"type": "nfs", "o": "addr=nfs", "device": ":/srv/{username}/work"},
        },
    ],
)
def test_folder_below_one_of_a_user_is_refused(volume: dict[str, object]) -> None:
    """Users may put a link to any other folder in its place."""
    with pytest.raises(ConfigurationError, match="must be in the last part of the path"):
        mounts({**volume, "target": "/x"}, allowed_volume_roots=("/srv",))


@pytest.mark.parametrize("source", ["/srv", "/srv/", "//srv//data", "/srv/./data", "/srv/...x"])
def test_folder_of_the_host_in_a_root_is_allowed(source: str) -> None:
    """The root itself, too."""
    volume = {"type": "bind", "source": source, "target": "/data"}
    (mount,) = mounts(volume, allowed_volume_roots=("/srv",))
    assert mount["Source"].startswith("/srv")
    assert "//" not in mount["Source"]


@pytest.mark.parametrize(
    "source",
    [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run",
        "/var/run",
        "/var",
        "/run/containerd",
        "/run/user",
        "/run/user/1000",
        "/var/run/user/1000/docker.sock",
        "/run/user/1000/podman",
        "/run/user/1000/podman/podman.sock",
        "/run/podman",
        "/run/docker/containerd",
        "/srv/engine/docker.sock",
        "/srv/engine",
        "/srv",
    ],
)
def test_socket_of_an_engine_is_in_no_volume(source: str) -> None:
    """Not even in a folder that the operator allows, and under either of its names."""
    roots = ("/run", "/var", "/srv")
    volume = {"type": "bind", "source": source, "target": "/x"}
    with pytest.raises(ConfigurationError, match="socket of a container engine"):
        mounts(volume, allowed_volume_roots=roots, host="unix:///srv/engine/docker.sock")
    for other in ("/srv/data", "/run/user/1000/pulse", "/run/user/1000/podman/x", "/run/users"):
        fine = {**volume, "source": other}
        assert mounts(fine, allowed_volume_roots=roots, host="unix:///srv/engine/docker.sock")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "data",
        "/data/",
        "/data/../etc",
        "/proc",
        "/proc/1",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/shm",
        "/opt/enterprise-gateway",
        "/opt/enterprise-gateway/agent",
        "/run/secrets/x",
        "//data",
        "/a\nb",
        "",
    ],
)
def test_target_that_is_no_place_for_a_volume_is_refused(target: str) -> None:
    """Nothing may cover the agent or the kernel's own file systems."""
    with pytest.raises(ConfigurationError, match="target"):
        mounts({"type": "tmpfs", "target": target})


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"type": "volume", "source": "/etc", "target": "/x"}, "not the name of a volume"),
        ({"type": "volume", "source": "a/../b", "target": "/x"}, "not the name of a volume"),
        ({"type": "volume", "source": "{{.Node.ID}}", "target": "/x"}, "braces"),
        ({"type": "volume", "source": "{user}", "target": "/x"}, "braces"),
        ({"type": "tmpfs", "target": "/x{{.Task.Name}}"}, "braces"),
        ({"type": "volume", "source": "enterprise-gateway_engine", "target": "/x"}, "own"),
        ({"type": "volume", "source": "Enterprise-Gateway-agent-1", "target": "/x"}, "own"),
        ({"type": "tmpfs", "target": "/x", "size": "-1"}, "not a number of bytes"),
        ({"type": "tmpfs", "target": "/x", "size": 0}, "not a number of bytes"),
        ({"type": "tmpfs", "target": "/x", "mode": 4777}, "unknown field `mode`"),
        ({"type": "npipe", "target": "/x"}, "Invalid value 'npipe'"),
        ({"target": "/x"}, "missing required field `type`"),
        ({"type": "nfs", "server": "a,b", "path": "/", "target": "/x"}, "NFS server"),
        ({"type": "nfs", "server": "a", "path": "x", "target": "/x"}, "NFS folder"),
        ({"type": "nfs", "server": "a", "path": "/a/../b", "target": "/x"}, "NFS folder"),
        ({"type": "nfs", "server": "a", "path": "/", "options": "bind", "target": "/x"}, "options"),
        ({"type": "nfs", "server": "a", "path": "/", "options": "addr=b", "target": "/x"},
         "options"),
        ({"type": "nfs", "server": "a", "path": "/", "options": "soft,suid", "target": "/x"},
         "options"),
    ],
)  # fmt: skip
def test_volume_that_is_none_is_refused(volume: dict[str, object], message: str) -> None:
    """With what is wrong, and the kernelspec."""
    with pytest.raises(ConfigurationError, match=message) as error:
        mounts(volume)
    assert "python_docker" in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "none", "o": "bind", "device": "/"},
        {"type": "nfs", "o": "addr=1.2.3.4,bind", "device": "/"},
        {"type": "nfs", "o": "rw, RBIND", "device": "/"},
        {"type": "ext4", "device": "/dev/sda1"},
        {"o": "bind", "device": "/etc"},
        {"type": "tmpfs", "o": "remount", "device": "x"},
        {"type": "overlay", "o": "lowerdir=/", "device": "overlay"},
        {"mountpoint": "/"},
    ],
)
@pytest.mark.parametrize("driver", ["", "local"])
def test_local_driver_is_no_way_to_the_hosts_files(driver: str, options: dict[str, str]) -> None:
    """It passes its options to mount(2)."""
    volume = {"type": "volume", "source": "x", "target": "/x", "options": options}
    with pytest.raises(ConfigurationError, match="volumes"):
        mounts({**volume, "driver": driver})
    allowed = {"type": "tmpfs", "o": "size=1m", "device": "tmpfs"}
    assert mounts({**volume, "driver": driver, "options": allowed})


def test_two_volumes_in_one_place_are_refused() -> None:
    """The engine's own message would not name the kernelspec."""
    volume = {"type": "tmpfs", "target": "/x"}
    with pytest.raises(ConfigurationError, match="two volumes have the target /x"):
        mounts(volume, volume)


@pytest.mark.parametrize("username", ["..", "../..", "/", "a/../../etc", "{{.Node.ID}}", "", "."])
def test_name_of_a_user_leads_nowhere(username: str) -> None:
    """It is escaped before it is part of a path."""
    volume = {"type": "bind", "source": "/srv/{username}", "target": "/data"}
    (mount,) = mounts(volume, username=username, allowed_volume_roots=("/srv",))
    folder = mount["Source"].removeprefix("/srv/")
    assert folder
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


DISK = [{"name": "d", "persistentVolumeClaim": {"claimName": f"data-{ANN}"}}]
AT = [{"name": "d", "mountPath": "/d"}]


def test_request_mounts_nothing_unless_the_operator_allows_it() -> None:
    """Whatever it asks for."""
    for source in (
        {"hostPath": {"path": "/etc"}},
        {"nfs": {"server": "nfs", "path": "/"}},
        {"persistentVolumeClaim": {"claimName": "x"}},
        {"emptyDir": {"medium": "Memory"}},
    ):
        with pytest.raises(ForbiddenError, match="EG_REQUEST_VOLUMES"):
            requested([{"name": "d", **source}], AT)
    assert requested(DISK, []) == []


def test_request_mounts_what_is_allowed() -> None:
    """In the shape of Kubernetes, as with Enterprise Gateway."""
    (own,) = requested(DISK, AT, "volume:data-{username}")
    assert own == {"Target": "/d", "Type": "volume", "Source": f"data-{ANN}"}
    nfs = [{"name": "d", "nfs": {"server": "nfs", "path": "/export/a/", "readOnly": True}}]
    (made,) = requested(nfs, AT, "nfs:nfs:/export/a:ro")
    assert made["ReadOnly"] is True
    empty = [{"name": "d", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]
    (memory,) = requested(empty, AT, "tmpfs")
    assert memory["TmpfsOptions"] == {"SizeBytes": 64 << 20}
    host = [{"name": "d", "hostPath": {"path": f"/srv/home/{ANN}"}}]
    (bound,) = requested(host, AT, "bind:/srv/home/{username}", roots=("/srv",))
    assert bound["Source"] == f"/srv/home/{ANN}"


@pytest.mark.parametrize(
    ("source", "permission"),
    [
        ({"persistentVolumeClaim": {"claimName": "data-bob"}}, "volume:data-{username}"),
        ({"persistentVolumeClaim": {"claimName": "enterprise-gateway_engine"}}, "volume:*"),
        ({"nfs": {"server": "nfs", "path": "/exports"}}, "nfs:nfs:/export"),
        ({"nfs": {"server": "nfs", "path": "/export/../root"}}, "nfs:nfs:/export"),
        ({"nfs": {"server": "other", "path": "/export"}}, "nfs:nfs:/export"),
        ({"nfs": {"server": "nfs", "path": "/export"}}, "nfs:nfs:/export:ro"),
        ({"nfs": {"server": "nfs", "path": "/export/a"}}, "nfs:nfs:/export"),
        ({"nfs": {"server": "nfs", "path": f"/export/{ANN}/x"}}, "nfs:nfs:/export/{username}"),
        ({"hostPath": {"path": f"/srv/home/{ANN}/x"}}, "bind:/srv/home/{username}"),
        ({"hostPath": {"path": "/srv/x"}}, "bind:/srv"),
        ({"hostPath": {"path": "/srv/../etc"}}, "bind:/srv"),
        ({"hostPath": {"path": "/srv"}}, "bind:/srv:ro"),
        ({"hostPath": {"path": "/etc"}}, "bind:/etc"),
        ({"hostPath": {"path": "/srv/docker.sock/.."}}, "bind:/srv"),
        ({"emptyDir": {"medium": "Memory"}}, "volume:*"),
    ],
)
def test_request_mounts_nothing_else(source: dict[str, object], permission: str) -> None:
    """A folder must also be in one of the roots, which requests cannot leave.

    Folders below the one that is named are others: a user may put a link in their place.
    """
    with pytest.raises(ForbiddenError, match="KERNEL_VOLUMES"):
        requested([{"name": "d", **source}], AT, permission, roots=("/srv",))


@pytest.mark.parametrize(
    ("sources", "places"),
    [
        ([], AT),
        ([{"name": "d"}], AT),
        ([{"name": "d", "emptyDir": {}}], AT),
        ([{"name": "d", "secret": {"secretName": "x"}}], AT),
        ([{"name": "d", "hostPath": {"path": "/a"}, "emptyDir": {"medium": "Memory"}}], AT),
        ({"name": "d"}, AT),
        (DISK, [{"name": "d", "mountPath": "/d", "subPath": "../.."}]),
        (DISK, [{"name": "d"}]),
        (DISK, AT * 40),
        ([{"name": "d", "persistentVolumeClaim": {"claimName": "{{.Node.ID}}"}}], AT),
    ],
)
def test_volumes_of_a_request_that_are_none_are_refused(sources: object, places: object) -> None:
    """As the client's mistake."""
    with pytest.raises(InvalidRequestError, match="KERNEL_VOLUME"):
        requested(sources, places, "volume:*", "tmpfs")


@pytest.mark.parametrize("text", ["[", "no json", "[" * 5000, "{}", "7"])
def test_volumes_of_a_request_must_be_json(text: str) -> None:
    """YAML is not taken for it."""
    with pytest.raises(InvalidRequestError, match="KERNEL_VOLUMES"):
        plan(env={"KERNEL_VOLUMES": text})


def test_request_cannot_replace_a_volume_of_the_kernelspec() -> None:
    """Two in one place are refused, also if the second is of a request."""
    env = {
        "KERNEL_VOLUMES": json.dumps(DISK),
        "KERNEL_VOLUME_MOUNTS": json.dumps([{"name": "d", "mountPath": "/x"}]),
    }
    with pytest.raises(ForbiddenError, match="two volumes"):
        plan(
            {"volumes": [{"type": "tmpfs", "target": "/x"}]},
            env=env,
            request_volumes=parse_permissions(["volume:*"]),
        )


@pytest.mark.parametrize(
    ("stated", "name", "dns"),
    [
        ("default", "", ()),
        ("internal", "inner", ()),
        ("none", "inner", ("127.0.0.1",)),
        ("team_net", "team_net", ()),
    ],
)
def test_network_is_the_kernelspecs(stated: str, name: str, dns: tuple[str, ...]) -> None:
    """Without a way out it has no name server either, as Docker's would ask outside."""
    made = plan({"network": stated}, internal_network="inner")
    assert (made.network.name, made.sandbox.dns) == (name, dns)
    assert made.network.must_be_internal is (name == "inner")


@pytest.mark.parametrize("stated", ["container:x", "a b", "", 7, None, "--x"])
def test_network_that_is_none_is_refused(stated: object) -> None:
    """Whatever is written there."""
    with pytest.raises(ConfigurationError, match="network in metadata"):
        plan({"network": stated}, internal_network="inner")


def test_internal_network_must_be_named() -> None:
    """With how to make one."""
    with pytest.raises(ConfigurationError, match="docker network create --internal"):
        plan({"network": "none"})


def test_kernels_of_a_pool_have_no_volumes_of_a_user() -> None:
    """They are made before they have one."""
    shared = {"volumes": [{"type": "volume", "source": "data", "target": "/data"}]}
    expect_poolable(dataclasses.replace(REQUEST, config=shared))
    for key in ("source", "target"):
        own = {"type": "volume", "source": "a", "target": "/a", key: "/x-{username}"}
        with pytest.raises(ConfigurationError, match="before it has a user"):
            expect_poolable(dataclasses.replace(REQUEST, config={"volumes": [own]}))
    with pytest.raises(ConfigurationError, match="its secrets contain"):
        expect_poolable(
            dataclasses.replace(REQUEST, config={"secrets": [{"source": "{username}"}]})
        )


def test_secrets_are_the_users_files() -> None:
    """Under their own names, unless the kernelspec has another."""
    stated = [{"source": "db-{username}", "target": "db"}, {"source": "key"}]
    made = plan({"secrets": stated}, username="ann", is_service=True).sandbox
    assert [(each.source, each.target) for each in made.secrets] == [
        ("db-ann", "db"),
        ("key", "key"),
    ]
    assert made.is_stated


@pytest.mark.parametrize(
    "stated",
    [
        [{"source": "../x"}],
        [{"source": "x", "target": "../x"}],
        [{"source": "x", "target": "/etc/x"}],
        [{"source": "{{.Node.ID}}"}],
        [{"source": "x", "mode": 511}],
        [{"source": "x"}] * 33,
        ["x"],
        {"source": "x"},
        [{"source": ""}],
    ],
)
def test_secrets_that_are_none_are_refused(stated: object) -> None:
    """With the kernelspec; a file of another folder is the name of none."""
    for is_service in (True, False):
        with pytest.raises(ConfigurationError, match="secrets in metadata"):
            plan({"secrets": stated}, is_service=is_service, secrets_folder="/srv/secrets")


def test_secrets_of_a_container_are_files_of_the_hosts_folder() -> None:
    """Under the names that they have in services, where no other volume may be."""
    stated = [{"source": "db-{username}", "target": "db"}, {"source": "key"}]
    made = plan({"secrets": stated}, username="ann", secrets_folder="/srv/secrets").sandbox
    assert made.secrets == ()
    assert [(each.type, each.source, each.target, each.read_only) for each in made.mounts] == [
        ("bind", "/srv/secrets/db-ann", "/run/secrets/db", True),
        ("bind", "/srv/secrets/key", "/run/secrets/key", True),
    ]
    assert made.is_stated


def test_secrets_of_a_container_need_a_folder() -> None:
    """The error says which setting names it; services need none."""
    stated = {"secrets": [{"source": "x"}]}
    with pytest.raises(ConfigurationError, match="EG_SECRETS_FOLDER"):
        plan(stated)
    plan(stated, is_service=True)


@pytest.mark.parametrize(
    "text", ["volume", "volume:", "bind:srv", "nfs:server", "nfs:a:/x/../y", "hostPath:/x", "bind"]
)
def test_permission_that_is_none_ends_the_start(text: str) -> None:
    """The operator learns it at once."""
    with pytest.raises(ConfigurationError, match="request_volumes"):
        parse_permissions([text])


@pytest.mark.parametrize("text", ["bind:/srv/{username}/x", "nfs:nfs:/srv/{username}/x/:ro"])
def test_permission_of_a_folder_below_one_of_a_user_ends_the_start(text: str) -> None:
    """As in kernelspecs."""
    with pytest.raises(ConfigurationError, match=r"request_volumes.*last part of the path"):
        parse_permissions([text])


@pytest.mark.parametrize(
    "pattern",
    [
        "data-{username}-*",
        "data-{username}*",
        "*-{username}",
        "*{username}",
        "data_{username}-*_x",
        "x_*-{username}_*",
        "*_{username}_*",
        "{username}-{username}*",
        "data-{username}-?",
        "data-{username}-[a-z]",
    ],
)
def test_permission_of_a_volume_that_may_be_two_users_ends_the_start(pattern: str) -> None:
    """Ann must not get the volumes of ann-marie."""
    with pytest.raises(ConfigurationError, match=r"request_volumes.*two users"):
        parse_permissions([f"volume:{pattern}:ro"])


UNAMBIGUOUS = (
    "data-{username}_*",
    "data-{username}-x.*-{username}",
    "*_{username}",
    "*.x-{username}-y",
    "{username}-{username}.*",
    "{username}{username}",
    "a_{username}_*_{username}",
)


@given(
    pattern=st.sampled_from(UNAMBIGUOUS),
    users=st.lists(st.text("ab-_.", min_size=1, max_size=4), min_size=2, max_size=2, unique=True),
    filling=st.text("ab-_.", max_size=9),
)
def test_volume_that_requests_may_mount_is_one_users(
    pattern: str, users: list[str], filling: str
) -> None:
    """Whatever it is called, it fits the pattern for one user only."""
    permissions = parse_permissions([f"volume:{pattern}"])
    one, other = map(escape_username, users)
    name = pattern.replace("{username}", one).replace("*", filling)
    volume = NamedVolume(source=name, target="/d")
    check_permitted(volume, permissions, one)
    with pytest.raises(VolumeError):
        check_permitted(volume, permissions, other)
