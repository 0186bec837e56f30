"""Hooks of schemathesis, which loads this file: what it asks for, and what it must not be told.

`EG_TEST_KERNELS` has ids of kernels that there are; most requests would find none otherwise.
"""

import os
from http import HTTPStatus
from typing import Any

import schemathesis

KERNELS = [each for each in os.environ.get("EG_TEST_KERNELS", "").split(",") if each]
REASONED = frozenset(
    {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
)
_turn = 0


@schemathesis.hook
def map_path_parameters(_context: Any, parameters: Any) -> Any:
    """Ask for a kernel that there is with every other request."""
    global _turn  # noqa: PLW0603 - schemathesis calls functions
    if parameters and "kernel_id" in parameters and KERNELS:
        _turn += 1
        if _turn % 2:
            return {**parameters, "kernel_id": KERNELS[_turn // 2 % len(KERNELS)]}
    return parameters


@schemathesis.check
def has_a_reason(_context: Any, response: Any, _case: Any) -> bool:
    """No 5xx but those that say why, and what to do."""
    status = HTTPStatus(response.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        assert status in REASONED, f"status {status}: {response.text[:500]}"
        answer = response.json()
        assert answer["reason"] == status.phrase
        assert answer["message"]
    return True
