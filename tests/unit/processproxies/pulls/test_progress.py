"""What a pull's messages say of how far it has come."""

import pytest

from enterprise_gateway.services.processproxies.engine.images import PullDetail, PullMessage
from enterprise_gateway.services.processproxies.pulls.progress import (
    MAX_LAYERS,
    PullProgress,
    describe_pull,
    format_bytes,
)

MB = 10**6


def progress_of(*messages: tuple[float, str, str, int, int]) -> PullProgress:
    """Return the progress after messages: time, layer, status, bytes, of how many."""
    progress = PullProgress("team/image:1")
    for now, layer, status, current, total in messages:
        progress.add(PullMessage(status, layer, PullDetail(current, total)), now)
    return progress


def test_layers_bytes_and_speed_are_told() -> None:
    """In the words of the docker command."""
    progress = progress_of(
        (0.0, "1", "Pulling from team/image", 0, 0),
        (0.0, "a", "Already exists", 0, 0),
        (0.0, "b", "Pulling fs layer", 0, 0),
        (0.0, "c", "Pulling fs layer", 0, 0),
        (0.0, "b", "Downloading", 0, 1000 * MB),
        (0.0, "c", "Downloading", 0, 300 * MB),
        (2.0, "c", "Downloading", 300 * MB, 300 * MB),
        (4.0, "b", "Downloading", 112 * MB, 1000 * MB),
    )
    assert describe_pull(progress.state(4.0)) == "1 of 3 layers, 412 MB of 1.3 GB, 103 MB/s"


def test_size_of_layers_that_wait_is_not_known() -> None:
    """The engine tells it once it downloads them."""
    progress = progress_of((0.0, "a", "Downloading", 5 * MB, 10 * MB), (0.0, "b", "Waiting", 0, 0))
    assert describe_pull(progress.state(0.0)) == "0 of 2 layers, 5.0 MB of at least 10 MB, 0 B/s"


def test_layer_that_is_extracted_is_downloaded() -> None:
    """Its extraction counts other bytes, which are not those of the network."""
    progress = progress_of(
        (0.0, "a", "Downloading", 4 * MB, 10 * MB), (1.0, "a", "Extracting", 1 * MB, 10 * MB)
    )
    state = progress.state(1.0)
    assert (state.bytes_done, state.bytes, state.layers_done) == (10 * MB, 10 * MB, 0)


def test_pull_that_stalls_has_no_speed() -> None:
    """The speed is that of the last seconds."""
    progress = progress_of(
        (0.0, "a", "Downloading", 0, 100 * MB),
        (1.0, "a", "Downloading", 50 * MB, 100 * MB),
    )
    assert progress.state(1.0).bytes_per_second == 50 * MB
    assert progress.state(7.0).bytes_per_second == 0


def test_layer_that_is_begun_anew_makes_no_negative_speed() -> None:
    """The engine tries a layer again by itself."""
    progress = progress_of(
        (0.0, "a", "Downloading", 50 * MB, 100 * MB),
        (1.0, "a", "Retrying in 5 seconds", 0, 0),
        (2.0, "a", "Downloading", 1 * MB, 100 * MB),
    )
    assert progress.state(2.0).bytes_per_second == 0


def test_nothing_is_known_before_the_registry_answers() -> None:
    """There is no such number as 0 of 0 layers."""
    assert describe_pull(PullProgress("a").state(0.0)) == "the registry has not answered yet"


def test_hostile_messages_take_no_memory() -> None:
    """A registry decides how many layers there are, and how large they say they are."""
    progress = progress_of(
        *((0.0, f"{number:0500}", "Waiting", 0, 0) for number in range(10 * MAX_LAYERS))
    )
    assert progress.state(0.0).layers <= MAX_LAYERS
    hostile = progress_of((0.0, "a", "Downloading", -5, 10**30), (1.0, "a", "Downloading", 7, -1))
    state = hostile.state(1.0)
    assert (state.bytes_done, state.bytes) == (7, 7)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (980, "980 B"),
        (1000, "1.0 kB"),
        (4_100_000, "4.1 MB"),
        (412_345_678, "412 MB"),
        (1_312_345_678, "1.3 GB"),
    ],
)
def test_bytes_are_readable(count: int, text: str) -> None:
    """Two or three digits."""
    assert format_bytes(count) == text
