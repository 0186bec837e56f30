"""Which image a client may choose."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.kernels.planning.images import check_image
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.processproxies.launch.environment import DEFAULT_IMAGE
from enterprise_gateway.settings import DockerSettings, Settings

DIGEST = "sha256:" + "0" * 64
OTHER_DIGEST = "sha256:" + "1" * 64


def make_spec(env: dict[str, str] | None = None, **config: Any) -> Kernelspec:
    """Return a kernelspec with this environment and config."""
    content = {
        "argv": ["launch"],
        "env": env or {},
        "metadata": {"process_proxy": {"class_name": "site.Proxy", "config": config}},
    }
    return parse_kernelspec("py", Path("/specs/py"), msgspec.json.encode(content), ())


SPECS = [
    make_spec(image_name="team/py:1"),
    make_spec({"KERNEL_IMAGE": "registry.example.org:5000/team/r"}, image_name="unused/r:1"),
    make_spec(image_name=f"pinned@{DIGEST}"),
    make_spec(image_name="secret/ml:1", authorized_users=["bob"]),
    make_spec(image_name="any text"),
    make_spec(),
]


def is_allowed(image: str, *patterns: str, kernel_image: str = "") -> bool:
    """Say whether Ann may have an image."""
    docker = DockerSettings(allowed_images=patterns, kernel_image=kernel_image)
    try:
        check_image(image, "ann", SPECS, Settings(docker=docker))
    except ForbiddenError:
        return False
    return True


def test_refusal_names_the_image_and_the_setting() -> None:
    """For the client and the operator."""
    with pytest.raises(ForbiddenError, match=r"the image evil/py:1, .*EG_ALLOWED_IMAGES"):
        check_image("evil/py:1", "ann", SPECS, Settings())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("team/py:1", True),
        ("docker.io/team/py:1", True),
        ("index.docker.io/team/py:1", True),
        ("registry.example.org:5000/team/r", True),
        ("registry.example.org:5000/team/r:latest", True),
        (f"pinned@{DIGEST}", True),
        (f"pinned:any@{DIGEST}", True),
        (DEFAULT_IMAGE, True),
        ("team/py:2", False),
        ("team/py", False),
        ("team/py:1.0", False),
        (f"team/py:1@{DIGEST}", False),
        (f"team/py@{DIGEST}", False),
        ("evil/py:1", False),
        ("registry.example.org/team/py:1", False),
        ("registry.example.org/team/r", False),
        ("registry.example.org:5000/team/r:2", False),
        ("pinned", False),
        (f"pinned@{OTHER_DIGEST}", False),
        ("secret/ml:1", False),
    ],
)
def test_by_default_only_images_of_the_users_kernelspecs_are_allowed(
    image: str, *, expected: bool
) -> None:
    """Exactly these: another tag or digest is another image."""
    assert is_allowed(image) is expected


def test_image_of_the_settings_is_allowed_in_place_of_the_default_one() -> None:
    """It is what kernelspecs without an image run."""
    assert is_allowed("site/kernel:3", kernel_image="site/kernel:3")
    assert not is_allowed(DEFAULT_IMAGE, kernel_image="site/kernel:3")


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("*", ["a", "evil.example.org/x@" + DIGEST], []),
        (
            "team/*",
            ["team/a", "docker.io/team/b:2", f"team/a@{DIGEST}", "team/a/b:1"],
            ["steam/a", "teams/a", "r.example.org/team/a", "team.example.org/a"],
        ),
        (
            "r.example.org/*",
            ["r.example.org/a/b:1"],
            ["r.example.org.evil.org/a", "r.example.org:5000/a", "evil.org/r.example.org/a"],
        ),
        ("r.example.org:5000/k:1", ["r.example.org:5000/k:1"], ["r.example.org:5000/k", "k:1"]),
        ("debian", ["debian", "debian:12", "docker.io/library/debian"], ["team/debian", "debians"]),
        ("debian:*", ["debian:12", "debian"], [f"debian@{DIGEST}", f"debian:12@{DIGEST}"]),
        ("k:1.?", ["k:1.2"], ["k:1.23", "k:1"]),
        (f"k@{DIGEST}", [f"k@{DIGEST}", f"k:9@{DIGEST}"], ["k", f"k@{OTHER_DIGEST}"]),
        ("*.example.org/k", ["r.example.org/k"], ["example.org/k", "r.example.org.evil/k"]),
        ("localhost/own/*", ["localhost/own/k:1"], ["localhost:5000/own/k:1", "own/k:1"]),
    ],
)
def test_patterns_compare_registry_repository_and_tag_each_by_itself(
    pattern: str, fits: list[str], fits_not: list[str]
) -> None:
    """No part of a name can stand for another one."""
    assert [image for image in fits if not is_allowed(image, pattern)] == []
    assert [image for image in fits_not if is_allowed(image, pattern)] == []


def test_patterns_replace_the_images_of_kernelspecs() -> None:
    """The kernelspecs themselves go on using theirs: nothing is asked for."""
    assert not is_allowed("team/py:1", "other/*")


@pytest.mark.parametrize("image", ["3f2a9c1b7d4e", "cafe", "f" * 64, DIGEST, "sha256:3f2a"])
def test_name_that_may_be_an_id_fits_no_pattern_but_itself(image: str) -> None:
    """The engine finds any image that it has, also one that is not allowed, by the id's digits."""
    for pattern in ("library/*", "docker.io/*", "*/library/*", "*:*", f"{image}:*"):
        assert not is_allowed(image, pattern)
    assert not is_allowed(image, kernel_image=f"docker.io/library/{image}")
    assert is_allowed(image, image)
    assert is_allowed(image, "*")
    assert is_allowed(image, kernel_image=image)
    assert is_allowed("cafe:latest", "library/*")


def test_what_is_no_image_name_is_left_to_the_one_who_says_so() -> None:
    """400 is a better answer than 403."""
    assert is_allowed("--privileged")
