"""Where the load balancer sends requests, and what it says if it cannot."""

import socket

import pytest
import requests
from harness.engines.balancer import USER_HEADER, Balancer
from harness.waiting import wait_until

pytestmark = pytest.mark.docker

USUAL_USER_HEADERS = ("X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Auth-Request-User")
"""Removed even if the balancer is not told that gateways read them."""


def test_without_replica_clients_are_told_to_come_again(balancer: Balancer) -> None:
    """In the form of the gateway's own errors."""
    wait_until(lambda: refuses(balancer), what="an answer without replicas")
    answer = balancer.get()
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["reason"] == "Service Unavailable"


def test_replicas_that_come_are_found(balancer: Balancer) -> None:
    """And those that go are left out."""
    with balancer.replica("a"):
        wait_until(lambda: balancer.answering() == {"a"}, what="a replica")
        with balancer.replica("b"):
            wait_until(lambda: balancer.answering() == {"a", "b"}, what="both replicas")
        wait_until(lambda: balancer.answering() == {"a"}, what="the end of a replica")
        assert {balancer.get().status_code for _ in range(10)} == {200}


def test_ready_replicas_are_preferred(balancer: Balancer) -> None:
    """But one that only lives is better than none: it knows what is wrong."""
    with balancer.replica("lives", ready=False):
        wait_until(lambda: balancer.answering() == {"lives"}, what="a replica that lives")
        with balancer.replica("ready"):
            wait_until(lambda: balancer.answering() == {"ready"}, what="a ready replica")


def test_query_of_a_jupyter_server_passes(balancer: Balancer) -> None:
    """It has KERNEL_USERNAME as it is, in UTF-8; and no connection is shared between clients."""
    query = "/api/kernelspecs?user=josé"
    with balancer.replica("a"):
        wait_until(lambda: balancer.answering() == {"a"}, what="a replica")
        heads = [send(balancer.url, query) for _ in range(3)]
        assert [head.split()[1] for head in heads] == [b"200"] * 3


def send(url: str, target: str) -> bytes:
    """Send a request whose target is not escaped; returns the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_only_what_may_be_done_twice_is_repeated(balancer: Balancer) -> None:
    """A replica that goes away without an answer may have done what it was asked."""
    with balancer.replica("a"):
        wait_until(lambda: balancer.answering() == {"a"}, what="a replica")
        posted = requests.post(f"{balancer.url}/drop", json={}, timeout=30)
        got = balancer.get("/drop")
        asked = balancer.get().json()["asked"]
    assert posted.status_code == got.status_code == 502
    assert posted.json()["reason"] == "Bad Gateway"
    assert asked.count("POST") == 1
    assert asked.count("GET") > 1


def test_replica_learns_who_asks(balancer: Balancer) -> None:
    """The client's own words about it do not count."""
    claims = {
        "X-Real-IP": "10.1.2.3",
        "X-Forwarded-Proto": "https",
        "X-Scheme": "https",
        "X-EG-Balancer": balancer.secret,
        **dict.fromkeys((USER_HEADER, *USUAL_USER_HEADERS), "root"),
    }
    with balancer.replica("a"):
        wait_until(lambda: balancer.answering() == {"a"}, what="a replica")
        headers = requests.get(balancer.url, headers=claims, timeout=30).json()["headers"]
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["x-real-ip"] == lower["x-forwarded-for"] != "10.1.2.3"
    assert lower["x-forwarded-proto"] == "http"
    removed = ("X-Scheme", "X-EG-Balancer", USER_HEADER, *USUAL_USER_HEADERS)
    assert not set(map(str.lower, removed)) & lower.keys()


def test_log_has_no_tokens(balancer: Balancer) -> None:
    """Neither those of the query nor those of the path."""
    with balancer.replica("a"):
        wait_until(lambda: balancer.answering() == {"a"}, what="a replica")
        balancer.get("/api/kernels?token=c0ffee01")
        balancer.get("/t/c0ffee02/api/sessions")
    log = wait_until(
        lambda: log if "/api/sessions" in (log := balancer.read_log()) else "", what="the log"
    )
    assert "GET /api/kernels" in log
    assert "c0ffee" not in log


def refuses(balancer: Balancer) -> bool:
    """Whether the balancer, which may not have begun to, answers by itself."""
    try:
        return balancer.get().status_code == 503
    except requests.ConnectionError:
        return False
