"""VS Code's Jupyter extension: its sequence of requests, straight at the gateway.

The extension cannot run here. What it sends is known from its source: it validates a server with
the two lists, keeps a session for each notebook, and offers the v1 codec.
"""

import uuid

import pytest
import requests
from harness.clients.gateway_client import REQUEST_TIMEOUT
from harness.gateways.gateway import Gateway

from jupyter_wire.messages import Codec

pytestmark = [pytest.mark.client, pytest.mark.kernel]


def test_server_is_validated_by_its_lists(gateway: Gateway) -> None:
    """Both lists answer 200 with the token in the query."""
    for path in ("/api/kernels", "/api/kernelspecs"):
        answer = requests.get(f"{gateway.url}{path}?token={gateway.token}", timeout=REQUEST_TIMEOUT)
        assert answer.status_code == 200, answer.text


def test_notebook_session_lives_its_whole_life(gateway: Gateway, kernel_name: str) -> None:
    """Make a session, run a cell, rename it, change its kernel, delete it and its kernel."""
    path = f"notebook-jvsc-{uuid.uuid4()}.ipynb"
    body = {
        "path": path,
        "name": path,
        "type": "notebook",
        "kernel": {"name": kernel_name},
    }
    created = gateway.request("POST", "/api/sessions", json=body)
    assert created.status_code == 201, created.text
    session = created.json()
    session_path = f"/api/sessions/{session['id']}"
    assert created.headers["Location"].endswith(session_path)
    assert (session["path"], session["name"], session["type"]) == (path, path, "notebook")
    first_kernel = session["kernel"]["id"]

    channels = gateway.connect(first_kernel, codec=Codec.V1)
    assert channels.request("kernel_info_request").content["status"] == "ok"
    assert channels.execute("6*7").result == "42"
    channels.close()

    assert gateway.request("POST", "/api/sessions", json=body).json()["id"] == session["id"]
    assert session["id"] in {each["id"] for each in gateway.get("/api/sessions")}

    renamed = gateway.request("PATCH", session_path, json={"path": "b.ipynb", "name": "b.ipynb"})
    assert renamed.status_code == 200, renamed.text
    assert gateway.get(session_path)["path"] == "b.ipynb"

    changed = gateway.request("PATCH", session_path, json={"kernel": {"name": kernel_name}})
    assert changed.status_code == 200, changed.text
    second_kernel = changed.json()["kernel"]["id"]
    assert second_kernel != first_kernel
    gateway.wait_until_gone(first_kernel)

    assert gateway.request("DELETE", session_path).status_code == 204
    assert gateway.request("GET", session_path).status_code == 404
    gateway.wait_until_gone(second_kernel)
    gateway.wait_until_no_kernels()
