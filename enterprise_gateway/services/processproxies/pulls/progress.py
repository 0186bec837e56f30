"""How far a pull has come, from the messages of `POST /images/create`. Pure.

The messages are the engine's, but parts of them come from a registry that a user may have chosen:
texts, numbers and how many there are of them are limited.
"""

import re
from collections import deque

from enterprise_gateway.services.processproxies.contract import ImagePull
from enterprise_gateway.services.processproxies.engine.images import PullMessage

MAX_LAYERS = 512
"""Four times what an engine can stack."""
_MAX_ID_CHARS = 80
_MAX_BYTES = 1 << 50
_RATE_SECONDS = 5.0
"""The time over which the speed is taken."""
_SAMPLE_SECONDS = 0.25

_DONE = frozenset({"Pull complete", "Already exists"})
_FETCHED = frozenset({"Download complete", "Verifying Checksum", "Extracting"})
_BEGUN = re.compile(r"Pulling fs layer|Waiting|Downloading|Retrying in [0-9]+ seconds?")
_PREFIXES = (("B", 1), ("kB", 10**3), ("MB", 10**6), ("GB", 10**9), ("TB", 10**12))


class _Layer:
    __slots__ = ("fetched_bytes", "is_done", "is_fetched", "total_bytes")

    def __init__(self) -> None:
        self.fetched_bytes = 0
        self.total_bytes = 0
        """0 until the engine has told it."""
        self.is_fetched = False
        self.is_done = False


class PullProgress:
    """The layers of one image that is being pulled."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, _Layer] = {}
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, message: PullMessage, now: float) -> None:
        """Take a message in.

        Args:
            message: the message; one that is about no layer changes nothing.
            now: seconds on a clock that only goes forward.
        """
        status = message.status
        is_fetched = status in _FETCHED
        is_done = status in _DONE
        if not (is_fetched or is_done or _BEGUN.fullmatch(status)):
            return
        layer = self._layer(message.id)
        if layer is None:
            return
        layer.is_done = layer.is_done or is_done
        layer.is_fetched = layer.is_fetched or is_fetched or is_done
        if status == "Downloading" and message.progress_detail is not None:
            layer.fetched_bytes = _limited(message.progress_detail.current)
            layer.total_bytes = _limited(message.progress_detail.total)
        elif layer.is_fetched:
            layer.fetched_bytes = layer.total_bytes or layer.fetched_bytes
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, self._fetched_bytes()))
            self._drop_samples(now)

    def state(self, now: float) -> ImagePull:
        """Return how far the pull has come."""
        self._drop_samples(now)
        layers = self._layers.values()
        fetched = self._fetched_bytes()
        since, before = self._samples[0] if self._samples else (now, fetched)
        seconds = now - since
        return ImagePull(
            image=self._image,
            layers=len(layers),
            layers_done=sum(layer.is_done for layer in layers),
            bytes=sum(max(layer.total_bytes, layer.fetched_bytes) for layer in layers),
            bytes_done=fetched,
            bytes_per_second=max(0, round((fetched - before) / seconds)) if seconds > 0 else 0,
            is_size_known=all(layer.total_bytes or layer.is_fetched for layer in layers),
        )

    def _layer(self, layer_id: str) -> _Layer | None:
        key = layer_id[:_MAX_ID_CHARS]
        if key not in self._layers and len(self._layers) >= MAX_LAYERS:
            return None
        return self._layers.setdefault(key, _Layer())

    def _fetched_bytes(self) -> int:
        return sum(layer.fetched_bytes for layer in self._layers.values())

    def _drop_samples(self, now: float) -> None:
        """Keep one sample that is older than the time over which the speed is taken."""
        while len(self._samples) > 1 and now - self._samples[1][0] >= _RATE_SECONDS:
            self._samples.popleft()


def describe_pull(pull: ImagePull) -> str:
    """Return how far a pull has come, such as "3 of 7 layers, 412 MB of 1.3 GB, 21 MB/s"."""
    if not pull.layers:
        return "the registry has not answered yet"
    parts = [f"{pull.layers_done} of {pull.layers} layers"]
    if pull.bytes:
        about = "" if pull.is_size_known else "at least "
        parts.append(f"{format_bytes(pull.bytes_done)} of {about}{format_bytes(pull.bytes)}")
        parts.append(f"{format_bytes(pull.bytes_per_second)}/s")
    return ", ".join(parts)


def format_bytes(count: int) -> str:
    """Return a number of bytes as the docker command writes it: 980 B, 4.1 MB, 412 MB."""
    unit, size = next(
        (each for each in reversed(_PREFIXES) if count >= each[1]),
        _PREFIXES[0],
    )
    value = count / size
    return f"{value:.1f} {unit}" if value < 10 and size > 1 else f"{value:.0f} {unit}"


def _limited(count: int) -> int:
    return min(max(count, 0), _MAX_BYTES)
