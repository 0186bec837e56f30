"""`/api/kernelspecs` and the files of kernelspecs over HTTP."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service, serve_settings

from enterprise_gateway.app.commands.kernelspecs import Mode, install_kernelspecs
from enterprise_gateway.settings import LiveSettings

PNG = b"\x89PNG fake"


@pytest.fixture
async def service(engine: FakeEngine, live: LiveSettings, tmp_path: Path) -> AsyncIterator[Service]:
    """A gateway below a base URL, with three kernelspecs of its own."""
    del engine
    folder = tmp_path / "jupyter" / "kernels"
    configs = {
        "Open": {},
        "bobs": {"authorized_users": "bob,alice"},
        "notbob": {"unauthorized_users": ["bob"]},
    }
    for name, config in configs.items():
        (folder / name).mkdir(parents=True)
        content = {
            "argv": ["x"],
            "display_name": name,
            "language": "python",
            "metadata": {"process_proxy": {"class_name": "some.Class", "config": config}},
        }
        (folder / name / "kernel.json").write_text(json.dumps(content))
    (folder / "Open" / "logo-64x64.png").write_bytes(PNG)
    (folder / "Open" / "kernel.js").write_text("define({})")
    (folder / "Open" / "sub dir").mkdir()
    (folder / "Open" / "sub dir" / "a.txt").write_text("a")
    (folder / "Open" / "outside").symlink_to("/etc/hostname")
    (tmp_path / "jupyter" / "secret").write_text("hidden words")
    settings = live.current
    live.replace(
        replace(
            settings,
            server=replace(settings.server, base_url="/gw/"),
            kernels=replace(settings.kernels, ensure_native_kernel=False),
            host=replace(settings.host, kernelspec_folders=(folder,)),
        )
    )
    async with serve_settings(live) as served:
        yield served


async def test_list_has_models_and_the_default(service: Service) -> None:
    """Names are in lower case, resources have paths below the base URL."""
    answer = await service.get("/gw/api/kernelspecs")
    assert answer["default"] == "python3"
    assert set(answer["kernelspecs"]) == {"open", "bobs", "notbob"}
    model = answer["kernelspecs"]["open"]
    assert model["name"] == "open"
    assert model["spec"]["display_name"] == "Open"
    assert model["spec"]["interrupt_mode"] == "signal"
    assert model["resources"] == {
        "kernel.js": "/gw/kernelspecs/open/kernel.js",
        "logo-64x64": "/gw/kernelspecs/open/logo-64x64.png",
    }
    assert await service.get("/gw/api/kernelspecs/OPEN") == model


async def test_our_kernelspecs_are_known_in_any_case(service: Service, tmp_path: Path) -> None:
    """`R_docker`, as Enterprise Gateway's own is called, is listed as `r_docker`."""
    install_kernelspecs(tmp_path / "jupyter" / "kernels", Mode.SWARM)
    names = {
        "r_docker",
        "python_docker",
        "python_tf_docker",
        "python_tf_gpu_docker",
        "scala_docker",
    }
    listed = (await service.get("/gw/api/kernelspecs"))["kernelspecs"]
    assert names <= set(listed)
    for name in ("R_docker", "r_docker", "Scala_Docker"):
        model = await service.get(f"/gw/api/kernelspecs/{name}")
        assert model == listed[name.lower()]
        for logo in ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg"):
            assert model["resources"][logo.rpartition(".")[0]].endswith(f"{name.lower()}/{logo}")
            answer = await service.ask("GET", f"/gw/kernelspecs/{name}/{logo}")
            assert answer.status == 200


@pytest.mark.parametrize(
    ("user", "names"),
    [
        ("bob", {"open", "bobs"}),
        ("bobby", {"open", "notbob"}),
        ("b", {"open", "notbob"}),
        ("root", set()),
        ("", {"open", "notbob"}),
    ],
)
async def test_list_is_filtered_by_user(service: Service, user: str, names: set[str]) -> None:
    """A user who may not start a kernelspec does not see it; names are compared as a whole."""
    answer = await service.get(f"/gw/api/kernelspecs?user={user}")
    assert set(answer["kernelspecs"]) == names


async def test_one_kernelspec_is_refused_to_who_may_not_start_it(service: Service) -> None:
    """403 with EG's message; 404 for an unknown kernelspec."""
    answer = await service.ask("GET", "/gw/api/kernelspecs/notbob?user=bob")
    assert answer.status == 403
    assert answer.message == "User bob is not authorized to use kernel spec notbob"
    missing = await service.ask("GET", "/gw/api/kernelspecs/missing")
    assert missing.status == 404
    assert missing.message == "Kernel spec missing not found"


async def test_files_are_refused_to_who_may_not_start_the_kernelspec(service: Service) -> None:
    """Its kernel.json and scripts may hold what others are not to know."""
    for path in ("kernel.json", "missing"):
        answer = await service.ask("GET", f"/gw/kernelspecs/notbob/{path}?user=bob")
        assert answer.status == 403
        assert answer.message == "User bob is not authorized to use kernel spec notbob"
    assert (await service.ask("GET", "/gw/kernelspecs/notbob/kernel.json?user=ann")).status == 200


async def test_malformed_query_of_jupyters_gateway_client_is_understood(service: Service) -> None:
    """`?user=<user>/<name>` asks for that kernelspec, with the user's rights."""
    model = await service.get("/gw/api/kernelspecs?user=bob/bobs")
    assert model["name"] == "bobs"
    assert (await service.ask("GET", "/gw/api/kernelspecs?user=bob/notbob")).status == 403
    strange = await service.get("/gw/api/kernelspecs?user=domain/bob")
    assert "open" in strange["kernelspecs"]


async def test_files_are_served_with_validators(service: Service) -> None:
    """ETag and Last-Modified, a month for images, HEAD, and 304 for a cached file."""
    path = "/gw/kernelspecs/Open/logo-64x64.png"
    answer = await service.ask("GET", path)
    assert answer.status == 200
    assert answer.raw == PNG
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"] == "max-age=2592000"
    assert "Last-Modified" in answer.headers
    head = await service.ask("HEAD", path)
    assert head.status == 200
    assert head.raw == b""
    assert head.headers["ETag"] == answer.headers["ETag"]
    again = await service.ask("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    script = await service.ask("GET", "/gw/kernelspecs/open/kernel.js")
    assert "Cache-Control" not in script.headers
    assert (await service.ask("GET", "/gw/kernelspecs/open/sub%20dir/a.txt")).raw == b"a"


@pytest.mark.parametrize(
    "path",
    [
        "missing.png",
        "..%2F..%2Fsecret",
        "%2e%2e/%2e%2e/secret",
        "%2Fetc%2Fpasswd",
        "outside",
        "sub%20dir",
        "a%00b",
        "%ff",
        "x" * 5000,
    ],
)
async def test_files_outside_the_kernelspec_are_not_found(service: Service, path: str) -> None:
    """Neither dots, absolute paths nor links lead out of the folder."""
    answer = await service.ask("GET", f"/gw/kernelspecs/open/{path}")
    assert answer.status in {400, 404}
    assert b"hidden words" not in answer.raw
    assert "reason" in answer.body


async def test_default_kernelspec_that_is_missing_is_named(service: Service) -> None:
    """Starting the default kernel says which one is not there."""
    answer = await service.ask("POST", "/gw/api/kernels")
    assert answer.status == 404
    assert answer.message == "Kernel spec python3 not found"


async def test_location_is_below_the_base_url(service: Service) -> None:
    """The Location of a new kernel has the base URL."""
    answer = await service.ask("POST", "/gw/api/kernels", json={"name": "open"})
    assert answer.headers["Location"] == f"/gw/api/kernels/{answer.body['id']}"
    assert (await service.ask("GET", answer.headers["Location"])).status == 200
