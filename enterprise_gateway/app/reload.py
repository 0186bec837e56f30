"""Dynamic configuration: watches the configuration files and puts what they say in force."""

import asyncio
import logging
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import LiveSettings, Settings

_log = logging.getLogger(__name__)


class Configuration(Protocol):
    """What was read of files, command line and environment."""

    @property
    def loaded_config_files(self) -> list[str]:
        """The files."""

    @property
    def dynamic_config_interval(self) -> int:
        """Seconds between two looks at them, 0 to look never again."""

    def read_again(self) -> "Configuration":
        """Return what they say now.

        Raises:
            ConfigurationError: one cannot be read.
        """

    def read_settings(self, previous: Settings) -> Settings:
        """Return it as settings; what is read only at start is taken from those in force."""


class Watch:
    """Looks every `dynamic_config_interval` seconds whether a loaded file changed.

    If so, all is read again, command line and environment too, so that their precedence stays. A
    file that cannot be read leaves the settings as they are.
    """

    def __init__(self, configuration: Configuration, live: LiveSettings) -> None:
        self._configuration = configuration
        self._live = live
        self._seen = _fingerprint(configuration.loaded_config_files)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start watching, if the interval says so."""
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
        return None  # an editor is replacing it
    return status.st_mtime_ns, status.st_size
