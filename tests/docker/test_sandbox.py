"""What kernels in containers may do and see, as code that runs in them finds it."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from harness.gateways.gateway import Gateway
from harness.kernels.kernelspecs import derive_kernelspec

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

STATUS = """
import os
fields = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
print({name: int(fields[name], 16) for name in names}, fields["NoNewPrivs"].strip(),
      fields["Seccomp"].strip(), os.getuid(), os.getgid(), sorted(os.getgroups()))
"""
DRAW = """
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.savefig("/tmp/x.png"); plt.close()
try:
    open("/opt/x", "w")
except OSError as error:
    print(error.strerror)
import os
print(os.path.getsize("/tmp/x.png") > 1000)
print([line for _, _, line in get_ipython().history_manager.get_range()][-1:] != [])
get_ipython().history_manager.writeout_cache()
print(os.path.exists(get_ipython().history_manager.hist_file))
"""

READ_SECRET = """
import os
secret = open("/run/secrets/key").read()
try:
    open("/run/secrets/key", "a")
except OSError as error:
    print(secret, error.strerror, any(secret in value for value in os.environ.values()))
"""
ROUTES = """
import socket
for address in ("169.254.169.254", "169.254.170.2", "192.0.2.1"):
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect((address, 80))
        print(probe.getsockname()[0] == "169.254.169.254", end=" ")
"""
"""Whether packets to metadata services, and to another address, leave by the usual way."""


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    with contextlib.closing(docker.from_env()) as client:
        yield client


@pytest.fixture
def networks(engine: docker.DockerClient) -> Iterator[dict[str, str]]:
    """Networks by what they are: one without a way out, and another one."""
    name = f"egt{uuid.uuid4().hex[:8]}"
    made = [
        engine.networks.create(f"{name}-internal", internal=True),
        engine.networks.create(f"{name}-other"),
    ]
    yield {str(each.name).partition("-")[2]: str(each.name) for each in made}
    for each in made:
        each.remove()


class Site:
    """A gateway whose kernelspecs a test derives from the usual one."""

    def __init__(self, gateway: Gateway, engine: docker.DockerClient) -> None:
        self.gateway = gateway
        self.engine = engine

    def add(self, name: str, **config: Any) -> None:
        """Make a kernelspec with more in its config."""
        kernels = self.gateway.home / "share/jupyter/kernels"
        derive_kernelspec(kernels, "python_docker", name, config=config)

    def run(self, name: str, code: str, env: dict[str, str] | None = None) -> str:
        """Start a kernel, and return what code prints there."""
        kernel_id = self.gateway.start_kernel(name, env)
        execution = self.gateway.connect(kernel_id).execute(code)
        assert not execution.of_type("error"), execution.of_type("error")[0].content
        return execution.stdout

    def refusal(self, name: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and message of a start that is refused."""
        body = {"name": name, "env": {"KERNEL_USERNAME": self.gateway.username, **(env or {})}}
        response = self.gateway.request("POST", "/api/kernels", json=body)
        return response.status_code, response.json()["message"]

    def container(self, kernel_id: str) -> dict[str, Any]:
        """Return what the engine says of a kernel's container."""
        (found,) = self.engine.containers.list(filters={"label": f"kernel_id={kernel_id}"})
        attrs: dict[str, Any] = found.attrs
        return attrs


@contextlib.contextmanager
def running(folder: Path, engine: docker.DockerClient, **env: str) -> Iterator[Site]:
    """A running gateway with those variables."""
    gateway = Gateway(folder / "gateway", env=env)
    try:
        gateway.start()
        yield Site(gateway, engine)
    finally:
        gateway.close()


@pytest.fixture
def site(tmp_path: Path, engine: docker.DockerClient) -> Iterator[Site]:
    """A running gateway with the default settings."""
    with running(tmp_path, engine) as site:
        yield site


def test_kernel_has_no_rights_that_it_does_not_need(site: Site) -> None:
    """Seen in /proc, whatever the engine says of the container."""
    none = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert site.run("python_docker", STATUS).strip() == f"{none} 1 2 1000 100 [100]"


def test_user_id_alone_is_not_in_group_0(site: Site) -> None:
    """As it is in Docker for an id that the image does not know."""
    shown = site.run("python_docker", STATUS, {"KERNEL_UID": "4242", "KERNEL_GID": "42"})
    assert shown.strip().endswith("4242 42 [42, 100]")
    assert site.run("python_docker", STATUS, {"KERNEL_UID": "4242"}).strip().endswith("100 [100]")


def test_kernelspec_can_switch_each_item(site: Site) -> None:
    """Such as for a debugger, or an image whose groups matter."""
    security = {
        "drop_capabilities": False,
        "no_new_privileges": False,
        "seccomp": "unconfined",
        "primary_group": False,
        "log_max_size": "1m",
    }
    site.add("open", security=security)
    kernel_id = site.gateway.start_kernel("open", {"KERNEL_UID": "4242"})
    shown = site.gateway.connect(kernel_id).execute(STATUS).stdout
    assert "'CapBnd': 0" not in shown
    assert " 0 0 4242 0 " in shown
    host = site.container(kernel_id)["HostConfig"]
    assert host["Init"] is False  # the agent is one
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}}


def test_read_only_kernel_draws_and_has_a_history(site: Site) -> None:
    """What writes to the home and to /tmp works; the image cannot be changed."""
    site.add("read_only", security={"read_only": True})
    drawn = site.run("read_only", DRAW).split("\n")
    assert drawn[:4] == ["Read-only file system", "True", "True", "True"]


def test_unknown_runtime_is_the_kernelspecs_error(site: Site) -> None:
    """The engine's own words, in the answer."""
    site.add("gvisor", security={"runtime": "runsc-that-is-not-there"})
    status, message = site.refusal("gvisor")
    assert status == 500
    assert "runsc-that-is-not-there" in message


def test_log_of_a_kernel_cannot_fill_the_disk(site: Site) -> None:
    """The container's output is rotated by default."""
    kernel_id = site.gateway.start_kernel("python_docker")
    log = site.container(kernel_id)["HostConfig"]["LogConfig"]
    assert log == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def test_volume_of_a_user_is_kept_and_is_no_other_users(
    site: Site, engine: docker.DockerClient
) -> None:
    """It is made at the first start, writable, and there at the next."""
    prefix = f"egt{uuid.uuid4().hex[:8]}"
    home = {"type": "volume", "source": f"{prefix}-{{username}}", "target": "/home/jovyan"}
    scratch = {"type": "tmpfs", "target": "/scratch", "size": "16m"}
    site.add("homes", volumes=[home, scratch])
    user = site.gateway.username
    try:
        site.run("homes", "open('note', 'w').write('kept'); open('/scratch/x', 'w').write('x')")
        size = "import os; s = os.statvfs('/scratch'); print(s.f_blocks * s.f_frsize)"
        assert site.run("homes", size) == f"{16 << 20}\n"
        assert site.run("homes", "print(open('note').read())") == "kept\n"
        names = [volume.name for volume in engine.volumes.list(filters={"name": prefix})]
        assert names == [f"{prefix}-{user}"]
        other = {"KERNEL_USERNAME": f"{user}b"}
        code = "import os; print(os.path.exists('note'))"
        assert site.run("homes", code, other) == "False\n"
    finally:
        site.gateway.delete_all_kernels()
        for volume in engine.volumes.list(filters={"name": prefix}):
            volume.remove(force=True)


def test_folder_of_the_host_is_mounted_only_from_an_allowed_root(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    """A link that leads out of it is found, as the gateway is on the engine's own host."""
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "note").write_text("from the host")
    (root / "out").symlink_to("/etc")
    with running(
        tmp_path,
        engine,
        EG_ALLOWED_VOLUME_ROOTS=str(root),
        EG_REQUEST_VOLUMES=",".join(f"bind:{root}/{name}:ro" for name in ("a", "out", "none")),
    ) as site:
        bind = {"type": "bind", "source": f"{root}/a", "target": "/data", "read_only": True}
        site.add("bound", volumes=[bind])
        note = "print(open('/data/note').read())"
        assert site.run("bound", note) == "from the host\n"
        for name, source in {"linked": root / "out", "other": Path("/etc")}.items():
            site.add(name, volumes=[{**bind, "source": str(source)}])
            status, message = site.refusal(name)
            assert (status, "olume" in message) == (500, True), message

        def asked(path: Path | str) -> dict[str, str]:
            place = {"name": "x", "mountPath": "/data", "readOnly": True}
            return {
                "KERNEL_VOLUMES": json.dumps([{"name": "x", "hostPath": {"path": str(path)}}]),
                "KERNEL_VOLUME_MOUNTS": json.dumps([place]),
            }

        assert site.run("python_docker", note, asked(root / "a")) == "from the host\n"
        (root / "a" / "b").mkdir()
        for path in (root / "out", root / "none", root / "a" / "b", f"{root}/../x", "/etc"):
            status, message = site.refusal("python_docker", asked(path))
            assert status == 403, message


def test_secret_of_a_container_is_a_file_that_it_can_only_read(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    """As in a service; nothing of it is in the environment, and one that is missing is named."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    with running(tmp_path, engine, EG_SECRETS_FOLDER=str(folder)) as site:
        secret = folder / f"key-{site.gateway.username}"
        secret.write_text("opens all")
        secret.chmod(0o666)
        site.add("trusted", secrets=[{"source": "key-{username}", "target": "key"}])
        assert site.run("trusted", READ_SECRET) == "opens all Read-only file system False\n"
        site.add("mistaken", secrets=[{"source": "none"}])
        status, message = site.refusal("mistaken")
        assert (status, f"{folder}/none" in message) == (500, True), message


def test_socket_of_the_engine_is_refused(tmp_path: Path, engine: docker.DockerClient) -> None:
    """Its folder, too, even where the operator allows the folder."""
    with running(
        tmp_path, engine, EG_ALLOWED_VOLUME_ROOTS="/run,/var/run", DOCKER_HOST=engine_host()
    ) as site:
        for number, source in enumerate(
            ["/var/run/docker.sock", "/run", engine_host().removeprefix("unix://")]
        ):
            volume = {"type": "bind", "source": source, "target": "/engine"}
            site.add(f"engine{number}", volumes=[volume])
            status, message = site.refusal(f"engine{number}")
            assert (status, "socket of a container engine" in message) == (500, True), message


def test_request_mounts_nothing_by_default(site: Site) -> None:
    """The client learns which setting says so."""
    env = {
        "KERNEL_VOLUMES": '[{"name": "x", "persistentVolumeClaim": {"claimName": "x"}}]',
        "KERNEL_VOLUME_MOUNTS": '[{"name": "x", "mountPath": "/data"}]',
    }
    status, message = site.refusal("python_docker", env)
    assert status == 403
    assert "EG_REQUEST_VOLUMES" in message


def test_script_that_ignores_the_sandbox_is_not_run(site: Site) -> None:
    """An older copy of the launch script would start the kernel without its volumes."""
    volume = {"type": "tmpfs", "target": "/scratch"}
    site.add("old", volumes=[volume])
    folder = site.gateway.home / "share/jupyter/kernels"
    script = folder / "old_launch.py"
    text = (folder / "python_docker/scripts/launch_docker.py").read_text()
    script.write_text(text.replace("EG_SANDBOX", "EG_OTHER"))
    spec = json.loads((folder / "old/kernel.json").read_text())
    spec["argv"] = [
        str(script) if part.endswith("launch_docker.py") else part for part in spec["argv"]
    ]
    (folder / "old/kernel.json").write_text(json.dumps(spec))
    status, message = site.refusal("old")
    assert status == 500
    assert "does not apply EG_SANDBOX" in message


def test_network_of_a_kernel_is_the_kernelspecs(
    tmp_path: Path, networks: dict[str, str], engine: docker.DockerClient
) -> None:
    """Its gateway reaches it there; without a way out no name server answers either."""
    with running(tmp_path, engine, EG_INTERNAL_NETWORK=networks["internal"]) as site:
        for stated, name, dns in (
            ("none", networks["internal"], ["127.0.0.1"]),
            ("internal", networks["internal"], []),
            (networks["other"], networks["other"], []),
            ("default", "bridge", []),
        ):
            spec = f"with_{stated}"
            site.add(spec, network=stated)
            kernel_id = site.gateway.start_kernel(spec)
            assert site.gateway.connect(kernel_id).execute("print(1)").stdout == "1\n"
            container = site.container(kernel_id)
            assert list(container["NetworkSettings"]["Networks"]) == [name]
            assert (container["HostConfig"]["Dns"] or []) == dns


@pytest.mark.parametrize("network", ["default", "other"])
def test_metadata_service_of_a_cloud_is_out_of_reach(
    networks: dict[str, str], site: Site, network: str
) -> None:
    """On Docker's own network and on another, for any number of kernels, which work as ever."""
    site.add("kernel", network=networks.get(network, network))
    first, second = (site.gateway.start_kernel("kernel") for _ in range(2))
    for kernel_id in (first, second, first):
        shown = site.gateway.connect(kernel_id).execute(ROUTES).stdout
        assert shown == "True True False "
    site.add("open", network=networks.get(network, network), security={"block_metadata": False})
    assert site.run("open", ROUTES) == "False False False "


def test_internal_network_with_a_way_out_is_refused(
    tmp_path: Path, networks: dict[str, str], engine: docker.DockerClient
) -> None:
    """A kernelspec that says `none` means it."""
    with running(tmp_path, engine, EG_INTERNAL_NETWORK=networks["other"]) as site:
        site.add("none", network="none")
        status, message = site.refusal("none")
        assert (status, "has a way out" in message) == (500, True), message


def engine_host() -> str:
    """Return the engine's address."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
