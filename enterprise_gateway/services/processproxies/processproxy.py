"""The documented home of the process proxy contract and of `LocalProcessProxy`.

Kernelspecs and bring-your-own classes name this module; what it offers lives in modules of its own.
"""

from enterprise_gateway.services.processproxies.contract import (
    AgentEndpoint,
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.local import LocalProcessProxy

__all__ = [
    "AgentEndpoint",
    "BaseProcessProxyABC",
    "LaunchRequest",
    "LocalProcessProxy",
    "Workload",
    "WorkloadState",
]
