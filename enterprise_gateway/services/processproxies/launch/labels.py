"""Whether a launch script has labelled a workload with what every gateway reads from it. Pure."""

from enterprise_gateway.services.processproxies.contract import LaunchRequest, Workload
from enterprise_gateway.services.processproxies.launch.base import launch_failure

_REMEDY = "Take that from launch_docker.py of this version."


def check_labels(request: LaunchRequest, workload: Workload) -> None:
    """Check that a workload is the one that was asked for.

    Launch scripts of older days know neither `EG_AGENT_LAUNCH` nor `EG_RESOURCES`.

    Raises:
        LaunchError: it lacks a label; its agent would not be believed, or no limit would hold.
    """
    if request.agent_certificate and workload.launch_id != request.launch_id:
        raise launch_failure(
            request,
            "its traffic would not be encrypted: its launch script does not label it with "
            f"EG_AGENT_LAUNCH. {_REMEDY}",
        )
    resources = request.resources
    if resources.is_binding and workload.usage != resources.usage:
        raise launch_failure(
            request,
            "its limits would not hold, and no quota would count it: its launch script does not "
            f"apply EG_RESOURCES. {_REMEDY}",
        )
