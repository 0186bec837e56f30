"""TLS, with and without certificates of clients."""

import asyncio
import contextlib
import datetime as dt
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness.gateways.web_server import ANSWER_DEADLINE, TOKEN, Served, serve_routes

from enterprise_gateway.settings import AccessSettings, IdentitySettings, ServerSettings

HEADERS = {"Authorization": f"token {TOKEN}"}
CLIENT_NAME = "proxy.example"
FIRST_REQUEST = "enterprise_gateway.web.connections.protocol.FIRST_REQUEST_SECONDS"


@dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._write(
            "ca",
            self._build(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)),
        )

    def issue(self, name: str) -> Files:
        """Make a certificate for a host name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key, x509.SubjectAlternativeName([x509.DNSName(name)]))
        key_path = self._folder / f"{name}.key"
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Files(self._write(name, certificate), str(key_path))

    def _build(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> str:
        path = self._folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that the client trusts."""
    return Authority(tmp_path)


@pytest.fixture
def secured(authority: Authority) -> ServerSettings:
    """Settings with a certificate for localhost."""
    files = authority.issue("localhost")
    return ServerSettings(port=0, certfile=files.certificate, keyfile=files.key)


def make_client(authority: Authority, files: Files | None = None) -> ssl.SSLContext:
    """Make a client's context that trusts the authority, with a certificate of its own."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


async def ask(served: Served, context: ssl.SSLContext) -> int:
    """Return the status of an authenticated request."""
    answer = await served.ask(
        "/api/kernels", headers=HEADERS, ssl=context, server_hostname="localhost"
    )
    return answer.status


async def test_certificate_switches_tls_on(authority: Authority, secured: ServerSettings) -> None:
    """With a certificate the gateway speaks TLS, and only that."""
    async with serve_routes(secured) as served:
        assert await ask(served, make_client(authority)) == 200
        assert b"HTTP/1.1 200" not in await served.send(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await ask(served, make_client(authority)) == 200


async def test_websocket_works_over_tls(authority: Authority, secured: ServerSettings) -> None:
    """The upgrade is answered on an encrypted connection, too."""
    async with (
        serve_routes(secured) as served,
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{served.url}/api/kernels/x/channels",
            headers=HEADERS,
            ssl=make_client(authority),
            server_hostname="localhost",
        ) as socket,
    ):
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE


async def test_old_tls_is_not_spoken(authority: Authority, secured: ServerSettings) -> None:
    """Versions before TLS 1.2 are refused."""
    context = make_client(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    async with serve_routes(secured) as served:
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(served, context)


@pytest.mark.parametrize(
    ("ssl_version", "spoken"), [(None, "TLSv1.3"), (int(ssl.PROTOCOL_TLSv1_2), "TLSv1.2")]
)
async def test_version_is_that_asked_for(
    authority: Authority, secured: ServerSettings, ssl_version: int | None, spoken: str
) -> None:
    """Enterprise Gateway's value 5 means TLS 1.2; without a value the newest is spoken."""
    async with serve_routes(replace(secured, ssl_version=ssl_version)) as served:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", served.port, ssl=make_client(authority), server_hostname="localhost"
        )
        assert writer.get_extra_info("ssl_object").version() == spoken
        writer.close()
        await writer.wait_closed()


async def test_client_without_certificate_is_refused_if_there_is_an_authority(
    authority: Authority, secured: ServerSettings, tmp_path: Path
) -> None:
    """With client_ca only clients that it signed for get a connection."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("stranger")
    async with serve_routes(replace(secured, client_ca=authority.certificate)) as served:
        assert await ask(served, make_client(authority, authority.issue("client.example"))) == 200
        for files in (None, stranger):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await ask(served, make_client(authority, files))


async def test_client_certificate_must_carry_the_authorized_name(
    authority: Authority, secured: ServerSettings
) -> None:
    """With authorized_origin a certificate for another host gets 403, probes included."""
    server = replace(secured, client_ca=authority.certificate, authorized_origin=CLIENT_NAME)
    async with serve_routes(server) as served:
        assert await ask(served, make_client(authority, authority.issue(CLIENT_NAME))) == 200
        other = make_client(authority, authority.issue("other.example"))
        assert await ask(served, other) == 403
        answer = await served.ask("/healthz", ssl=other, server_hostname="localhost")
        assert answer.status == 403


async def test_authorized_name_without_tls_refuses_every_client() -> None:
    """A half configured gateway is closed, not open."""
    async with serve_routes(ServerSettings(port=0, authorized_origin=CLIENT_NAME)) as served:
        assert (await served.ask("/api/kernels", headers=HEADERS)).status == 403


async def test_peers_that_never_finish_their_handshake_hold_up_no_other(
    authority: Authority, secured: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count as idle connections and have the deadline of a first request."""
    monkeypatch.setattr("enterprise_gateway.web.connections.listener.MAX_IDLE_PER_ADDRESS", 3)
    monkeypatch.setattr(FIRST_REQUEST, 600.0)
    context = make_client(authority)
    async with serve_routes(secured) as served:

        async def connect(sent: bytes) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writers.append(writer)
            writer.write(sent)
            return reader

        writers: list[asyncio.StreamWriter] = []
        try:
            beginnings = [b"", b"\x16\x03\x01\x02\x00", b"\x16", b"\x16\x03", b""]
            silent = [await connect(sent) for sent in beginnings]
            for reader in silent[:2]:
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), ANSWER_DEADLINE)
            assert not silent[4].at_eof()
            assert await ask(served, context) == 200
            monkeypatch.setattr(FIRST_REQUEST, 0.2)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for((await connect(b"\x16\x03")).read(), ANSWER_DEADLINE)
        finally:
            for writer in writers:
                writer.close()


@pytest.mark.parametrize("kind", ["common_name", "dns"])
async def test_certificate_names_its_user(
    authority: Authority, secured: ServerSettings, kind: str
) -> None:
    """It takes the place of a token, and a token comes before it."""
    server = replace(secured, client_ca=authority.certificate)
    async with serve_routes(
        server,
        access=AccessSettings(auth_token=TOKEN),
        identity=IdentitySettings(certificate_username=kind),
    ) as served:
        options = {
            "ssl": make_client(authority, authority.issue("ann.example")),
            "server_hostname": "localhost",
        }
        told = await (await served.ask("/api/kernels", **options)).json()
        assert told["user"] == "ann.example"
        assert told["credential"].startswith("certificate:")
        told = await (await served.ask("/api/kernels", headers=HEADERS, **options)).json()
        assert told["user"] == "anonymous"
        foreign = {"Origin": "https://evil.example"}
        assert (await served.ask("/api/kernels", "POST", headers=foreign, **options)).status == 403


async def test_certificate_of_another_authority_names_no_user(
    authority: Authority, secured: ServerSettings, tmp_path: Path
) -> None:
    """The connection does not come about."""
    server = replace(secured, client_ca=authority.certificate)
    folder = tmp_path / "other"
    folder.mkdir()
    forged = Authority(folder).issue("ann.example")
    async with serve_routes(
        server,
        access=AccessSettings(),
        identity=IdentitySettings(certificate_username="common_name"),
    ) as served:
        for files in (forged, None):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await served.ask(
                    "/api/kernels", ssl=make_client(authority, files), server_hostname="localhost"
                )
