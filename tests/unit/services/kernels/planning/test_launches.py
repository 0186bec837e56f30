"""From a request to a launch."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from enterprise_gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from enterprise_gateway.services.kernels.planning.agent_credentials import derive_agent_token
from enterprise_gateway.services.kernels.planning.launches import (
    StartRequest,
    distinguish_launch,
    plan_launch,
    plan_pooled_launch,
    without_kernelspecs_own,
)
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec, parse_kernelspec
from enterprise_gateway.services.processproxies.contract import LaunchRequest
from enterprise_gateway.services.users import Account
from enterprise_gateway.settings import (
    AgeSettings,
    CullingSettings,
    KernelSettings,
    LimitSettings,
    ResourceSettings,
    Settings,
)
from enterprise_gateway.settings.values.amounts import Amounts
from enterprise_gateway.settings.values.times import Times

SECRET = b"s" * 32
KERNEL_ID = "6f1a3d52-8f5e-4b5e-9f0e-0d6f3f1f5b11"


def make_spec(**changes: Any) -> Kernelspec:
    """Return a kernelspec with some keys of its kernel.json replaced."""
    content = {"argv": ["python", "{connection_file}"], "display_name": "Py", "language": "Python"}
    raw = msgspec.json.encode({**content, **changes})
    return parse_kernelspec("py", Path("/specs/py"), raw, ())


def plan(
    start: StartRequest | None = None,
    kernels: KernelSettings | None = None,
    spec: Kernelspec | None = None,
    account: Account | None = None,
) -> LaunchRequest:
    """Plan a launch with what a test cares about."""
    settings = Settings(kernels=kernels or KernelSettings(), cluster_secret=SECRET)
    return plan_launch(start or StartRequest(), spec or make_spec(), settings, account or Account())


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


def test_ids_of_the_account_win_over_those_of_the_request_and_the_kernelspec() -> None:
    """Each for itself; a local kernel is always the gateway's own user."""
    config = {"process_proxy": {"class_name": "site.Proxy"}}
    start = StartRequest(env={"KERNEL_UID": "5", "KERNEL_GID": "6"})
    env = {"KERNEL_UID": "7"}
    container = make_spec(metadata=config, env=env)
    for account, expected in (
        (Account(), ("5", "6")),
        (Account(uid=20001), ("20001", "6")),
        (Account(uid=20001, gid=20002), ("20001", "20002")),
    ):
        planned = plan(start, spec=container, account=account).env
        assert (planned["KERNEL_UID"], planned["KERNEL_GID"]) == expected
    assert "KERNEL_UID" not in plan(spec=make_spec(), account=Account(uid=5)).env


def test_kernelspec_without_a_language_leaves_the_images_own() -> None:
    """The kernel.json of Enterprise Gateway's documentation has none."""
    assert "KERNEL_LANGUAGE" not in plan(spec=make_spec(language="")).env


def test_plan_environment_has_the_forced_variables() -> None:
    """The variables that EG guarantees are there, whatever a client sends."""
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
    """Anything but a positive, finite number of seconds is the client's error."""
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
    told = plan(kernels=settings, spec=make_spec(metadata={"cull_idle_timeout": 7})).agent_settings
    assert told["cull_idle_timeout"] == 7
    assert told["cull_busy"] is True
    assert told["cull_interval"] == 300


def test_plan_tells_the_agent_the_longest_life_of_the_kernelspec() -> None:
    """A kernelspec's own wins over the settings, be it longer, shorter or none at all."""
    settings = KernelSettings(age=AgeSettings(max_kernel_age=100, max_kernel_age_warning=10))
    for own in (7, 700, 0):
        spec = make_spec(metadata={"max_kernel_age": own})
        told = plan(kernels=settings, spec=spec).agent_settings
        assert (told["max_kernel_age"], told["max_kernel_age_warning"]) == (own, 10)
    assert plan(kernels=settings).agent_settings["max_kernel_age"] == 100


@pytest.mark.parametrize(
    ("key", "value"), [("cull_busy", "yes"), ("max_kernel_age", -1), ("max_kernel_age", "1 h")]
)
def test_plan_refuses_times_that_are_none(key: str, value: object) -> None:
    """A kernelspec with nonsense in it is the operator's error."""
    with pytest.raises(ConfigurationError, match=key):
        plan(spec=make_spec(metadata={key: value}))


TIMED = KernelSettings(
    culling=CullingSettings(cull_idle_timeout=1, cull_busy=True, cull_connected=True),
    age=AgeSettings(max_kernel_age=2),
    resources=ResourceSettings(
        user_times=(
            ("ann@example.org", Times(cull_idle_timeout=10, max_kernel_age=0)),
            ("bob", Times(cull_busy=True)),
        ),
        group_times=(
            ("lab", Times(cull_idle_timeout=20, cull_busy=False, max_kernel_age=21)),
            ("night", Times(cull_idle_timeout=0, cull_busy=True, max_kernel_age=22)),
        ),
    ),
)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("carl", set(), (3, True, 4)),
        ("carl", {"others"}, (3, True, 4)),
        ("carl", {"lab"}, (20, False, 21)),
        ("carl", {"lab", "night"}, (0, False, 22)),
        ("bob", {"lab"}, (20, True, 21)),
        ("ann@example.org", set(), (10, True, 0)),
        ("ann@example.org", {"lab"}, (10, False, 0)),
    ],
)
def test_times_of_the_user_win_over_those_of_the_groups_and_the_kernelspec(
    user: str, groups: set[str], expected: tuple[int, bool, int]
) -> None:
    """Each for itself; among groups the longest, where 0 is for ever and not culled is longer."""
    spec = make_spec(metadata={"cull_idle_timeout": 3, "max_kernel_age": 4})
    start = StartRequest(env={"KERNEL_USERNAME": user})
    told = plan(start, TIMED, spec, Account(frozenset(groups))).agent_settings
    names = ("cull_idle_timeout", "cull_busy", "max_kernel_age")
    assert tuple(told[name] for name in names) == expected
    assert told["cull_connected"] is True


def test_plan_tells_the_agent_the_limits_of_the_kernelspec() -> None:
    """A kernelspec's own limits win over the settings, the others stay."""
    settings = KernelSettings(limits=LimitSettings(max_output_bytes=5, iopub_msg_rate_limit=9.0))
    metadata = {"max_output_bytes": 2**20, "log_max_age": 60}
    told = plan(kernels=settings, spec=make_spec(metadata=metadata)).agent_settings
    assert told["max_output_bytes"] == 2**20
    assert told["log_max_age"] == 60.0
    assert told["iopub_msg_rate_limit"] == 9.0
    assert told["log_memory_bytes"] == 64 * 2**20


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log_memory_bytes", 0),
        ("max_message_bytes", "1 GB"),
        ("max_output_bytes", -1),
        ("iopub_msg_rate_limit", -0.5),
    ],
)
def test_plan_refuses_limits_that_are_none(key: str, value: object) -> None:
    """A kernelspec with nonsense in it is the operator's error, named by its key."""
    with pytest.raises(ConfigurationError, match=key):
        plan(spec=make_spec(metadata={key: value}))


@pytest.mark.parametrize(
    ("client", "interval", "expected"),
    [
        ({}, 60.0, 60.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "40"}, 30.0, 30.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "40"}, 60.0, 30.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "12"}, 30.0, 9.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "3600"}, 5.0, 5.0),
        ({"KERNEL_LAUNCH_TIMEOUT": "12"}, 0.0, 0.0),
    ],
)
def test_pings_come_before_the_client_gives_up(
    client: dict[str, str], interval: float, expected: float
) -> None:
    """jupyter_server's kernel client waits KERNEL_LAUNCH_TIMEOUT for a frame, and says so."""
    told = plan(StartRequest(env=client), kernels=KernelSettings(ws_ping_interval=interval))
    assert told.agent_settings["ping_interval"] == expected


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
    told = plan(kernels=settings, spec=make_spec(interrupt_mode="Message")).agent_settings
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
def test_invalid_command_in_the_image_is_refused(argv: object) -> None:
    """A shell's line would not be split."""
    with pytest.raises(ConfigurationError, match="must be a list of strings, such as"):
        plan(spec=spec_with_argv(argv))


def test_kernels_are_claimed_within_a_minute_unless_their_kernelspec_says_otherwise() -> None:
    """A kernelspec may give its clients more time, or less."""
    assert plan().agent_settings["claim_timeout"] == 60.0
    assert plan(spec=with_config(claim_timeout=3)).agent_settings["claim_timeout"] == 3.0
    for wrong in ("3", 0, -1, None, [], True):
        with pytest.raises(ConfigurationError, match="claim_timeout"):
            plan(spec=with_config(claim_timeout=wrong))


def with_config(**config: Any) -> Kernelspec:
    """Return a kernelspec with a config of its process proxy."""
    return make_spec(metadata={"process_proxy": {"config": config}})


def test_kernelspec_with_volumes_of_users_has_no_pool() -> None:
    """The pool's launch says so, while ordinary ones go on."""
    volumes = [{"type": "volume", "source": "home-{username}", "target": "/home/jovyan"}]
    spec = with_config(volumes=volumes)
    assert plan_launch(StartRequest(), spec, Settings()).config["volumes"] == volumes
    with pytest.raises(ConfigurationError, match="before it has a user"):
        plan_pooled_launch(spec, Settings(), 60.0)


def test_every_launch_has_a_token_of_its_own() -> None:
    """An agent's token opens nothing once its kernel was launched again."""
    launch = plan(StartRequest(kernel_id=KERNEL_ID))
    first, second = distinguish_launch(launch, SECRET), distinguish_launch(launch, SECRET)
    tokens = {launch.agent_token, first.launch_token, second.launch_token}
    assert len(tokens) == 3
    assert first.launch_token == derive_agent_token(SECRET, KERNEL_ID, first.launch_id)
    assert first.tokens == {launch.agent_token, first.launch_token}
    assert launch.tokens == {launch.agent_token}
    assert first.launch_token not in repr(first)


def test_kernels_have_a_spare_unless_settings_or_kernelspec_say_otherwise() -> None:
    """And it imports what the kernelspec names."""
    told = plan().agent_settings
    assert (told["restart_spare"], told["preload"]) == (True, [])
    without = KernelSettings(restart_spare=False)
    assert plan(kernels=without).agent_settings["restart_spare"] is False
    spec = with_config(restart_spare=True, preload=["numpy", "matplotlib.pyplot"])
    told = plan(kernels=without, spec=spec).agent_settings
    assert (told["restart_spare"], told["preload"]) == (True, ["numpy", "matplotlib.pyplot"])


@pytest.mark.parametrize(
    "preload",
    ["numpy", [1], ["a-b"], ["a..b"], [""], ["import x"], ["a"] * 33, ["a" * 201], None, {}],
)
def test_names_that_are_no_modules_are_not_preloaded(preload: object) -> None:
    """The error says what a list of modules looks like."""
    with pytest.raises(ConfigurationError, match=r"preload .* such as"):
        plan(spec=with_config(preload=preload))


@pytest.mark.parametrize("wrong", ["yes", 1, []])
def test_spare_is_wanted_or_not(wrong: object) -> None:
    """Nothing else is guessed."""
    with pytest.raises(ConfigurationError, match="restart_spare"):
        plan(spec=with_config(restart_spare=wrong))


GIB = 1024**3


def test_kernel_is_launched_again_with_the_limits_of_its_kernelspec() -> None:
    """Though a client's size beats them, and its environment does not tell who asked for it."""
    resources = ResourceSettings(sizes=(("small", Amounts(memory=4 * GIB)),))
    kernels = KernelSettings(resources=resources, inherited_env={"KERNEL_SITE": "north"})
    settings = Settings(kernels=kernels, cluster_secret=SECRET)
    spec = make_spec(
        env={"KERNEL_SIZE": "small", "KERNEL_DATA": "/data/$KERNEL_USERNAME", "KERNEL_X": "1"},
        metadata={
            "process_proxy": {
                "class_name": "site.Proxy",
                "config": {"resources": {"memory": "8g"}},
            }
        },
    )
    client = {"KERNEL_USERNAME": "ann", "KERNEL_X": "2"}
    first = plan_launch(StartRequest(env=dict(client)), spec, settings)
    recovered = {name: text for name, text in first.env.items() if name.startswith("KERNEL_")}
    asked = plan_launch(StartRequest(env=dict(recovered)), spec, settings)
    assert asked.resources.amounts.memory == 4 * GIB
    assert first.resources.amounts.memory == 8 * GIB
    sent = without_kernelspecs_own(recovered, first.kernel_id, spec, settings)
    assert sent.keys().isdisjoint({"KERNEL_SIZE", "KERNEL_DATA", "KERNEL_SITE"})
    again = plan_launch(StartRequest(kernel_id=first.kernel_id, env=dict(sent)), spec, settings)
    assert (again.env, again.resources) == (first.env, first.resources)


def test_clients_own_value_is_kept_where_kernel_json_has_another() -> None:
    """Or one that stands for the client's."""
    spec = make_spec(env={"KERNEL_MEMORY": "8g", "KERNEL_TEAM": "$KERNEL_TEAM"})
    client = {"KERNEL_MEMORY": "2g", "KERNEL_TEAM": "red"}
    settings = Settings(cluster_secret=SECRET)
    assert without_kernelspecs_own(client, KERNEL_ID, spec, settings) == client
