"""Files without a name, on a real file system."""

import errno
import logging
import os
from pathlib import Path

import pytest

from kernel_agent.system import spill_files
from kernel_agent.system.spill_files import SpillFiles, file_system, find_folder

MOUNTS = """\
22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw
23 22 0:22 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw
24 23 0:23 / /tmp/on\\040disk rw shared:3 - ext4 /dev/sda1 rw
25 22 0:24 / /twice rw - ext4 /dev/sda1 rw
26 25 0:25 / /twice rw - tmpfs tmpfs rw
"""


def open_descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_written_is_read_again_and_leaves_no_name(tmp_path: Path) -> None:
    """Small pieces and large ones; nothing is seen in the folder."""
    spill = SpillFiles(str(tmp_path))
    parts = [[b"a", b"b" * 100_000, b"", b"c"], [b"d"] * 3]
    locations = [spill.write(pieces) for pieces in parts]
    assert list(tmp_path.iterdir()) == []
    for location, pieces in zip(locations, parts, strict=True):
        assert location is not None
        assert spill.read(location) == b"".join(pieces)
    for location in locations:
        assert location is not None
        spill.free(location)


def test_freed_parts_leave_the_disk_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor stays open for parts that are gone."""
    monkeypatch.setattr(spill_files, "FILE_BYTES", 100)
    before = open_descriptors()
    spill = SpillFiles(str(tmp_path))
    locations = [spill.write([b"x" * 60]) for _ in range(6)]
    assert open_descriptors() == before + 3
    for location in locations[:3]:
        assert location is not None
        spill.free(location)
    assert open_descriptors() == before + 2
    for location in locations[3:]:
        assert location is not None
        assert spill.read(location) == b"x" * 60
        spill.free(location)
    assert open_descriptors() == before
    assert spill.write([b"again"]) is not None


def test_full_disk_is_logged_once_and_what_is_there_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that ended half way leaves nothing behind."""
    spill = SpillFiles(str(tmp_path))
    first = spill.write([b"first"])
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:4], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with caplog.at_level(logging.WARNING):
        assert spill.write([b"second"]) is None
        assert spill.write([b"third"]) is None
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    second = spill.write([b"2"])
    assert first is not None
    assert second is not None
    assert (spill.read(first), spill.read(second)) == (b"first", b"2")


def test_file_system_without_nameless_files_gets_a_name_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older overlay file systems are."""
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    spill = SpillFiles(str(tmp_path))
    location = spill.write([b"x"])
    assert location is not None
    assert spill.read(location) == b"x"
    assert list(tmp_path.iterdir()) == []


def test_folder_is_the_first_on_a_disk_that_takes_files(tmp_path: Path) -> None:
    """Memory is no place for what the memory has no room for."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 d rw\n2 1 0:2 / {tmp_path}/memory rw - tmpfs t rw\n")
    for name in ("memory", "disk"):
        (tmp_path / name).mkdir()
    folders = [str(tmp_path / name) for name in ("memory", "missing", "disk")]
    assert find_folder(folders, mounts) == folders[2]
    assert find_folder(folders[:2], mounts) is None
    assert find_folder(folders, tmp_path / "no such table") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "overlay"),
        ("/tmpfoo", "overlay"),
        ("/tmp", "tmpfs"),
        ("/tmp/x", "tmpfs"),
        ("/tmp/on disk/x", "ext4"),
        ("/twice/x", "tmpfs"),
    ],
)
def test_file_system_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    """Of two at one place the later counts; names with spaces are escaped."""
    assert file_system(path, MOUNTS) == expected
