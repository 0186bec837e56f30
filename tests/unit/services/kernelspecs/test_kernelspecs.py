"""The installed kernelspecs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from enterprise_gateway.app.process import find_host
from enterprise_gateway.errors import ConfigurationError, NotFoundError, UnavailableError
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.registry import LOCAL_PROCESS_PROXY
from enterprise_gateway.settings import (
    DockerSettings,
    HostSettings,
    IdentitySettings,
    KernelSettings,
    LiveSettings,
    ServerSettings,
    Settings,
)


class Engine:
    """Stands for all process proxies; only `check` is asked."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def get(self, class_name: str) -> Any:
        """Return itself, whatever is asked for."""
        del class_name
        return self

    def all(self) -> list[BaseProcessProxyABC]:
        """Return nothing."""
        return []

    async def check(self) -> None:
        """Answer or not."""
        if not self.answers:
            raise UnavailableError("no engine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The one folder with kernelspecs."""
    return tmp_path / "kernels"


def install(folder: Path, name: str, **changes: Any) -> Path:
    """Write a kernelspec."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    content = {"argv": ["python"], "display_name": name, "language": "python", **changes}
    (target / "kernel.json").write_text(json.dumps(content))
    return target


def make(*folders: Path, answers: bool = True, **changes: Any) -> Kernelspecs:
    """Return the kernelspecs under settings without the native kernel."""
    settings = KernelSettings(ensure_native_kernel=False, **changes)
    live = LiveSettings(Settings(kernels=settings, host=host(*folders)))
    return Kernelspecs(live, Engine(answers=answers))


def host(*folders: Path) -> HostSettings:
    """Return a machine on which Jupyter finds kernelspecs in these folders."""
    return HostSettings(kernelspec_folders=folders)


async def test_names_are_lower_case_and_found_in_any_case(folder: Path) -> None:
    """R_docker is r_docker, and both ways of writing it find it."""
    install(folder, "R_docker")
    specs = make(folder)
    assert list(await specs.all()) == ["r_docker"]
    assert (await specs.get("R_DOCKER")).name == "r_docker"


async def test_unknown_kernelspecs_are_not_found(folder: Path) -> None:
    """The message is the one that clients of Jupyter know."""
    install(folder, "a")
    with pytest.raises(NotFoundError, match="Kernel spec b not found"):
        await make(folder).get("b")


async def test_allowed_kernels_apply_to_every_way_of_getting_one(folder: Path) -> None:
    """Other kernelspecs can neither be listed nor requested, and so not be started."""
    install(folder, "a")
    install(folder, "b")
    specs = make(folder, allowed_kernels=frozenset({"A"}))
    assert list(await specs.all()) == ["a"]
    with pytest.raises(NotFoundError):
        await specs.get("b")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"argv": []}',
        '{"argv": "python"}',
        '{"argv": ["x"], "env": {"A": 1}}',
        '{"argv": ["x"], "env": {"A=B": "1"}}',
        '{"argv": ["x"], "env": {"": "1"}}',
        '{"argv": ["x"], "env": {"A": "1\\u0000"}}',
        '{"argv": ["x\\u0000"]}',
        '{"argv": ["x"], "interrupt_mode": "telepathy"}',
        '{"argv": ["x"], "metadata": {"process_proxy": {"class_name": 7}}}',
        '{"argv": ["x"], "metadata": {"x": ' + "[" * 10_000,
    ],
)
async def test_faulty_kernelspecs_are_left_out(
    folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are there, and the log says what is wrong with this one, once."""
    install(folder, "good")
    (install(folder, "bad") / "kernel.json").write_text(content)
    specs = make(folder)
    assert list(await specs.all()) == ["good"]
    assert list(await specs.all()) == ["good"]
    assert len([line for line in caplog.messages if "is left out" in line]) == 1


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"kernel_provisioner": {"provisioner_name": "k8s-provisioner"}}, "k8s-provisioner"),
        ({"process_proxy": {"class_name": 7}}, "class_name"),
    ],
)
async def test_faulty_kernelspec_says_why_to_those_who_ask_for_it(
    folder: Path, metadata: dict[str, Any], says: str
) -> None:
    """It is not simply missing, and its clients get no local process instead."""
    install(folder, "bad", metadata=metadata)
    specs = make(folder)
    assert await specs.all() == {}
    with pytest.raises(ConfigurationError, match=says):
        await specs.get("bad")
    install(folder, "bad", metadata={})
    assert (await specs.get("bad")).proxy_class == LOCAL_PROCESS_PROXY


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernel_provisioner": {"provisioner_name": "local-provisioner"}},
        {"kernel_provisioner": {"provisioner_name": "x"}, "process_proxy": {"class_name": "a.B"}},
    ],
)  # fmt: skip
async def test_provisioner_may_stand_beside_a_process_proxy(
    folder: Path, metadata: dict[str, Any]
) -> None:
    """A kernelspec may serve other servers as well."""
    install(folder, "a", metadata=metadata)
    await make(folder).get("a")


async def test_python_is_the_native_kernel_unless_a_kernelspec_is_called_so(folder: Path) -> None:
    """As in jupyter_client, whose name for it old notebooks carry."""
    install(folder, "python3")
    specs = make(folder, default_kernel_name="Python")
    assert (await specs.get("python")).name == "python3"
    assert (await specs.get("PYTHON")).name == "python3"
    assert await specs.default_name() == "python3"
    install(folder, "python")
    assert (await specs.get("python")).name == "python"
    assert await specs.default_name() == "python"


@pytest.mark.parametrize(("uid", "ip", "warns"), [
    (0, "127.0.0.1", True), (1000, "0.0.0.0", True), (1000, "", True), (1000, "127.0.0.1", False),
])  # fmt: skip
async def test_operator_is_warned_of_kernels_that_are_the_gateways_user(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    ip: str,
    *,
    warns: bool,
) -> None:
    """Where others than this very user may start them, or the user is root."""
    monkeypatch.setattr("os.getuid", lambda: uid)
    install(folder, "local")
    install(folder, "container", metadata={"process_proxy": {"class_name": "x.Proxy"}})
    settings = Settings(
        server=ServerSettings(ip=ip),
        kernels=KernelSettings(ensure_native_kernel=False),
        host=host(folder),
    )
    await Kernelspecs(LiveSettings(settings), Engine(answers=True)).report_local_kernels()
    assert [("of local are" in line) for line in caplog.messages] == [True] * warns
    caplog.clear()
    for allowed in ({"container"}, {"container", "local"}):  # the operator has decided
        kernels = dataclasses.replace(settings.kernels, allowed_kernels=frozenset(allowed))
        decided = dataclasses.replace(settings, kernels=kernels)
        await Kernelspecs(LiveSettings(decided), Engine(answers=True)).report_local_kernels()
    assert caplog.messages == []


@pytest.mark.parametrize(
    "identity",
    [
        {"user_tokens_file": "/tokens.json"},
        {"jupyterhub_api_url": "http://hub"},
        {"oidc_issuer": "http://issuer"},
        {"certificate_username": "dns"},
        {"proxy_user_header": "X-Forwarded-User"},
    ],
)
async def test_local_kernels_are_not_offered_to_known_users(
    folder: Path, caplog: pytest.LogCaptureFixture, identity: dict[str, str]
) -> None:
    """Unless the operator names them; the log says which they are."""
    caplog.set_level("INFO")
    install(folder, "local")
    install(folder, "container", metadata={"process_proxy": {"class_name": "x.Proxy"}})
    settings = Settings(identity=IdentitySettings(**identity), host=host(folder))
    specs = Kernelspecs(LiveSettings(settings), Engine(answers=True))
    assert list(await specs.all()) == ["container"]
    for name in ("local", "python3"):
        with pytest.raises(NotFoundError):
            await specs.get(name)
    await specs.report_local_kernels()
    (line,) = caplog.messages
    assert "of local, python3 are" in line
    assert "EG_ALLOWED_KERNELS" in line

    allowed = KernelSettings(allowed_kernels=frozenset({"local", "container"}))
    decided = dataclasses.replace(settings, kernels=allowed)
    specs = Kernelspecs(LiveSettings(decided), Engine(answers=True))
    assert set(await specs.all()) == {"local", "container"}
    caplog.clear()
    await specs.report_local_kernels()
    assert caplog.messages == []


async def test_changes_are_seen_at_once(folder: Path) -> None:
    """Adding, editing and removing a kernelspec needs no restart of the gateway."""
    specs = make(folder)
    assert await specs.all() == {}
    path = install(folder, "a", display_name="one")
    assert (await specs.get("a")).spec.display_name == "one"
    install(folder, "a", display_name="another")
    assert (await specs.get("a")).spec.display_name == "another"
    (path / "logo-64x64.png").write_bytes(b"png")
    assert (await specs.get("a")).resource_names == ("logo-64x64.png",)
    (path / "kernel.json").unlink()
    assert await specs.all() == {}


async def test_the_first_folder_wins(folder: Path, tmp_path: Path) -> None:
    """Two kernelspecs of one name: that of the earlier folder, as in Jupyter."""
    install(folder, "a", display_name="first")
    install(tmp_path / "second", "A", display_name="second")
    specs = make(folder, tmp_path / "missing", tmp_path / "second")
    assert (await specs.get("a")).spec.display_name == "first"


@pytest.mark.parametrize("name", ["with space", "ümlaut", "semi;colon"])
async def test_impossible_names_are_left_out(folder: Path, name: str) -> None:
    """A name that no client could ask for is not listed."""
    install(folder, name)
    assert await make(folder).all() == {}


async def test_native_kernel_is_offered_if_python3_is_not_installed(folder: Path) -> None:
    """With ipykernel at hand there is always a python3, unless that is switched off."""
    live = LiveSettings(Settings(host=host(folder)))
    assert (await Kernelspecs(live, Engine(answers=True)).get("python3")).spec.argv[1] == "-m"
    install(folder, "python3", display_name="mine")
    mine = await Kernelspecs(live, Engine(answers=True)).get("python3")
    assert mine.spec.display_name == "mine"
    (folder / "python3" / "kernel.json").unlink()
    assert "python3" not in await make(folder).all()


async def test_default_is_the_container_kernel_where_an_engine_answers(folder: Path) -> None:
    """python_docker with an engine, python3 without, the operator's choice before both."""
    assert await make(folder).default_name() == "python3"
    install(folder, "python_docker")
    assert await make(folder).default_name() == "python_docker"
    assert await make(folder, answers=False).default_name() == "python3"
    assert await make(folder, default_kernel_name="Mine").default_name() == "mine"


async def test_default_is_the_container_kernel_while_its_engine_is_away(folder: Path) -> None:
    """An engine that has answered, or is named in the settings, will be back."""
    install(folder, "python_docker")
    engine = Engine(answers=True)
    specs = Kernelspecs(LiveSettings(Settings(host=host(folder))), engine)
    assert await specs.default_name() == "python_docker"
    engine.answers = False
    assert await specs.default_name() == "python_docker"
    named = Settings(docker=DockerSettings(host="tcp://docker:2375"), host=host(folder))
    assert await Kernelspecs(LiveSettings(named), engine).default_name() == "python_docker"


async def test_the_same_are_found_as_jupyter_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, folders and precedence are those of `jupyter kernelspec list`."""
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("JUPYTER_PATH", f"{first}:{second}")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    install(first / "kernels", "both", display_name="first")
    install(second / "kernels", "both", display_name="second")
    install(second / "kernels", "Upper_Case")
    install(second / "kernels", "dots.and-dashes_1")
    (second / "kernels" / "empty").mkdir()
    specs = await make(*find_host().kernelspec_folders).all()
    jupyter = KernelSpecManager(ensure_native_kernel=False).find_kernel_specs()
    assert {name: str(spec.resource_dir) for name, spec in specs.items()} == jupyter
    assert specs["both"].spec.display_name == "first"
