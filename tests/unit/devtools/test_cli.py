"""The command line of the scripts."""

import argparse
import os
import signal

import pytest

import cli


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it leaves through the code that ends the programs which it started."""
    ended = False

    def act(_options: argparse.Namespace, _rest: list[str]) -> int:
        nonlocal ended
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 10)
        finally:
            ended = True
        return 0

    parser = argparse.ArgumentParser()
    parser.set_defaults(act=act)
    monkeypatch.setattr(cli, "parser", lambda: parser)
    monkeypatch.setattr("sys.argv", ["scripts"])
    former = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main() == 130
    finally:
        signal.signal(signal.SIGTERM, former)
    assert ended
