"""The installed kernelspecs."""

import json
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from enterprise_gateway.errors import NotFoundError, UnavailableError
from enterprise_gateway.services.kernelspecs.kernelspecs import Kernelspecs
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.settings import DockerSettings, KernelSettings, LiveSettings, Settings


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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder with kernelspecs."""
    monkeypatch.setattr(
        "enterprise_gateway.services.kernelspecs.kernelspecs.jupyter_path",
        lambda name: [str(tmp_path / name)],
    )
    return tmp_path / "kernels"


def install(folder: Path, name: str, **changes: Any) -> Path:
    """Write a kernelspec."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    content = {"argv": ["python"], "display_name": name, "language": "python", **changes}
    (target / "kernel.json").write_text(json.dumps(content))
    return target


def make(*, answers: bool = True, **changes: Any) -> Kernelspecs:
    """Return the kernelspecs under settings without the native kernel."""
    settings = KernelSettings(ensure_native_kernel=False, **changes)
    return Kernelspecs(LiveSettings(Settings(kernels=settings)), Engine(answers=answers))


async def test_names_are_lower_case_and_found_in_any_case(folder: Path) -> None:
    """R_docker is r_docker, and both ways of writing it find it."""
    install(folder, "R_docker")
    specs = make()
    assert list(await specs.all()) == ["r_docker"]
    assert (await specs.get("R_DOCKER")).name == "r_docker"


async def test_unknown_kernelspecs_are_not_found(folder: Path) -> None:
    """The message is the one that clients of Jupyter know."""
    install(folder, "a")
    with pytest.raises(NotFoundError, match="Kernel spec b not found"):
        await make().get("b")


async def test_allowed_kernels_apply_to_every_way_of_getting_one(folder: Path) -> None:
    """What is not allowed can neither be listed nor got, and so not be started."""
    install(folder, "a")
    install(folder, "b")
    specs = make(allowed_kernels=frozenset({"A"}))
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
        '{"argv": ["x"], "interrupt_mode": "telepathy"}',
        '{"argv": ["x"], "metadata": {"process_proxy": {"class_name": 7}}}',
    ],
)
async def test_faulty_kernelspecs_are_left_out(
    folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are there, and the log says what is wrong with this one, once."""
    install(folder, "good")
    (install(folder, "bad") / "kernel.json").write_text(content)
    specs = make()
    assert list(await specs.all()) == ["good"]
    assert list(await specs.all()) == ["good"]
    assert len([line for line in caplog.messages if "is left out" in line]) == 1


async def test_changes_are_seen_at_once(folder: Path) -> None:
    """Adding, editing and removing a kernelspec needs no restart of the gateway."""
    specs = make()
    assert await specs.all() == {}
    path = install(folder, "a", display_name="one")
    assert (await specs.get("a")).spec.display_name == "one"
    install(folder, "a", display_name="another")
    assert (await specs.get("a")).spec.display_name == "another"
    (path / "logo-64x64.png").write_bytes(b"png")
    assert (await specs.get("a")).resource_names == ("logo-64x64.png",)
    (path / "kernel.json").unlink()
    assert await specs.all() == {}


async def test_the_first_folder_wins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernelspecs of one name: that of the earlier folder, as in Jupyter."""
    install(folder, "a", display_name="first")
    install(tmp_path / "second", "A", display_name="second")
    monkeypatch.setattr(
        "enterprise_gateway.services.kernelspecs.kernelspecs.jupyter_path",
        lambda _name: [str(folder), str(tmp_path / "missing"), str(tmp_path / "second")],
    )
    assert (await make().get("a")).spec.display_name == "first"


@pytest.mark.parametrize("name", ["with space", "ümlaut", "semi;colon"])
async def test_impossible_names_are_left_out(folder: Path, name: str) -> None:
    """A name that no client could ask for is not listed."""
    install(folder, name)
    assert await make().all() == {}


async def test_native_kernel_is_offered_if_python3_is_not_installed(folder: Path) -> None:
    """With ipykernel at hand there is always a python3, unless that is switched off."""
    live = LiveSettings(Settings())
    assert (await Kernelspecs(live, Engine(answers=True)).get("python3")).spec.argv[1] == "-m"
    install(folder, "python3", display_name="mine")
    mine = await Kernelspecs(live, Engine(answers=True)).get("python3")
    assert mine.spec.display_name == "mine"
    (folder / "python3" / "kernel.json").unlink()
    assert "python3" not in await make().all()


async def test_default_is_the_container_kernel_where_an_engine_answers(folder: Path) -> None:
    """python_docker with an engine, python3 without, the operator's choice before both."""
    assert await make().default_name() == "python3"
    install(folder, "python_docker")
    assert await make().default_name() == "python_docker"
    assert await make(answers=False).default_name() == "python3"
    assert await make(default_kernel_name="Mine").default_name() == "mine"


async def test_default_is_the_container_kernel_while_its_engine_is_away(folder: Path) -> None:
    """An engine that has answered, or is named in the settings, will be back."""
    install(folder, "python_docker")
    engine = Engine(answers=True)
    specs = Kernelspecs(LiveSettings(Settings()), engine)
    assert await specs.default_name() == "python_docker"
    engine.answers = False
    assert await specs.default_name() == "python_docker"
    named = Settings(docker=DockerSettings(host="tcp://docker:2375"))
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
    specs = await make().all()
    jupyter = KernelSpecManager(ensure_native_kernel=False).find_kernel_specs()
    assert {name: str(spec.resource_dir) for name, spec in specs.items()} == jupyter
    assert specs["both"].spec.display_name == "first"
