"""Tells of credentials that were accepted and are not any more."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Revocations:
    """Those who close what a credential has opened."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the `User.credential` of each credential that is revoked."""
        self._callbacks.append(callback)

    def tell(self, credential: str) -> None:
        """Call all who have subscribed."""
        for callback in self._callbacks:
            try:
                callback(credential)
            except Exception:  # noqa: BLE001 - the others must be told, whatever it is
                _log.exception("What credential %s has opened could not be closed", credential)
