"""Which texts are image names, and which images have an agent."""

import pytest

from enterprise_gateway.services.processproxies.engine.images import (
    canonical_name,
    has_agent,
    is_image_name,
    is_in_no_registry,
    registry_of,
)


@pytest.mark.parametrize(
    "name",
    [
        "debian",
        "debian:bookworm-slim",
        "localhost/enterprise-gateway/kernel-py:0.1.0",
        "registry.example.org:5000/team/a_b-c.d:V1_2",
        f"registry.example.org/a@sha256:{'a' * 64}",
        f"sha256:{'a' * 64}",
        "a" * 64,
        "localhost/kernel",
        "registry:5000/kernel",
        "Registry.Example.org/kernel:latest",
        "a.b/c__d---e",
        f"{'a' * 255}:{'t' * 128}@sha512:{'0' * 128}",
    ],
)
def test_image_names_can_be_asked_for(name: str) -> None:
    """With a registry, a tag, a digest, or by their id."""
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "../containers", "a/../../swarm", "a//b", "a?x=1", "a b", "-x", "a/", "a#b", "a%2e"),
        *(
            "A",
            "A/b",
            "a/B",
            "a:",
            "a:t:u",
            "a:-t",
            f"a:{'t' * 129}",
            "a@",
            "a@sha256:zz",
            "a.",
            "a..b",
        ),
        *(
            f"a@sha256:{'a' * 63}",
            f"a@sha256:{'A' * 64}",
            f"a@md5:{'a' * 32}",
            "a___b",
            "a\n",
            "\na",
        ),
        *(
            "a" * 256,
            "a" * 100_000,
            "a." * 50_000,
            "http://a/b",
            "$(a)",
            "ä",
            "@sha256:" + "a" * 64,
        ),
    ],
)
def test_other_names_lead_nowhere_on_the_engine(name: str) -> None:
    """Users choose them."""
    assert not is_image_name(name)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"enterprise-gateway.agent": "1"}, True),
        ({"enterprise-gateway.agent": ""}, False),
        ({"other": "1"}, False),
        ({}, False),
    ],
)
def test_agent_is_known_by_its_label(labels: dict[str, str], *, expected: bool) -> None:
    """An image derived from ours without the agent has an empty label."""
    assert has_agent(labels) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost/enterprise-gateway/kernel-py:0.1.0", True),
        ("localhost/science", True),
        ("localhost:5000/enterprise-gateway/kernel-py:0.1.0", False),
        ("localhost.example.org/a", False),
        ("enterprise-gateway/kernel-py:0.1.0", False),
    ],
)
def test_images_of_localhost_are_in_no_registry(name: str, *, expected: bool) -> None:
    """With a port, localhost is a registry."""
    assert is_in_no_registry(name) is expected


@pytest.mark.parametrize(
    ("name", "canonical", "registry"),
    [
        ("debian", "docker.io/library/debian:latest", "docker.io"),
        ("team/kernel:1", "docker.io/team/kernel:1", "docker.io"),
        ("docker.io/library/debian:latest", "docker.io/library/debian:latest", "docker.io"),
        ("registry:5000/kernel", "registry:5000/kernel:latest", "registry:5000"),
        ("localhost:1/a/b:2", "localhost:1/a/b:2", "localhost:1"),
        (
            f"registry.example.org/a@sha256:{'a' * 64}",
            f"registry.example.org/a@sha256:{'a' * 64}",
            "registry.example.org",
        ),
    ],
)
def test_names_of_one_image_are_the_same_pull(name: str, canonical: str, registry: str) -> None:
    """As the docker command completes them."""
    assert canonical_name(name) == canonical
    assert registry_of(name) == registry
