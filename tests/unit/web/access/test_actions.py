"""The actions and resources that authorizers are asked about."""

import pytest

from enterprise_gateway.web.access.actions import Action, classify


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api", (Action.READ, "api")),
        ("GET", "/api/status", (Action.READ, "api")),
        ("PATCH", "/api/me", (Action.WRITE, "api")),
        ("GET", "/api/kernels", (Action.READ, "kernels")),
        ("HEAD", "/api/kernels/{id}", (Action.READ, "kernels")),
        ("POST", "/api/kernels", (Action.WRITE, "kernels")),
        ("DELETE", "/api/kernels/{id}", (Action.WRITE, "kernels")),
        ("POST", "/api/kernels/{id}/interrupt", (Action.WRITE, "kernels")),
        ("GET", "/api/kernels/{id}/channels", (Action.EXECUTE, "kernels")),
        ("POST", "/api/kernels/{kernel_id}/execute", (Action.EXECUTE, "kernels")),
        ("GET", "/api/kernels/{kernel_id}/executions", (Action.READ, "kernels")),
        ("GET", "/api/kernels/{kernel_id}/executions/{msg_id}", (Action.EXECUTE, "kernels")),
        ("POST", "/api/kernels/{kernel_id}/executions/{msg_id}/input", (Action.EXECUTE, "kernels")),
        ("GET", "/api/kernelspecs/{name}", (Action.READ, "kernelspecs")),
        ("GET", "/kernelspecs/{name}/{path}", (Action.READ, "kernelspecs")),
        ("PATCH", "/api/sessions/{id}", (Action.WRITE, "sessions")),
        ("GET", "/metrics", (Action.READ, "api")),
    ],
)
def test_request_is_an_action_on_a_resource(
    method: str, path: str, expected: tuple[Action, str]
) -> None:
    """Authorizers get jupyter_server's names."""
    assert classify(method, path) == expected
