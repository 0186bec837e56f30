"""What the agent reads from its environment."""

import json
import signal

import pytest

from kernel_agent.launch.command import BootstrapScript, Command
from kernel_agent.settings import (
    AgentSettings,
    CullingSettings,
    SettingsError,
    kernel_environment,
    read_settings,
    read_signal,
)

ENV = {"EG_AGENT_TOKEN": "t"}


ARGV = ["--", "kernel"]


def test_settings_have_the_documented_defaults() -> None:
    """Nothing given: the table of docs/agent-interface.md."""
    settings = read_settings(ENV, ARGV)
    kernel = Command(("kernel",))
    assert settings == AgentSettings("", "", "t", "tcp:0.0.0.0:8898", "", "", (0, 0), kernel)


def test_bootstrap_script_takes_the_place_of_a_command() -> None:
    """`--bootstrap FILE`: no command."""
    settings = read_settings(ENV, ["--bootstrap", "/usr/local/bin/bootstrap-kernel.sh"])
    assert settings.kernel == BootstrapScript("/usr/local/bin/bootstrap-kernel.sh")


def test_settings_are_read_from_json() -> None:
    """Known keys are taken, with integers for seconds, unknown ones ignored."""
    document = {
        "kernel_name": "python_docker",
        "interrupt_mode": "message",
        "interrupt_signal": "USR2",
        "launch_timeout": 5,
        "cull_idle_timeout": 60,
        "cull_busy": True,
        "allowed_message_types": ["a"],
        "of_the_future": [1],
        "token": "stolen",
    }
    settings = read_settings({**ENV, "EG_AGENT_SETTINGS": json.dumps(document)}, ARGV)
    assert settings.kernel_name == "python_docker"
    assert settings.interrupt_by_message
    assert settings.interrupt_signal == signal.SIGUSR2
    assert settings.launch_timeout == 5.0
    assert settings.culling == CullingSettings(cull_idle_timeout=60.0, cull_busy=True)
    assert settings.allowed_message_types == ("a",)
    assert settings.token == "t"


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        '{"launch_timeout": "5"}',
        '{"launch_timeout": -1}',
        '{"launch_timeout": true}',
        '{"autorestart": 1}',
        '{"restart_limit": "a"}',
        '{"allowed_message_types": [1]}',
        '{"kernel_name": 1}',
        '{"interrupt_mode": "x"}',
        '{"kernel_argv": "python"}',
        '{"interrupt_signal": "SIGNOTHING"}',
        '{"interrupt_signal": 4711}',
        '{"cull_busy": "yes"}',
    ],
)
def test_settings_of_the_wrong_form_are_refused(document: str) -> None:
    """The error names the setting, not the value."""
    with pytest.raises(SettingsError):
        read_settings({**ENV, "EG_AGENT_SETTINGS": document}, ARGV)


@pytest.mark.parametrize("ports", ["1", "a..b", "5..1", "1..70000", "..", "-1..5"])
def test_malformed_port_range_is_refused(ports: str) -> None:
    """PORT_RANGE is `lo..hi`."""
    with pytest.raises(SettingsError):
        read_settings({**ENV, "PORT_RANGE": ports}, ARGV)


def test_token_and_proper_arguments_are_required() -> None:
    """Arguments begin with `--` and go on, if there are any."""
    for env, argv in ((ENV, ["--"]), (ENV, ["kernel"]), ({}, ARGV), ({}, [])):
        with pytest.raises(SettingsError):
            read_settings(env, argv)


def test_signals_are_given_by_name_or_number() -> None:
    """Both spellings of a name, numbers as int or digits."""
    assert {read_signal(value) for value in ("SIGUSR1", "usr1", 10, "10")} == {signal.SIGUSR1}


def test_real_time_signals_are_signals() -> None:
    """Those between SIGRTMIN and SIGRTMAX have no name; other numbers are refused."""
    assert read_signal(signal.SIGRTMIN + 1) == signal.SIGRTMIN + 1
    assert read_signal(str(signal.SIGRTMAX - 1)) == signal.SIGRTMAX - 1
    for number in (0, -1, signal.SIGRTMAX + 1):
        with pytest.raises(SettingsError):
            read_signal(number)


def test_folder_is_the_gateways_or_one_for_temporary_files() -> None:
    """EG_AGENT_FOLDER and nothing else; or TMPDIR, and then the usual ones."""
    usual = ("/tmp", "/var/tmp", "/dev/shm")
    temporary = {**ENV, "TMPDIR": "/t"}
    assert read_settings(ENV, ARGV).folders == usual
    assert read_settings(temporary, ARGV).folders == ("/t", *usual)
    assert read_settings({**temporary, "EG_AGENT_FOLDER": "/f"}, ARGV).folders == ("/f",)


def test_command_of_the_kernelspec_counts_more_than_that_of_the_image() -> None:
    """`kernel_argv` replaces the arguments; without either the agent has to find a command."""
    given = {**ENV, "EG_AGENT_SETTINGS": '{"kernel_argv": ["my", "{connection_file}"]}'}
    for argv in (ARGV, []):
        assert read_settings(given, argv).kernel == Command(("my", "{connection_file}"))
    assert read_settings(ENV, []).kernel is None


def test_kernel_environment_lacks_what_is_the_agents() -> None:
    """Tokens and addresses are dropped, KERNEL_* stays."""
    env = {"EG_AGENT_TOKEN": "t", "RESPONSE_ADDRESS": "r", "PUBLIC_KEY": "p", "PORT_RANGE": "x"}
    assert kernel_environment({**env, "KERNEL_ID": "1", "PATH": "/"}) == {
        "KERNEL_ID": "1",
        "PATH": "/",
    }
