"""The small pure parts: activity, culling, settings, backlog, control groups, exits, keys."""

import json
import signal
from pathlib import Path

import pytest

from kernel_agent.activity import Activity
from kernel_agent.backlog import Backlog
from kernel_agent.cgroup import OomCounter, counter_candidates, parse_oom_kills
from kernel_agent.connection_file import PortReservation, PortsExhaustedError
from kernel_agent.culling import Usage, decide_culling, next_check
from kernel_agent.handshake import HandshakeError, agree
from kernel_agent.iopub import RateLimiter, hide_traceback
from kernel_agent.message import IOPUB, SHELL, Message, encode_json, split_frames
from kernel_agent.process import OutputTail, explain_exit
from kernel_agent.sessions import MAX_DISCONNECTED, MAX_ORIGINS, Sessions
from kernel_agent.settings import (
    AgentSettings,
    CullingSettings,
    SettingsError,
    kernel_environment,
    read_settings,
    read_signal,
)
from kernel_agent.spki import CertificateError, subject_public_key_info

ENV = {"EG_AGENT_TOKEN": "t"}
ARGV = ["--", "kernel"]


def status(state: str, parent: dict[str, object]) -> Message:
    """Make a status message."""
    parts = [{"msg_type": "status"}, parent, {}, {"execution_state": state}]
    return Message(IOPUB, [encode_json(part) for part in parts])


def request(msg_type: str, msg_id: str = "1", **extra: object) -> dict[str, object]:
    """Make a parent header."""
    return {"msg_id": msg_id, "msg_type": msg_type, **extra}


def test_cell_makes_busy_until_its_idle() -> None:
    """Busy and idle of an execute_request count."""
    activity = Activity()
    assert activity.observe(status("busy", request("execute_request")))
    assert activity.is_busy
    assert activity.observe(status("idle", request("execute_request")))
    assert not activity.is_busy


@pytest.mark.parametrize("kind", ["kernel_info_request", "debug_request", "usage_request"])
def test_untracked_requests_change_nothing(kind: str) -> None:
    """Requests that are no activity of a user neither make busy nor end it."""
    activity = Activity()
    assert not activity.observe(status("busy", request(kind)))
    assert not activity.is_busy
    activity.observe(status("busy", request("execute_request", "cell")))
    assert activity.observe(status("idle", request(kind)))
    assert activity.is_busy
    assert not activity.observe(status("idle", {})) or activity.is_busy


def test_subshells_are_followed_apart() -> None:
    """A comm in a subshell that ends does not end the cell beside it."""
    activity = Activity()
    activity.observe(status("busy", request("execute_request", "cell")))
    activity.observe(status("busy", request("comm_msg", "comm", subshell_id="s")))
    activity.observe(status("idle", request("comm_msg", "comm", subshell_id="s")))
    assert activity.is_busy
    activity.observe(status("idle", request("execute_request", "cell")))
    assert not activity.is_busy


def test_lost_idle_does_not_make_busy_for_ever() -> None:
    """The next request of the same subshell shows that the earlier one has ended."""
    activity = Activity()
    activity.observe(status("busy", request("execute_request", "1")))
    activity.observe(status("busy", request("execute_request", "2")))
    activity.observe(status("idle", request("execute_request", "2")))
    assert not activity.is_busy


@pytest.mark.parametrize(
    ("usage", "changes", "expected"),
    [
        (Usage(0.0, is_busy=False, connections=0), {}, True),
        (Usage(0.1, is_busy=False, connections=0), {}, False),
        (Usage(0.0, is_busy=True, connections=0), {}, False),
        (Usage(0.0, is_busy=True, connections=0), {"cull_busy": True}, True),
        (Usage(0.0, is_busy=False, connections=1), {}, False),
        (Usage(0.0, is_busy=False, connections=1), {"cull_connected": True}, True),
        (Usage(0.0, is_busy=False, connections=0), {"cull_idle_timeout": 0.0}, False),
    ],
)
def test_culling_decision(usage: Usage, changes: dict[str, float], *, expected: bool) -> None:
    """Idle long enough, and neither work nor a connection in the way unless that is allowed."""
    settings = CullingSettings(cull_idle_timeout=10.0)._replace(**changes)
    assert decide_culling(10.0, usage, settings) is expected


def test_culling_is_checked_when_due_and_at_most_an_interval_late() -> None:
    """The next check is at the deadline if that is nearer than the interval."""
    settings = CullingSettings(cull_idle_timeout=10.0, cull_interval=3.0)
    idle = Usage(0.0, is_busy=False, connections=0)
    assert next_check(9.0, idle, settings) == 1.0
    assert next_check(1.0, idle, settings) == 3.0
    assert next_check(20.0, idle, settings) == 3.0
    assert next_check(20.0, idle, settings._replace(cull_interval=0.0)) == 0.1
    assert next_check(0.0, idle, settings._replace(cull_idle_timeout=0.0)) is None


def test_settings_have_the_documented_defaults() -> None:
    """Nothing given: the table of docs/agent-interface.md."""
    settings = read_settings(ENV, ARGV)
    assert settings == AgentSettings("", "", "t", "tcp:0.0.0.0:8898", "", "", (0, 0), ("kernel",))


def test_settings_are_read_from_json() -> None:
    """Known keys are taken, with integers for seconds, unknown ones ignored."""
    document = {
        "kernel_name": "python_docker",
        "interrupt_mode": "message",
        "interrupt_signal": "USR2",
        "launch_timeout": 5,
        "cull_idle_timeout": 60,
        "cull_busy": True,
        "allowed_message_types": ["a"],
        "of_the_future": [1],
        "token": "stolen",
    }
    settings = read_settings({**ENV, "EG_AGENT_SETTINGS": json.dumps(document)}, ARGV)
    assert settings.kernel_name == "python_docker"
    assert settings.interrupt_by_message
    assert settings.interrupt_signal == signal.SIGUSR2
    assert settings.launch_timeout == 5.0
    assert settings.culling == CullingSettings(cull_idle_timeout=60.0, cull_busy=True)
    assert settings.allowed_message_types == ("a",)
    assert settings.token == "t"


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        '{"launch_timeout": "5"}',
        '{"launch_timeout": -1}',
        '{"launch_timeout": true}',
        '{"autorestart": 1}',
        '{"restart_limit": "a"}',
        '{"allowed_message_types": [1]}',
        '{"kernel_name": 1}',
        '{"interrupt_mode": "x"}',
        '{"interrupt_signal": "SIGNOTHING"}',
        '{"interrupt_signal": 4711}',
        '{"cull_busy": "yes"}',
    ],
)
def test_settings_of_the_wrong_form_are_refused(document: str) -> None:
    """The error names the setting, not the value."""
    with pytest.raises(SettingsError):
        read_settings({**ENV, "EG_AGENT_SETTINGS": document}, ARGV)


@pytest.mark.parametrize("ports", ["1", "a..b", "5..1", "1..70000", "..", "-1..5"])
def test_malformed_port_range_is_refused(ports: str) -> None:
    """PORT_RANGE is `lo..hi`."""
    with pytest.raises(SettingsError):
        read_settings({**ENV, "PORT_RANGE": ports}, ARGV)


def test_command_and_token_are_required() -> None:
    """Without them nothing can start."""
    for env, argv in ((ENV, []), (ENV, ["--"]), (ENV, ["kernel"]), ({}, ARGV)):
        with pytest.raises(SettingsError):
            read_settings(env, argv)


def test_signals_are_given_by_name_or_number() -> None:
    """Both spellings of a name, numbers as int or digits."""
    assert {read_signal(value) for value in ("SIGUSR1", "usr1", 10, "10")} == {signal.SIGUSR1}


def test_kernel_environment_lacks_what_is_the_agents() -> None:
    """Tokens and addresses are dropped, KERNEL_* stays."""
    env = {"EG_AGENT_TOKEN": "t", "RESPONSE_ADDRESS": "r", "PUBLIC_KEY": "p", "PORT_RANGE": "x"}
    assert kernel_environment({**env, "KERNEL_ID": "1", "PATH": "/"}) == {
        "KERNEL_ID": "1",
        "PATH": "/",
    }


def test_backlog_tells_waiters_once_when_it_is_relieved() -> None:
    """Full is a state of bytes; who waits is called once."""
    backlog = Backlog(100)
    called: list[int] = []
    backlog.add(100)
    assert backlog.is_full
    backlog.when_relieved(lambda: called.append(1))
    backlog.add(50)
    backlog.remove(50)
    assert called == []
    backlog.remove(1)
    backlog.remove(99)
    assert called == [1]


V1_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
V2_EVENTS = "low 0\nhigh 0\nmax 27\noom 5\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("text", "count"), [(V1_CONTROL, 3), (V2_EVENTS, 2), ("", 0), ("oom_kill x", 0)]
)
def test_oom_kills_are_counted(text: str, count: int) -> None:
    """The counter of either version of control groups."""
    assert parse_oom_kills(text) == count


def test_counter_is_looked_for_in_the_own_group_then_at_the_mount() -> None:
    """In a container the path is often the host's, and the mount the container's own group."""
    root = Path("/cg")
    v1 = "12:pids:/docker/a\n4:memory:/docker/a\n1:name=systemd:/docker/a\n"
    assert counter_candidates(v1, root) == [
        root / "memory/docker/a/memory.oom_control",
        root / "memory/memory.oom_control",
    ]
    v2 = "0::/system.slice/docker-a.scope\n"
    assert counter_candidates(v2, root) == [
        root / "system.slice/docker-a.scope/memory.events",
        root / "memory.events",
    ]
    assert counter_candidates("nonsense\n", root) == []


@pytest.mark.parametrize("version", [1, 2])
def test_oom_counter_sees_new_kills_only(tmp_path: Path, version: int) -> None:
    """Kills before the kernel do not count; a vanished file is no error."""
    proc = tmp_path / "cgroup"
    proc.write_text("4:memory:/a\n" if version == 1 else "0::/\n")
    folder = tmp_path / ("memory" if version == 1 else "")
    folder.mkdir(exist_ok=True)
    file = folder / ("memory.oom_control" if version == 1 else "memory.events")
    file.write_text("oom_kill 4\n")
    counter = OomCounter(proc, tmp_path)
    assert not counter.has_increased()
    file.write_text("oom_kill 5\n")
    assert counter.has_increased()
    assert not counter.has_increased()
    file.unlink()
    assert not counter.has_increased()
    assert not OomCounter(tmp_path / "nothing", tmp_path).has_increased()


def test_exits_are_explained() -> None:
    """Codes, signals by name, and memory only with SIGKILL."""
    plain = explain_exit(3, out_of_memory=True, stderr="e")
    assert (plain.message, plain.exit_code, plain.signal) == (
        "the kernel exited with code 3",
        3,
        None,
    )
    assert not plain.out_of_memory
    killed = explain_exit(-9, out_of_memory=False, stderr="")
    assert (killed.message, killed.signal) == ("the kernel was killed by SIGKILL", "SIGKILL")
    memory = explain_exit(-9, out_of_memory=True, stderr="")
    assert memory.message.endswith("(out of memory)")
    assert not explain_exit(-11, out_of_memory=True, stderr="").out_of_memory
    assert explain_exit(-60, out_of_memory=False, stderr="").signal == "signal 60"


def test_output_tail_keeps_the_end() -> None:
    """The last bytes, whatever their encoding."""
    tail = OutputTail(10)
    for chunk in (b"0123456789", b"abc", b"\xff"):
        tail.append(chunk)
    assert tail.read(10) == "456789abc�"
    assert tail.read(2) == "c�"
    assert tail.read(0) == ""


def test_port_range_without_five_free_ports_is_an_error() -> None:
    """Too few ports, or taken ones, are told; nothing stays bound."""
    with pytest.raises(PortsExhaustedError):
        PortReservation((39_300, 39_303))
    first = PortReservation((39_300, 39_304))
    with pytest.raises(PortsExhaustedError):
        PortReservation((39_300, 39_304))
    first.release()
    second = PortReservation((39_300, 39_304))
    assert sorted(second.ports.values()) == list(range(39_300, 39_305))
    second.release()


def test_frames_without_topic_or_delimiter() -> None:
    """`iopub_welcome` has no topic frame at all; what is no message is skipped."""
    parts = [b"h", b"p", b"m", b"c"]
    assert split_frames([b"<IDS|MSG>", b"sig", *parts]) == parts
    assert split_frames([b"topic", b"<IDS|MSG>", b"sig", *parts, b"buffer"]) == [*parts, b"buffer"]
    assert split_frames([b"topic", *parts]) is None
    assert split_frames([b"<IDS|MSG>", b"sig", b"h"]) is None


@pytest.mark.parametrize("channel", [IOPUB, SHELL])
def test_traceback_is_hidden_in_output_and_reply(channel: bytes) -> None:
    """Name, value and traceback are replaced; the rest and other messages stay."""
    kind = "error" if channel == IOPUB else "execute_reply"
    content = {"status": "error", "ename": "E", "evalue": "v", "traceback": ["t"], "n": 1}
    parts = [encode_json({"msg_type": kind}), b"{}", b"{}", encode_json(content), b"buffer"]
    hidden = hide_traceback(Message(channel, parts), "hidden")
    assert hidden.content() == {
        "status": "error",
        "ename": "ExecutionError",
        "evalue": "Execution error",
        "traceback": ["hidden"],
        "n": 1,
    }
    assert hidden.buffers == [b"buffer"]
    other = Message(channel, [encode_json({"msg_type": "stream"}), *parts[1:]])
    assert hide_traceback(other, "hidden") is other


def test_rate_limit_drops_above_and_resumes_below() -> None:
    """One notice when dropping begins; status always passes; below 80 % output passes again."""
    limiter = RateLimiter(10.0, 0.0)
    stream = Message(IOPUB, [encode_json({"msg_type": "stream"}), b"{}", b"{}", b"{}"])
    admitted = [limiter.admit(stream, 0.0) for _ in range(35)]
    assert [passes for passes, _ in admitted] == [True] * 30 + [False] * 5
    assert [text is not None for _, text in admitted] == [False] * 30 + [True] + [False] * 4
    assert limiter.admit(status("idle", {}), 0.0) == (True, None)
    assert limiter.admit(stream, 2.9)[0] is False
    assert limiter.admit(stream, 3.1)[0] is True


def test_byte_rate_counts_stream_only() -> None:
    """As in jupyter_server, display data is free."""
    limiter = RateLimiter(0.0, 1000.0)
    for kind, expected in (("display_data", True), ("stream", False)):
        parts = [encode_json({"msg_type": kind}), b"{}", b"{}", b"x" * 4000]
        assert limiter.admit(Message(IOPUB, parts), 0.0)[0] is expected


class FakeConnection:
    """A connection that notes what happens to it."""

    def __init__(self) -> None:
        self.pumped = 0
        self.closed: list[int] = []

    def pump(self) -> None:
        """Note it."""
        self.pumped += 1

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        assert reason
        self.closed.append(code)


def test_disconnected_sessions_are_forgotten_by_age_and_number() -> None:
    """Neither an old session nor more than a few stay."""
    now = 0.0
    sessions = Sessions(1000, 60.0, lambda: now)
    for index in range(MAX_DISCONNECTED + 5):
        connection = FakeConnection()
        sessions.disconnect(sessions.connect(f"s{index}", connection), connection)
    assert len(sessions._sessions) == MAX_DISCONNECTED
    assert sessions.forget_expired() == 60.0
    now = 60.0
    assert sessions.forget_expired() is None
    assert sessions._sessions == []


def test_replies_follow_the_latest_origin_and_memory_is_bounded() -> None:
    """The session that used a `header.session` last gets its replies."""
    sessions = Sessions(10**6, 60.0, lambda: 0.0)
    first = sessions.connect("1", FakeConnection())
    second = sessions.connect("2", FakeConnection())
    sessions.learn_origin(first, "h")
    sessions.learn_origin(second, "h")
    reply = Message(SHELL, [b"{}", b'{"session":"h"}', b"{}", b"{}"])
    sessions.reply(reply)
    assert (len(first.outbox), len(second.outbox)) == (0, 1)
    sessions.reply(Message(SHELL, [b"{}", b'{"session":"unknown"}', b"{}", b"{}"]))
    for index in range(MAX_ORIGINS + 10):
        sessions.learn_origin(second, f"h{index}")
    assert len(second.origins) == MAX_ORIGINS
    assert len(sessions._by_origin) <= MAX_ORIGINS


@pytest.mark.parametrize(
    "change",
    [
        {"upgrade": "h2c"},
        {"sec-websocket-version": "8"},
        {"sec-websocket-key": "short"},
        {"sec-websocket-key": "ä"},
    ],
)
def test_malformed_handshake_is_refused(change: dict[str, str]) -> None:
    """Only version 13 with a proper key."""
    good = {
        "upgrade": "WebSocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert agree(good).headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    with pytest.raises(HandshakeError):
        agree({**good, **change})


@pytest.mark.parametrize(
    "data", [b"", b"0", b"\x30\x80", b"\x31\x00", b"\x30\x03\x30\x01\x02", b"\x30" * 40]
)
def test_malformed_certificate_is_an_error(data: bytes) -> None:
    """Arbitrary bytes are no certificate, and nothing worse."""
    with pytest.raises(CertificateError):
        subject_public_key_info(data)
