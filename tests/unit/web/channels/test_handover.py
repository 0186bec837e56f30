"""What a load balancer is told of an agent, and which one is told."""

import pytest

from enterprise_gateway.errors import ForbiddenError
from enterprise_gateway.services.processproxies.contract import AgentEndpoint
from enterprise_gateway.web.channels.handover import describe_agent, is_balancer


def test_requests_without_a_secret_are_those_of_clients() -> None:
    """Whether or not the gateway has one."""
    assert not is_balancer({}, "")
    assert not is_balancer({}, "secret")


def test_balancer_is_known_by_its_secret() -> None:
    """By the whole of it."""
    assert is_balancer({"X-EG-Balancer": "secret"}, "secret")


@pytest.mark.parametrize("given", ["", "secre", "secrets", "sécret", "\udcff"])
@pytest.mark.parametrize("secret", ["", "secret"])
def test_wrong_secret_is_refused(given: str, secret: str) -> None:
    """The answer says what the operator has to do, and not what the secret is."""
    with pytest.raises(ForbiddenError, match="EG_BALANCER_SECRET_FILE") as failure:
        is_balancer({"X-EG-Balancer": given}, secret)
    assert "secret'" not in str(failure.value)


@pytest.mark.parametrize(
    ("host", "address"), [("10.0.0.7", "10.0.0.7:8898"), ("fd00::7", "[fd00::7]:8898")]
)
def test_balancer_is_told_address_target_and_authorization(host: str, address: str) -> None:
    """All that it needs to make the agent's upgrade request."""
    assert describe_agent(AgentEndpoint(host, 8898), "/v1/channels", "token") == {
        "X-EG-Agent-Address": address,
        "X-EG-Agent-Target": "/v1/channels",
        "X-EG-Agent-Authorization": "Bearer token",
    }


def test_agent_at_a_unix_socket_is_not_handed_over() -> None:
    """No balancer in another container could connect to it."""
    assert describe_agent(AgentEndpoint(unix_path="/run/a"), "/v1/channels", "token") == {}
