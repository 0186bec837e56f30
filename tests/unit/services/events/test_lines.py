"""The file of events."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest
from harness.waiting import eventually

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.events.bus import EventBus
from enterprise_gateway.services.events.events import Requested
from enterprise_gateway.services.events.lines import EventFile, write_lines


def ids_in(path: Path) -> list[str]:
    """Return the ids in a file of events."""
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_moved_file_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate moves it; what was written stays in the moved one."""
    path, moved = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    file = EventFile(path)
    file.append(b'{"id": "a"}\n')
    path.rename(moved)
    file.append(b'{"id": "b"}\n')
    path.unlink()
    file.append(b'{"id": "c"}\n')
    file.close()
    assert (ids_in(moved), ids_in(path)) == (["a"], ["c"])
    assert path.stat().st_mode & 0o007 == 0


def test_line_that_a_full_disk_cut_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins on a line of its own."""
    file = EventFile(tmp_path / "events.jsonl")
    write, answers = os.write, [7, OSError(errno.ENOSPC, "no space")]

    def write_some(descriptor: int, data: bytes) -> int:
        if not answers:
            return write(descriptor, data)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return write(descriptor, data[:answer])

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="no space"):
        file.append(b'{"id": "a"}\n')
    file.append(b'{"id": "b"}\n')
    file.close()
    assert (tmp_path / "events.jsonl").read_bytes() == b'{"id": \n{"id": "b"}\n'


def test_file_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    """With its name and the reason."""
    with pytest.raises(ConfigurationError, match=r"event_log .*missing"):
        EventFile(tmp_path / "missing" / "events.jsonl")


async def test_events_go_on_after_a_disk_was_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those in between are lost, counted, and told in one line."""
    bus, folder = EventBus(), tmp_path / "folder"
    folder.mkdir()
    path = folder / "events.jsonl"
    subscription = bus.subscribe("file", 10)
    writing = asyncio.create_task(write_lines(EventFile(path), subscription))
    moved = tmp_path / "moved"
    folder.rename(moved)
    for each in "ab":
        bus.publish(Requested(id=each, time="", owner="ann"))
        await eventually(lambda: subscription.take_dropped() > 0)
    folder.mkdir()
    bus.publish(Requested(id="c", time="", owner="ann"))
    bus.close()
    await writing
    assert ids_in(path) == ["c"]
    assert len([r for r in caplog.records if "event_log cannot be written" in r.message]) == 1
