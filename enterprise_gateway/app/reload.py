"""Dynamic configuration: watches the configuration files and puts what they say in force."""

import asyncio
import logging
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import LiveSettings

if TYPE_CHECKING:
    from enterprise_gateway.app.application import EnterpriseGatewayApp

_log = logging.getLogger(__name__)


class Watch:
    """Looks every `dynamic_config_interval` seconds whether a loaded file changed.

    If so, all is read again, command line and environment too, so that their precedence stays. A
    file that cannot be read leaves the settings as they are.
    """

    def __init__(self, app: "EnterpriseGatewayApp", live: LiveSettings) -> None:
        self._app = app
        self._live = live
        self._seen = _fingerprint(app.loaded_config_files)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start watching, if the interval says so."""
        if self._app.dynamic_config_interval > 0:
            _log.info(
                "Configuration files are checked for changes every %d s.",
                self._app.dynamic_config_interval,
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
        app = self._app
        while app.dynamic_config_interval > 0:
            await asyncio.sleep(app.dynamic_config_interval)
            now = _fingerprint(app.loaded_config_files)
            if now == self._seen:
                continue
            self._seen = now
            try:
                fresh = app.read_again()
                self._live.replace(fresh.read_settings(self._live.current))
            except ConfigurationError as exc:
                _log.error("The changed configuration is not used: %s", exc)
                continue
            app = fresh
            _log.info(
                "The changed configuration is in force: %s", ", ".join(app.loaded_config_files)
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
