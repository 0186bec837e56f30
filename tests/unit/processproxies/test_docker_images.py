"""What is taken for an image, and for an agent in it."""

import pytest

from enterprise_gateway.services.processproxies.docker_images import has_agent, is_image_name


@pytest.mark.parametrize(
    "name",
    [
        "debian",
        "debian:bookworm-slim",
        "enterprise-gateway/kernel-py:0.1.0",
        "registry.example.org:5000/team/a_b-c.d:V1_2",
        f"registry.example.org/a@sha256:{'a' * 64}",
        f"sha256:{'a' * 64}",
    ],
)
def test_image_names_can_be_asked_for(name: str) -> None:
    """With a registry, a tag, a digest, or by their id."""
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "../containers", "a/../../swarm", "a//b", "a?x=1", "a b", "-x", "a/", "a#b", "a%2e"],
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
    """Who takes it out of an image of ours says so by an empty one."""
    assert has_agent(labels) is expected
