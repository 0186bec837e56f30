"""Paths in the access log."""

import pytest

from enterprise_gateway.web.accesslog import scrub_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/kernels", "/api/kernels"),
        ("/api?token=secret", "/api"),
        ("/t/secret/api", "/t/<token>/api"),
        ("/base/t/secret/api/kernels?x=1", "/base/t/<token>/api/kernels"),
        ("/t/secret", "/t/<token>"),
        ("/%74/secret/api", "/t/<token>/api"),
        ("/part/of", "/part/of"),
    ],
)
def test_logged_path_holds_no_token(path: str, expected: str) -> None:
    """Neither a query nor the path-prefix form ends up in the log."""
    assert scrub_path(path) == expected
