"""A launcher that keeps the contract of Jupyter Enterprise Gateway's, for tests.

It picks the kernel's ports, reports them encrypted to the response address, forks a listener that
takes signals at the comm port, and becomes the kernel. Without a package of the tests: it is copied
into images. `TEST_LAUNCHER` in the environment makes it break the contract, or use an older one.
"""

import argparse
import base64
import json
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ANYWHERE = "0.0.0.0"
BLOCK_BYTES = 16
ACCEPT_TIMEOUT = 5.0
MIN_PORT_RANGE_SIZE = 1000
OPTIONS = (
    "kernel-id",
    "port-range",
    "response-address",
    "public-key",
    "spark-context-initialization-mode",
)


def read_arguments() -> argparse.Namespace:
    """Read the arguments in both spellings; the newer one counts more."""
    parser = argparse.ArgumentParser()
    for option in OPTIONS:
        name = option.replace("-", "_")
        parser.add_argument(f"--{option}", dest=name)
        parser.add_argument(f"--RemoteProcessProxy.{option}", dest=f"old_{name}")
    parser.add_argument("--kernel-class-name", default="ipykernel.ipkernel.IPythonKernel")
    arguments = parser.parse_args()
    for option in OPTIONS:
        name = option.replace("-", "_")
        setattr(arguments, name, getattr(arguments, name) or getattr(arguments, f"old_{name}"))
    if not (arguments.kernel_id and arguments.public_key):
        parser.error("--kernel-id and --public-key are required")
    return arguments


def bind_socket(port_range: str) -> socket.socket:
    """Bind a socket to a port of the range on all addresses."""
    low, _, high = (port_range or "0..0").partition("..")
    size = int(high) - int(low)
    if size and size < MIN_PORT_RANGE_SIZE:
        sys.exit(f"the port range {port_range} is smaller than {MIN_PORT_RANGE_SIZE}")
    sock = socket.socket()
    sock.bind((ANYWHERE, int(low) + secrets.randbelow(size) if size else 0))
    return sock


def pick_ports(port_range: str) -> dict[str, int]:
    """Return five ports that are free for the moment."""
    names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
    socks = [bind_socket(port_range) for _ in names]
    ports = {name: sock.getsockname()[1] for name, sock in zip(names, socks, strict=True)}
    for sock in socks:
        sock.close()
    return ports


def encrypt_ecb(key: bytes, data: bytes) -> bytes:
    """Encrypt whole blocks with AES-128."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # the contract
    return encryptor.update(data) + encryptor.finalize()


def payload_version_1(document: dict[str, object], public_key: str) -> bytes:
    """Return the payload of today's launchers."""
    key = serialization.load_der_public_key(base64.b64decode(public_key))
    assert isinstance(key, rsa.RSAPublicKey)
    data = json.dumps(document).encode()
    count = BLOCK_BYTES - len(data) % BLOCK_BYTES
    aes_key = secrets.token_bytes(BLOCK_BYTES)
    conn_info = encrypt_ecb(aes_key, data + bytes([count]) * count)
    envelope = {
        "version": 1,
        "key": base64.b64encode(key.encrypt(aes_key, padding.PKCS1v15())).decode(),
        "conn_info": base64.b64encode(conn_info).decode(),
    }
    return base64.b64encode(json.dumps(envelope).encode())


def payload_version_0(document: dict[str, object], kernel_id: str) -> bytes:
    """Return the payload of old launchers, which names no kernel."""
    data = json.dumps({name: document[name] for name in document if name != "kernel_id"}).encode()
    data += b"%" * (-len(data) % BLOCK_BYTES)
    return base64.b64encode(encrypt_ecb(kernel_id[:BLOCK_BYTES].encode(), data))


def report(document: dict[str, object], arguments: argparse.Namespace) -> None:
    """Send the payload, in the way that the test asks for."""
    payload = payload_version_1(document, arguments.public_key)
    match os.environ.get("TEST_LAUNCHER", ""):
        case "version 0":
            payload = payload_version_0(document, arguments.kernel_id)
        case "malformed":
            payload = b"GET / HTTP/1.1\r\n\r\n"
        case "other kernel":
            other = {**document, "kernel_id": str(uuid.uuid4())}
            payload = payload_version_1(other, arguments.public_key)
        case "other version":
            payload = base64.b64encode(b'{"version": 2}')
        case "silent":
            return
    ip, _, port = arguments.response_address.partition(":")
    with socket.create_connection((ip, int(port))) as sock:
        sock.sendall(payload)


def receive_request(sock: socket.socket) -> dict[str, int]:
    """Return the next request, or an empty one after some seconds without."""
    try:
        conn, _ = sock.accept()
    except TimeoutError:
        return {}
    with conn:
        data = b""
        while chunk := conn.recv(1024):
            data += chunk
        return dict(json.loads(data))


def listen(sock: socket.socket, kernel_pid: int) -> None:
    """Act on requests at the comm port until one says shutdown."""
    is_over = False
    while not is_over:
        request = receive_request(sock)
        if "signum" in request:
            os.kill(kernel_pid, request["signum"])
        is_over = bool(request.get("shutdown"))


def main() -> None:
    """Report, fork the listener, be the kernel."""
    test = os.environ.get("TEST_LAUNCHER", "")
    if test == "exits":
        sys.stderr.write("the launcher's last line\n")
        sys.exit(3)
    if test == "new session":
        os.setsid()
    arguments = read_arguments()
    handle, path = tempfile.mkstemp(prefix=f"kernel-{arguments.kernel_id}_", suffix=".json")
    document: dict[str, object] = {
        **pick_ports(arguments.port_range),
        "ip": ANYWHERE,
        "key": str(uuid.uuid4()),
        "transport": "tcp",
        "signature_scheme": "hmac-sha256",
        "kernel_name": "",
    }
    with os.fdopen(handle, "w") as file:
        json.dump(document, file)
    comm_sock = bind_socket(arguments.port_range)
    comm_sock.listen(1)
    comm_sock.settimeout(ACCEPT_TIMEOUT)
    own = {"pid": os.getpid(), "pgid": os.getpgid(0), "kernel_id": arguments.kernel_id}
    report({**document, **own, "comm_port": comm_sock.getsockname()[1]}, arguments)
    fork = multiprocessing.get_context("fork")
    listener = fork.Process(target=listen, args=(comm_sock, os.getpid()))
    listener.start()
    if test == "deaf":
        assert listener.pid is not None
        os.kill(listener.pid, signal.SIGSTOP)

    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415  # as late as Enterprise Gateway's

    app = IPKernelApp.instance(
        kernel_class=arguments.kernel_class_name, connection_file=path, ip=ANYWHERE, user_ns={}
    )
    app.initialize([])
    app.start()
    Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
