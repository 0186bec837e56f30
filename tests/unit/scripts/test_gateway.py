"""What scripts/run tells its user."""

from pathlib import Path

from bringup.gateway import AVAILABLE, banner, keep_token


def test_keep_token_is_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    """Clients that know it go on after a restart."""
    file = tmp_path / "token"
    token = keep_token(file)
    assert len(token) >= 32
    assert keep_token(file) == token
    assert file.stat().st_mode & 0o077 == 0


def test_banner_has_the_address_and_a_line_to_paste() -> None:
    """The token goes by the environment: an argument could be seen by all users."""
    text = banner("http://127.0.0.1:8888/base/", "abc")
    assert "http://127.0.0.1:8888/base/?token=abc\n" in text
    assert (
        "JUPYTER_GATEWAY_AUTH_TOKEN=abc jupyter lab --gateway-url=http://127.0.0.1:8888/base\n"
        in text
    )


def test_banner_without_authentication_names_no_token() -> None:
    """An empty token is not shown as one."""
    assert "oken" not in banner("http://127.0.0.1:8888/", "")


def test_available_line_of_the_gateway_is_recognised() -> None:
    """As the gateway logs it once it listens."""
    line = "[I 2026-01-02 03:04:05.678 App] Enterprise Gateway 1.0 is available at http://h:1/"
    match = AVAILABLE.search(line)
    assert match is not None
    assert match[1] == "http://h:1/"
