"""Dynamic configuration: puts changed configuration files in force without a restart."""

import asyncio
import logging
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import LiveSettings, Settings

_log = logging.getLogger(__name__)


class Configuration(Protocol):
    """The configuration as read from files, command line and environment."""

    @property
    def loaded_config_files(self) -> list[str]:
        """Paths of the files."""

    @property
    def dynamic_config_interval(self) -> int:
        """Seconds between two checks of the files; 0: no further check."""

    def read_again(self) -> "Configuration":
        """Read all of it again and return the result.

        Raises:
            ConfigurationError: it has a fault.
        """

    def configure_logging(self) -> None:
        """Configure logging as it states, in place of a configuration that was read later."""

    def read_settings(self, previous: Settings) -> Settings:
        """Return the settings; values that change only at a start are taken from `previous`."""


class ConfigWatcher:
    """Checks the configuration files for changes every `dynamic_config_interval` seconds.

    After a change it reads files, command line and environment again, in their order of
    precedence. A faulty file changes no setting.
    """

    def __init__(self, configuration: Configuration, live: LiveSettings) -> None:
        self._configuration = configuration
        self._live = live
        self._seen = _fingerprint(configuration.loaded_config_files)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start watching unless the interval is 0."""
        if self._configuration.dynamic_config_interval > 0:
            _log.info(
                "Configuration files are checked for changes every %d s.",
                self._configuration.dynamic_config_interval,
            )
            self._task = asyncio.create_task(self._watch(), name="configuration watch")
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _exc: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _watch(self) -> None:
        configuration = self._configuration
        while configuration.dynamic_config_interval > 0:
            await asyncio.sleep(configuration.dynamic_config_interval)
            now = _fingerprint(configuration.loaded_config_files)
            if now == self._seen:
                continue
            self._seen = now
            try:
                fresh = configuration.read_again()
                self._live.replace(fresh.read_settings(self._live.current))
            except ConfigurationError as exc:
                configuration.configure_logging()
                _log.error("The changed configuration is not used: %s", exc)
                continue
            configuration = fresh
            _log.info(
                "The changed configuration is in force: %s",
                ", ".join(configuration.loaded_config_files),
            )
        _log.warning("Dynamic configuration is now off; only a restart switches it on again.")


def _fingerprint(paths: list[str]) -> dict[str, tuple[int, int] | None]:
    return {path: _stamp(Path(path)) for path in paths}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # while an editor replaces the file
    return status.st_mtime_ns, status.st_size
