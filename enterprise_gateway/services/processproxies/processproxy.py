"""The documented import path of the process proxy contract and of `LocalProcessProxy`.

Kernelspecs and bring-your-own classes import these names from here; other modules define them.
docs/writing-process-proxies.md says what each is for.
"""

from enterprise_gateway.services.processproxies.contract import (
    ORDERLY_EXIT,
    AgentEndpoint,
    BaseProcessProxyABC,
    LaunchRequest,
    Workload,
    WorkloadState,
)
from enterprise_gateway.services.processproxies.launch.base import (
    LaunchTools,
    ReportingProcessProxy,
    check_report,
    launch_failure,
    launch_timeout,
)
from enterprise_gateway.services.processproxies.launch.kernelspec import (
    format_argv,
    resolve_port_range,
)
from enterprise_gateway.services.processproxies.local.proxy import LocalProcessProxy
from enterprise_gateway.services.processproxies.responses.listener import ResponseEndpoint
from enterprise_gateway.services.processproxies.responses.report import Report
from enterprise_gateway.services.processproxies.steps import Step
from enterprise_gateway.services.processproxies.workloads.feed import WorkloadFeed
from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    workload_name,
)

__all__ = [
    "ORDERLY_EXIT",
    "AgentEndpoint",
    "BaseProcessProxyABC",
    "LaunchRequest",
    "LaunchTools",
    "LocalProcessProxy",
    "Report",
    "ReportingProcessProxy",
    "ResponseEndpoint",
    "Step",
    "Workload",
    "WorkloadFeed",
    "WorkloadState",
    "check_report",
    "escape_username",
    "format_argv",
    "launch_failure",
    "launch_timeout",
    "resolve_port_range",
    "workload_name",
]
