"""An application that sees nothing of the user's, and leaves logging as it was."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enterprise_gateway.app import EnterpriseGatewayApp
from enterprise_gateway.app.commands.kernels import KernelListApp, KernelsApp, KernelStopApp

MakeApp = Callable[..., EnterpriseGatewayApp]


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables and no files of the user who runs the tests."""
    for name in tuple(os.environ):
        if name.startswith(("EG_", "KG_", "DOCKER_", "JUPYTER", "REMOVE_")):
            monkeypatch.delenv(name)
    for kind in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        monkeypatch.setenv(f"JUPYTER_{kind}", str(tmp_path / kind.lower()))
    monkeypatch.setenv("JUPYTER_NO_CONFIG_PATH", "1")
    monkeypatch.setenv("LOGNAME", "ann")


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Put the loggers back that an application takes over."""
    loggers = [logging.getLogger(name) for name in (None, "enterprise_gateway")]
    before = [(each, each.level, each.propagate, tuple(each.handlers)) for each in loggers]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers
    for app in (EnterpriseGatewayApp, KernelsApp, KernelListApp, KernelStopApp):
        app.clear_instance()
        logging.getLogger(app.__name__).handlers.clear()


@pytest.fixture
def make_app(clean_environment: None, untouched_logging: None) -> MakeApp:
    """Make an application from a command line."""
    del clean_environment, untouched_logging

    def make(*argv: str) -> EnterpriseGatewayApp:
        app = EnterpriseGatewayApp()
        app.initialize(list(argv))
        return app

    return make


@pytest.fixture
def config_file(tmp_path: Path, clean_environment: None) -> Path:
    """Where the application looks for its configuration file."""
    del clean_environment
    folder = tmp_path / "config_dir"
    folder.mkdir()
    return folder / "jupyter_enterprise_gateway_config.py"
