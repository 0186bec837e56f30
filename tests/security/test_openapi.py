"""Requests that schemathesis makes of the OpenAPI description, against a real gateway."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from harness.gateways.gateway import BIN, ROOT, Gateway

pytestmark = pytest.mark.kernel

MAX_SECONDS = 60
ENDLESS = "/api/events"
"""Its stream lasts a quarter of an hour; tests of its own read it."""
WEBSOCKET = "/api/kernels/{kernel_id}/channels"
"""Its answer to a request that is none of a WebSocket is not what the description is about."""
CHECKS = (
    "has_a_reason",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


@pytest.fixture
def local_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with local kernels, and not many of them."""
    gateway = Gateway(
        tmp_path / "gateway",
        env={
            "EG_ALLOWED_KERNELS": "python3",
            "EG_DEFAULT_KERNEL_NAME": "python3",
            "EG_MAX_KERNELS": "3",
        },
    )
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def strict_description() -> dict[str, Any]:
    """Return the description with each status by its number, so that no other is allowed."""
    package = "enterprise_gateway.services.api"
    text = resources.files(package).joinpath("openapi.json").read_text()
    description: dict[str, Any] = json.loads(text)
    refused = description["components"]["responses"]["Refused"]["description"]
    # without a token, pages of other sites get 404; here is one
    statuses = set(re.findall(r"\b4\d\d\b", refused)) - {"404"}
    for path in description["paths"].values():
        for name, operation in path.items():
            if name == "parameters":
                continue
            responses = operation["responses"]
            del responses["default"]
            refusal = responses.pop("4XX")
            for status in statuses:
                responses.setdefault(status, refusal)
    return description


def test_gateway_answers_as_its_description_says(local_gateway: Gateway, tmp_path: Path) -> None:
    """No status that is not described, and no 5xx that does not say why."""
    kernels = [local_gateway.start_kernel("python3") for _ in range(2)]
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(strict_description()))
    run = subprocess.run(
        [
            sys.executable,
            BIN / "schemathesis",
            "run",
            str(description),
            f"--url={local_gateway.url}",
            f"--header=Authorization: token {local_gateway.token}",
            f"--exclude-path={ENDLESS}",
            f"--exclude-path={WEBSOCKET}",
            f"--checks={','.join(CHECKS)}",
            f"--max-time={MAX_SECONDS}",
            "--request-timeout=60",
            "--continue-on-failure",
            "--generation-database=none",
            "--suppress-health-check=all",
            "--warnings=off",
            "--no-color",
        ],
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "harness.clients.openapi_hooks",
            "PYTHONPATH": str(ROOT / "tests"),
            "EG_TEST_KERNELS": ",".join(kernels),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=10 * MAX_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    assert "Traceback" not in local_gateway.read_log()
    assert local_gateway.token not in local_gateway.read_log()
