"""From a request to a launch."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernels.launches import StartRequest, plan_launch
from enterprise_gateway.services.kernels.tokens import derive_agent_token
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.settings import CullingSettings, KernelSettings

SECRET = b"s" * 32
KERNEL_ID = "6f1a3d52-8f5e-4b5e-9f0e-0d6f3f1f5b11"


def make_spec(**changes: Any) -> Kernelspec:
    """Return a kernelspec with some keys of its kernel.json replaced."""
    content = {"argv": ["python", "{connection_file}"], "display_name": "Py", "language": "Python"}
    raw = msgspec.json.encode({**content, **changes})
    return parse_kernelspec("py", Path("/specs/py"), raw, ())


def plan(
    start: StartRequest | None = None,
    settings: KernelSettings | None = None,
    spec: Kernelspec | None = None,
) -> LaunchRequest:
    """Plan a launch with what a test cares about."""
    return plan_launch(
        start or StartRequest(), spec or make_spec(), settings or KernelSettings(), SECRET
    )


def test_plan_carries_what_the_process_proxy_needs() -> None:
    """Ids, command, folder, token and time come from where they belong."""
    launch = plan(StartRequest(kernel_id=KERNEL_ID, env={"KERNEL_USERNAME": "ann"}))
    assert launch.kernel_id == KERNEL_ID
    assert launch.kernel_name == "py"
    assert launch.username == "ann"
    assert launch.argv == ("python", "{connection_file}")
    assert launch.resource_dir == "/specs/py"
    assert launch.agent_token == derive_agent_token(SECRET, KERNEL_ID)
    assert launch.timeout == 30.0


def test_plan_environment_has_the_forced_variables() -> None:
    """What EG guarantees every kernel is there, whatever a client says."""
    settings = KernelSettings(default_username="eg")
    env = plan(StartRequest(env={"KERNEL_GATEWAY": "0"}), settings).env
    assert env["KERNEL_GATEWAY"] == "1"
    assert env["KERNEL_USERNAME"] == "eg"
    assert env["KERNEL_LANGUAGE"] == "python"
    assert env["EG_IMPERSONATION_ENABLED"] == "False"
    assert "PATH" not in env


def test_plan_makes_an_id_if_none_is_given() -> None:
    """Two plans have two ids, and the environment says the same as the request."""
    first, second = plan(), plan()
    assert first.kernel_id != second.kernel_id
    assert first.env["KERNEL_ID"] == first.kernel_id


@pytest.mark.parametrize(
    "start",
    [
        StartRequest(kernel_id="x"),
        StartRequest(kernel_id=KERNEL_ID.upper()),
        StartRequest(kernel_id=KERNEL_ID.replace("-", "")),
        StartRequest(kernel_id=f"{{{KERNEL_ID}}}"),
        StartRequest(env={"KERNEL_ID": "../../etc"}),
        StartRequest(env={"KERNEL_ID": KERNEL_ID + "\u0660"}),
        StartRequest(kernel_id=KERNEL_ID, env={"KERNEL_ID": KERNEL_ID[:-1] + "0"}),
    ],
)
def test_plan_refuses_ids_that_are_not_canonical(start: StartRequest) -> None:
    """A kernel id becomes a name and a path elsewhere, so its form is strict."""
    with pytest.raises(InvalidRequestError):
        plan(start)


@pytest.mark.parametrize(("text", "seconds"), [("40", 40.0), ("0.5", 0.5), ("1e2", 100.0)])
def test_plan_takes_the_clients_launch_timeout(text: str, seconds: float) -> None:
    """KERNEL_LAUNCH_TIMEOUT beats the setting."""
    assert plan(StartRequest(env={"KERNEL_LAUNCH_TIMEOUT": text})).timeout == seconds


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "0", "-1", "1e9"])
def test_plan_refuses_launch_timeouts_that_are_no_sensible_number(text: str) -> None:
    """What is no positive, finite number of seconds is the client's error."""
    with pytest.raises(InvalidRequestError, match="KERNEL_LAUNCH_TIMEOUT"):
        plan(StartRequest(env={"KERNEL_LAUNCH_TIMEOUT": text}))


def test_plan_refuses_users_in_egs_words() -> None:
    """The two refusals differ as operators know them from EG."""
    root = StartRequest(env={"KERNEL_USERNAME": "root"})
    with pytest.raises(
        ForbiddenError, match=r"^User 'root' is not authorized to start kernel 'Py'"
    ):
        plan(root)
    spec = make_spec(metadata={"process_proxy": {"config": {"authorized_users": "ann"}}})
    bob = StartRequest(env={"KERNEL_USERNAME": "bob"})
    with pytest.raises(ForbiddenError, match="'bob' is not in the set of users authorized to"):
        plan(bob, spec=spec)


def test_plan_tells_the_agent_the_culling_of_the_kernelspec() -> None:
    """A kernelspec's own culling keys win over the settings, the others stay."""
    settings = KernelSettings(culling=CullingSettings(cull_idle_timeout=100, cull_busy=True))
    told = plan(settings=settings, spec=make_spec(metadata={"cull_idle_timeout": 7})).agent_settings
    assert told["cull_idle_timeout"] == 7
    assert told["cull_busy"] is True
    assert told["cull_interval"] == 300


def test_plan_refuses_culling_of_the_wrong_type() -> None:
    """A kernelspec with nonsense in it is the operator's error."""
    with pytest.raises(ConfigurationError, match="cull_busy"):
        plan(spec=make_spec(metadata={"cull_busy": "yes"}))


@pytest.mark.parametrize("text", ["SIGUSR2", "10", "35", "63"])
def test_plan_tells_the_agent_the_alternate_interrupt(text: str) -> None:
    """EG_ALTERNATE_SIGINT of kernel.json is by name or number, also of a real-time signal."""
    told = plan(spec=make_spec(env={"EG_ALTERNATE_SIGINT": text})).agent_settings
    assert told["interrupt_signal"] == text


@pytest.mark.parametrize("text", ["SIGNOTHING", "9999", "0", ""])
def test_plan_refuses_alternate_interrupts_that_are_no_signal(text: str) -> None:
    """A misspelt signal is found at the start, not at the first interrupt."""
    with pytest.raises(ConfigurationError, match="EG_ALTERNATE_SIGINT"):
        plan(spec=make_spec(env={"EG_ALTERNATE_SIGINT": text}))


def test_plan_tells_the_agent_the_rest_of_the_settings() -> None:
    """Modes, waits and filters reach the agent under the names of the wire contract."""
    settings = KernelSettings(
        autorestart=False, ws_ping_interval=7.0, allow_tracebacks=False, kernel_info_timeout=20.0
    )
    told = plan(settings=settings, spec=make_spec(interrupt_mode="Message")).agent_settings
    assert told["interrupt_mode"] == "message"
    assert told["autorestart"] is False
    assert told["ping_interval"] == 7.0
    assert told["allow_tracebacks"] is False
    assert told["launch_timeout"] == 20.0


def spec_with_argv(argv: object) -> Kernelspec:
    """Return a kernelspec that says what its image is to run."""
    return make_spec(
        metadata={"process_proxy": {"class_name": "x.Y", "config": {"argv": argv}}},
    )


def test_command_in_the_image_reaches_the_agent() -> None:
    """As it stands: braces in it are the agent's to replace."""
    argv = ["ir", "{connection_file}"]
    assert plan(spec=spec_with_argv(argv)).agent_settings["kernel_argv"] == argv
    assert plan().agent_settings["kernel_argv"] == []


@pytest.mark.parametrize("argv", ["ir {connection_file}", ["ir", 1], {}, None])
def test_command_in_the_image_that_is_none_is_told(argv: object) -> None:
    """A shell's line would be taken apart by nobody."""
    with pytest.raises(ConfigurationError, match="must be a list of texts, such as"):
        plan(spec=spec_with_argv(argv))
