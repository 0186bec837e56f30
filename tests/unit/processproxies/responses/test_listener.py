"""The response listener, with agents, launchers and hostile peers."""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import json
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from harness.agents import launcher_payloads
from harness.agents.launcher_payloads import connection, payload, payload_of_version_0

from enterprise_gateway.errors import ConfigurationError, ConflictError
from enterprise_gateway.services.kernels.planning.launches import distinguish_launch
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.processproxies.responses import listener as responses
from enterprise_gateway.services.processproxies.responses.launcher_reports import LauncherReports
from enterprise_gateway.services.processproxies.responses.listener import (
    ResponseEndpoint,
    ResponseListener,
)
from enterprise_gateway.services.processproxies.responses.report import (
    MAX_REPORT_BYTES,
    ReportStatus,
)
from enterprise_gateway.settings import DelaySettings, LiveSettings, ResponseSettings, Settings

KERNEL_ID = "00000000-0000-0000-0000-000000000007"
TOKEN = "5ec7e7" * 8
LAUNCH = LaunchRequest(
    kernel_id=KERNEL_ID,
    kernel_name="python_docker",
    username="ann",
    argv=(),
    env={},
    resource_dir="",
    config={},
    agent_settings={},
    agent_token=TOKEN,
    timeout=60.0,
)
OK = {"status": "ok"}
REJECTED = {"status": "rejected"}
DEADLINE = 60.0


def live(**changes: object) -> LiveSettings:
    """Return settings for a listener on any free port."""
    response = ResponseSettings(**{"port": 0, "port_retries": 0, **changes})  # type: ignore[arg-type] # by name
    return LiveSettings(Settings(response=response))


@pytest.fixture
def settings() -> LiveSettings:
    """Return the listener's settings."""
    return live()


@pytest.fixture
async def listener(settings: LiveSettings) -> AsyncIterator[ResponseListener]:
    """Return a listener that is closed afterwards."""
    listener = ResponseListener(settings)
    yield listener
    await listener.close()


@pytest.fixture
async def endpoint(listener: ResponseListener) -> ResponseEndpoint:
    """Return the listener's endpoint."""
    return await listener.open("127.0.0.1")


def report(**changes: object) -> bytes:
    """Return a report line."""
    fields = {"version": 1, "kernel_id": KERNEL_ID, "token": TOKEN, "status": "ready", **changes}
    return json.dumps(fields).encode() + b"\n"


async def connect(
    endpoint: ResponseEndpoint,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as an agent does: without checking host names and authorities."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = endpoint.address.partition(":")
    return await asyncio.open_connection(host, int(port), ssl=context)


async def send(endpoint: ResponseEndpoint, line: bytes) -> bytes:
    """Send a line and return everything that comes back."""
    reader, writer = await connect(endpoint)
    try:
        writer.write(line)
        return await asyncio.wait_for(reader.read(), DEADLINE)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer(endpoint: ResponseEndpoint, line: bytes) -> object:
    """Send a line and return the answer."""
    return json.loads(await send(endpoint, line))


async def test_report_settles_the_launch(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """The launch gets the report; the agent gets an acknowledgement."""
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        assert await answer(endpoint, report(kernel_info={"x": 1}, listen="tcp:x")) == OK
        assert (await waiting).status is ReportStatus.READY


async def test_failure_comes_with_its_reason(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """The agent's reason reaches the launch."""
    reason = {"message": "the kernel ended", "exit_code": 3, "signal": None, "stderr": "oh\nno\n"}
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        assert await answer(endpoint, report(status="failed", reason=reason)) == OK
        assert (await waiting).reason.describe() == "the kernel ended\noh\nno"


async def test_repeated_report_is_accepted_again(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """The answer may have been lost; a rejection would make the agent end."""
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        assert await answer(endpoint, report()) == OK
        assert await answer(endpoint, report()) == OK
        await waiting
    assert await answer(endpoint, report()) == OK
    assert await answer(endpoint, report(token="forged")) == REJECTED


async def test_captured_report_is_worth_nothing_to_another_launch(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """Each launch has a token of its own, so the line of one is refused in the next."""
    first, second = (distinguish_launch(LAUNCH, b"secret") for _ in range(2))
    other = distinguish_launch(
        dataclasses.replace(LAUNCH, kernel_id=KERNEL_ID[:-1] + "8"), b"secret"
    )
    line = report(token=first.launch_token)
    with listener.expect(KERNEL_ID, first.tokens) as waiting:
        assert await answer(endpoint, line) == OK
        await waiting
    with (
        listener.expect(KERNEL_ID, second.tokens) as again,
        listener.expect(other.kernel_id, other.tokens) as elsewhere,
    ):
        assert await answer(endpoint, line) == REJECTED
        moved = report(token=first.launch_token, kernel_id=other.kernel_id)
        assert await answer(endpoint, moved) == REJECTED
        assert not again.done()
        assert not elsewhere.done()


async def test_recorded_connection_cannot_be_played_again(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """A copy of the bytes of a report, from the network, completes no launch."""
    recorded = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = endpoint.address.partition(":")
        from_listener, to_listener = await asyncio.open_connection(host, int(port))

        async def answers() -> None:
            while data := await from_listener.read(65536):
                writer.write(data)
            writer.close()

        answering = asyncio.ensure_future(answers())
        while data := await reader.read(65536):
            recorded.extend(data)
            to_listener.write(data)
        to_listener.close()
        await answering

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        through = dataclasses.replace(endpoint, address=f"127.0.0.1:{port}")
        with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
            assert await answer(through, report()) == OK
            await waiting
    assert TOKEN.encode() not in recorded
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        assert b"ok" not in await send_plainly(endpoint, bytes(recorded))
        assert not waiting.done()


async def test_unexpected_report_is_rejected(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """The launch was cancelled or timed out: the agent may go."""
    assert await answer(endpoint, report()) == REJECTED
    with listener.expect(KERNEL_ID, frozenset({TOKEN})):
        pass
    assert await answer(endpoint, report()) == REJECTED


async def test_forged_report_does_not_disturb_the_launch(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """Knowing the kernel's id is not enough, and costs the true agent nothing."""
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        for token in ("", "x", TOKEN[:-1], TOKEN + "x", "ü"):
            assert await answer(endpoint, report(token=token)) == REJECTED
            assert await answer(endpoint, report(token=token, status="failed")) == REJECTED
        assert not waiting.done()
        assert await answer(endpoint, report()) == OK
        assert (await waiting).status is ReportStatus.READY


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b"[" * 30000 + b"\n",
        report(status="perhaps"),
        report(kernel_id=7),
        report(token=None),
        b"x" * 200_000,
    ],
    ids=lambda line: repr(line[:20]),
)
async def test_garbage_gets_no_answer(
    listener: ResponseListener, endpoint: ResponseEndpoint, line: bytes
) -> None:
    """A malformed report ends its own connection only."""
    with listener.expect(KERNEL_ID, frozenset({TOKEN})) as waiting:
        with contextlib.suppress(OSError):
            assert await send(endpoint, line) == b""
        assert await answer(endpoint, report()) == OK
        await waiting


async def test_peer_without_tls_is_disconnected(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """A port scanner or a browser costs nothing."""
    host, _, port = endpoint.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(OSError):
        await asyncio.wait_for(reader.read(), DEADLINE)
    writer.close()
    with listener.expect(KERNEL_ID, frozenset({TOKEN})):
        assert await answer(endpoint, report()) == OK


async def test_endless_line_is_cut_off(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """A peer that sends without end is disconnected long before a gigabyte."""
    reader, writer = await connect(endpoint)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 1 << 30 and not reader.at_eof():
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
    writer.transport.abort()
    assert sent < 16 << 20
    with listener.expect(KERNEL_ID, frozenset({TOKEN})):
        assert await answer(endpoint, report()) == OK


async def test_silent_peers_are_disconnected(
    settings: LiveSettings, endpoint: ResponseEndpoint
) -> None:
    """Silent peers get no more time than others, before and after the TLS handshake."""
    delays = DelaySettings(report_seconds=3.0)
    settings.replace(dataclasses.replace(settings.current, delays=delays))
    host, _, port = endpoint.address.partition(":")
    plain, plain_writer = await asyncio.open_connection(host, int(port))
    encrypted, encrypted_writer = await connect(endpoint)
    encrypted_writer.write(b'{"version"')
    for reader, writer in ((plain, plain_writer), (encrypted, encrypted_writer)):
        with contextlib.suppress(OSError):
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
        writer.transport.abort()


async def test_thousands_of_silent_peers_delay_no_report(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """Any number of open connections does not delay the reports of kernels."""
    host, _, port = endpoint.address.partition(":")
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as crowd:
        for n in range(2000):
            silent = crowd.enter_context(socket.socket())
            silent.settimeout(0)
            await loop.sock_connect(silent, (host, int(port)))
            if n % 5:  # keep the test itself within its file descriptors
                silent.close()
            if n % 100 == 0:
                kernel_id = f"kernel-{n}"
                with listener.expect(kernel_id, frozenset({TOKEN})) as waiting:
                    line = report(kernel_id=kernel_id)
                    async with asyncio.timeout(DelaySettings().report_seconds):
                        assert await answer(endpoint, line) == OK
                        await waiting
        assert len(listener._connections) <= responses.MAX_CONNECTIONS_PER_ADDRESS


async def test_many_kernels_report_at_once(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """Each report settles its own launch."""

    async def launch(number: int) -> None:
        kernel_id = f"kernel-{number}"
        token = f"token-{number}"
        with listener.expect(kernel_id, frozenset({token})) as waiting:
            assert await answer(endpoint, report(kernel_id=kernel_id, token=token)) == OK
            assert (await waiting).kernel_id == kernel_id

    await asyncio.gather(*(launch(number) for number in range(50)))


async def test_kernel_can_be_expected_once_at_a_time(listener: ResponseListener) -> None:
    """Two launches of one kernel id cannot both be right."""
    with (
        listener.expect(KERNEL_ID, frozenset({TOKEN})),
        pytest.raises(ConflictError),
        listener.expect(KERNEL_ID, frozenset({TOKEN})),
    ):
        pass
    with listener.expect(KERNEL_ID, frozenset({TOKEN})):
        pass


async def test_public_key_is_that_of_the_certificate(endpoint: ResponseEndpoint) -> None:
    """An agent checks only this: base64 of the DER SubjectPublicKeyInfo of RSA-2048."""
    _, writer = await connect(endpoint)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    key = x509.load_der_x509_certificate(shown).public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert base64.b64decode(endpoint.public_key) == der
    assert getattr(key, "key_size", 0) == 2048


async def test_address_is_opened_once(listener: ResponseListener) -> None:
    """All kernels of a network get the same address."""
    first, again = await asyncio.gather(listener.open("127.0.0.1"), listener.open("127.0.0.1"))
    assert first == again
    other = await listener.open("127.0.0.2")
    assert other.address.startswith("127.0.0.2:")
    assert other.public_key == first.public_key


async def test_all_addresses_can_share_one_port() -> None:
    """With EG_RESPONSE_ADDR_ANY kernels still get an address that they can reach."""
    listener = ResponseListener(live(addr_any=True))
    try:
        first = await listener.open("127.0.0.1")
        other = await listener.open("127.0.0.2")
        assert first.address.partition(":")[2] == other.address.partition(":")[2]
        with listener.expect(KERNEL_ID, frozenset({TOKEN})):
            assert await answer(other, report()) == OK
    finally:
        await listener.close()


async def test_taken_port_makes_way_for_the_next(endpoint: ResponseEndpoint) -> None:
    """EG_RESPONSE_PORT_RETRIES more ports are tried; then the error names the setting."""
    taken = int(endpoint.address.partition(":")[2])
    patient = ResponseListener(live(port=taken, port_retries=20))
    hasty = ResponseListener(live(port=taken))
    try:
        assert int((await patient.open("127.0.0.1")).address.partition(":")[2]) > taken
        with pytest.raises(ConfigurationError, match="EG_RESPONSE_PORT"):
            await hasty.open("127.0.0.1")
    finally:
        await patient.close()
        await hasty.close()


async def test_foreign_address_is_the_operators_to_mend(listener: ResponseListener) -> None:
    """EG_RESPONSE_IP must be an address of this host, unless all are listened on."""
    with pytest.raises(ConfigurationError, match="EG_RESPONSE_ADDR_ANY"):
        await listener.open("192.0.2.1")


async def send_plainly(
    endpoint: ResponseEndpoint, *chunks: bytes, source: str = "127.0.0.1"
) -> bytes:
    """Send bytes without TLS, close as launchers do, and return the answer."""
    host, _, port = endpoint.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), DEADLINE)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until_reported(reports: LauncherReports) -> None:
    """Wait until a launcher has reported."""
    async with asyncio.timeout(DEADLINE):
        await reports.arrived.wait()
    reports.arrived.clear()


async def test_launchers_report_is_kept_by_its_senders_address(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """It does not settle the launch, which checks the sender's address."""
    reports = LauncherReports()
    with listener.expect(launcher_payloads.KERNEL_ID, frozenset({TOKEN}), reports) as waiting:
        raw = payload(connection(), endpoint.public_key)
        assert await send_plainly(endpoint, raw[:1], raw[1:100], raw[100:]) == b""
        await until_reported(reports)
        forged = payload_of_version_0(connection(shell_port=1))
        assert await send_plainly(endpoint, forged, source="127.0.0.9") == b""
        await until_reported(reports)
        await reports.identify()
        assert reports.senders == ["127.0.0.1", "127.0.0.9"]
        true, other = await reports.read("127.0.0.1"), await reports.read("127.0.0.9")
        assert true is not None
        assert other is not None
        assert (true.shell_port, other.shell_port) == (40001, 1)
        assert not waiting.done()
        assert await answer(endpoint, report(kernel_id=launcher_payloads.KERNEL_ID)) == OK


async def test_plain_peers_learn_nothing(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """The connection ends without an answer; the rest of a long payload is not read."""
    envelope = json.loads(base64.b64decode(payload(connection(), endpoint.public_key)))
    envelope["key"] = base64.b64encode(b"\1" * 256).decode()
    sent = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        base64.b64encode(json.dumps(envelope).encode()),
        payload(connection(kernel_id=KERNEL_ID[:-1] + "8"), endpoint.public_key),
        b"A" * (MAX_REPORT_BYTES + 1),
    ]
    reports = LauncherReports()
    with listener.expect(launcher_payloads.KERNEL_ID, frozenset({TOKEN}), reports):
        for raw in sent:
            assert await send_plainly(endpoint, raw) == b""
            assert await reports.read("127.0.0.1") is None
        good = payload(connection(), endpoint.public_key)
        assert await send_plainly(endpoint, good, source="127.0.0.2") == b""
        await until_reported(reports)
        await reports.identify()
        assert reports.senders == ["127.0.0.2"]


async def test_garbage_costs_no_decoding(
    listener: ResponseListener, endpoint: ResponseEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a report from the kernel's own address is decrypted, and only once."""
    decoded: list[bytes] = []
    decode = responses._decode_payload

    def count(raw: bytes, private_pem: bytes, kernel_id: str) -> object:
        decoded.append(raw)
        return decode(raw, private_pem, kernel_id)

    monkeypatch.setattr(responses, "_decode_payload", count)
    reports = LauncherReports()
    with listener.expect(launcher_payloads.KERNEL_ID, frozenset({TOKEN}), reports):
        for number in range(100):
            garbage = payload(connection(key=str(number)), endpoint.public_key)
            assert await send_plainly(endpoint, garbage, source="127.0.0.9") == b""
        good = payload(connection(), endpoint.public_key)
        assert await send_plainly(endpoint, good) == b""
        await until_reported(reports)
        info = await reports.read("127.0.0.1")
        assert info is not None
    assert decoded == [good]


async def test_launchers_are_not_heard_if_the_operator_says_so(
    listener: ResponseListener,
    settings: LiveSettings,
    endpoint: ResponseEndpoint,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says so once for each launch, however many reports there are."""
    response = dataclasses.replace(settings.current.response, accept_eg_payloads=False)
    settings.replace(dataclasses.replace(settings.current, response=response))
    reports = LauncherReports()
    with listener.expect(launcher_payloads.KERNEL_ID, frozenset({TOKEN}), reports):
        for _ in range(3):
            assert await send_plainly(endpoint, payload(connection(), endpoint.public_key)) == b""
        assert await reports.read("127.0.0.1") is None
        assert await answer(endpoint, report(kernel_id=launcher_payloads.KERNEL_ID)) == OK
    refusals = [line for line in caplog.messages if "EG_ACCEPT_EG_PAYLOADS" in line]
    assert len(refusals) == 1
    assert launcher_payloads.KERNEL_ID in refusals[0]


async def test_launchers_report_is_dropped_where_none_is_expected(
    listener: ResponseListener, endpoint: ResponseEndpoint
) -> None:
    """A local kernel has its own agent, and one that has reported needs no sidecar."""
    with listener.expect(launcher_payloads.KERNEL_ID, frozenset({TOKEN})) as waiting:
        assert await send_plainly(endpoint, payload(connection(), endpoint.public_key)) == b""
        assert await answer(endpoint, report(kernel_id=launcher_payloads.KERNEL_ID)) == OK
        await waiting


async def test_reports_of_very_many_senders_are_not_kept() -> None:
    """Every container may send one; the kernel's own is among the latest."""
    reports = LauncherReports()
    read = []
    for number in range(1000):
        reports.add(f"10.0.{number >> 8}.{number & 255}", functools.partial(read.append, number))
    for address in ("10.0.3.231", "10.0.3.168", "10.0.3.167", "10.0.0.0"):
        assert await reports.read(address) is None
    assert read == [999, 936]
