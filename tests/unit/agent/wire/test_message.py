"""Parts of a message."""

from kernel_agent.wire.message import split_frames


def test_frames_without_topic_or_delimiter() -> None:
    """`iopub_welcome` has no topic frame at all; what is no message is skipped."""
    parts = [b"h", b"p", b"m", b"c"]
    assert split_frames([b"<IDS|MSG>", b"sig", *parts]) == parts
    assert split_frames([b"topic", b"<IDS|MSG>", b"sig", *parts, b"buffer"]) == [*parts, b"buffer"]
    assert split_frames([b"topic", *parts]) is None
    assert split_frames([b"<IDS|MSG>", b"sig", b"h"]) is None
