"""What a launch script of Enterprise Gateway is given, and what its last message tells."""

import signal

import pytest

from kernel_agent.eg.bootstrap import find_fatal_signal, script_environment


def test_script_finds_the_contract_in_its_environment() -> None:
    """Under both names; what the image and the user set stays."""
    env = script_environment(
        {"KERNEL_LANGUAGE": "r", "EG_PUBLIC_KEY": "the gateway's"},
        response_address="127.0.0.1:5",
        public_key="key",
        port_range=(1, 2),
    )
    assert env == {
        "KERNEL_LANGUAGE": "r",
        "RESPONSE_ADDRESS": "127.0.0.1:5",
        "EG_RESPONSE_ADDRESS": "127.0.0.1:5",
        "PUBLIC_KEY": "key",
        "EG_PUBLIC_KEY": "key",
        "PORT_RANGE": "1..2",
        "EG_PORT_RANGE": "1..2",
        "EG_LOG_LEVEL": "20",
    }


def test_chosen_log_level_stays() -> None:
    """Only the launchers' own default, which prints the key, is replaced."""
    env = script_environment(
        {"EG_LOG_LEVEL": "10"}, response_address="", public_key="", port_range=(0, 0)
    )
    assert env["EG_LOG_LEVEL"] == "10"


@pytest.mark.parametrize(
    ("stderr", "signum"),
    [
        ("/usr/local/bin/b.sh: line 28:    15 Killed                  python x --y", 9),
        ("b.sh: line 28: 15 Segmentation fault      (core dumped) python x", 11),
        ("noise\nb.sh: line 1:    15 Aborted                 python x\nmore", 6),
        ("b.sh: line 28:    16 Killed                  python x", 0),
        ("b.sh: line 28:    15 Getötet                 python x", 0),
        ("", 0),
    ],
)
def test_signal_is_read_from_what_the_shell_says(stderr: str, signum: int) -> None:
    """Of the child in question only."""
    assert find_fatal_signal(stderr, 15, out_of_memory=False) == signum


def test_death_out_of_memory_is_known_in_any_language() -> None:
    """A signal whose name is not understood was the out-of-memory killer's, if that struck."""
    stderr = "b.sh: Zeile 28:    15 Getötet                 python x"
    assert find_fatal_signal(stderr, 15, out_of_memory=True) == 0
    stderr = "b.sh: line 28:    15 Getötet                 python x"
    assert find_fatal_signal(stderr, 15, out_of_memory=True) == signal.SIGKILL
