"""Bad input never yields a traceback, a server error or a hung request."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.engines.fake_engine import FakeEngine
from harness.gateways.service import Service

MIB = 1024 * 1024
DEEP = b'{"env":' * 50_000
HUGE_ENV = {"env": {f"KERNEL_{number}": "x" * 4096 for number in range(300)}}

BAD_JSON: list[bytes] = [b"{", b"\xff\xfe", b"nonsense", b"{'a': 1}", b"\0", b"{}}", DEEP]
BAD_SHAPES: list[Any] = [[], "x", 1, True, 1e308, {"name": 1}, {"name": ["x"]}, {"name": {}}]
BAD_STARTS: list[Any] = [
    *BAD_SHAPES,
    {"path": 1},
    {"env": []},
    {"env": "x"},
    {"env": {"KERNEL_X": 1}},
    {"env": {"KERNEL_X": None}},
    {"env": {"KERNEL_X": {}}},
    {"env": {"KERNEL_X": "a\0b"}},
    {"env": {"KERNEL_X": "a\nb"}},
    {"env": {"KERNEL_X": "`id`"}},
    {"env": {"KERNEL_X": "x" * 4097}},
    {"env": {"KERNEL_X=Y": "x"}},
    {"env": {"KERNEL_\0": "x"}},
    {"env": {"KERNEL_ID": "x"}},
    {"env": {"KERNEL_ID": "../../../etc/passwd"}},
    {"env": {"KERNEL_LAUNCH_TIMEOUT": "soon"}},
    {"env": {"KERNEL_LAUNCH_TIMEOUT": "-1"}},
    {"env": {"KERNEL_LAUNCH_TIMEOUT": "nan"}},
    {"kernel_id": 1},
    {"kernel_id": "x"},
    {"kernel_id": "A" * 36},
    HUGE_ENV,
]
BAD_SESSIONS: list[Any] = [
    *BAD_SHAPES,
    {"path": 1, "type": "notebook"},
    {"path": "a", "type": 1},
    {"path": "a", "type": "notebook", "kernel": "python3"},
    {"path": "a", "type": "notebook", "kernel": {"id": 1}},
    {"path": "a", "type": "notebook", "kernel": {"name": []}},
    {"path": "a", "type": "notebook", "notebook": []},
    {"path": "x" * 5000, "type": "notebook"},
]


def label(value: Any) -> str:
    """Return a short name for a parameter."""
    return repr(value)[:50]


@pytest.mark.parametrize("raw", BAD_JSON, ids=label)
@pytest.mark.parametrize("path", ["/api/kernels", "/api/sessions"])
async def test_bodies_that_are_not_json(
    service: Service, engine: FakeEngine, path: str, raw: bytes
) -> None:
    """400 in the usual shape, and nothing is started."""
    answer = await service.ask("POST", path, data=raw)
    assert answer.status == 400
    assert answer.message
    assert not engine.requests


@pytest.mark.parametrize("body", BAD_STARTS, ids=label)
async def test_bodies_that_are_no_start(service: Service, engine: FakeEngine, body: Any) -> None:
    """400 with what is wrong, and nothing is started."""
    data = io.BytesIO(json.dumps(body).encode())
    answer = await service.ask("POST", "/api/kernels", data=data)
    assert answer.status == 400
    assert answer.message
    assert not engine.requests


@pytest.mark.parametrize("body", BAD_SESSIONS, ids=label)
async def test_bodies_that_are_no_session(service: Service, engine: FakeEngine, body: Any) -> None:
    """The same for sessions."""
    answer = await service.ask("POST", "/api/sessions", json=body)
    assert answer.status == 400
    assert answer.message
    assert not engine.requests


@pytest.mark.parametrize("path", ["/api/kernels", "/api/sessions"])
async def test_body_of_ten_megabytes(service: Service, engine: FakeEngine, path: str) -> None:
    """413, whether or not the length is announced."""
    raw = json.dumps({"path": "x" * 10 * MIB}).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), MIB):
            yield raw[start : start + MIB]

    for data in (io.BytesIO(raw), in_pieces()):
        assert (await service.ask("POST", path, data=data)).status == 413
    assert not engine.requests


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/kernels/%ff%fe"),
        ("GET", "/api/kernels/" + "a" * 8000),
        ("DELETE", "/api/kernels/%00"),
        ("POST", "/api/kernels/x/selfdestruct"),
        ("PUT", "/api/kernels"),
        ("GET", "/api/kernelspecs/%00"),
        ("GET", "/api/kernelspecs/" + "a" * 8000),
        ("GET", "/api/sessions/%F0%9F"),
        ("GET", "/api/contents"),
        ("GET", "/%00"),
        ("GET", "/api//kernels"),
        ("GET", "/api/kernelspecs?user=%ff"),
    ],
    ids=label,
)
async def test_strange_requests(service: Service, method: str, path: str) -> None:
    """Neither a server error nor anything but JSON."""
    answer = await service.ask(method, path)
    assert answer.status < 500
    assert b"Traceback" not in answer.raw
    assert isinstance(answer.body, dict)


async def test_strange_headers_on_a_start(service: Service) -> None:
    """The content type does not matter, an unknown encoding of the body does."""
    odd = {"Content-Type": "text/plain; charset=nonsense"}
    assert (await service.ask("POST", "/api/kernels", data=b"{}", headers=odd)).status == 201
    packed = {"Content-Encoding": "deflate"}
    answer = await service.ask("POST", "/api/kernels", data=b"not packed", headers=packed)
    assert answer.status == 415
    assert answer.message
