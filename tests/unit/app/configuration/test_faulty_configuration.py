"""A configuration with a fault ends the start with one line that says where it is."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from enterprise_gateway.app import EnterpriseGatewayApp
from enterprise_gateway.app.authorizer import load_authorizer
from enterprise_gateway.app.configuration.environment import find_unknown, is_slip
from enterprise_gateway.app.managers import CLASSES
from enterprise_gateway.errors import ConfigurationError

MakeApp = Callable[..., EnterpriseGatewayApp]
FILE = "jupyter_enterprise_gateway_config.py"

# what is in the file, the line that is named, what else is said
FAULTY_FILES = [
    ("\nc.EnterpriseGatewayApp.port = = 1\n", 2, "SyntaxError"),
    ("x = 1\nx / 0\n", 2, "ZeroDivisionError"),
    ("import no_such_module\n", 1, "no_such_module"),
    ("raise SystemExit\n", 1, "SystemExit"),
    ("raise ValueError('a\\nb')\n", 1, "ValueError: a b"),
    ("\n\nc.EnterpriseGatewayApp.max_kernles = 1\n", 3, "did you mean Ent"),
    ("c.EnterpriseGatewayApp.cull_idle_timeout = 1\n", 1, "MappingKernelManager.cull_idle_timeout"),
    ("c.EnterpriseGatewayApp.client_envs.append('A')\nc.KernelSpecManager.alowed = 1", 2, "alowed"),
    ("c.EnterpriseGateway.port = 1\n", 1, "did you mean EnterpriseGatewayApp"),
    ("c.max_kernels = 1\n", 1, "must be a class"),
    ("c.EnterpriseGatewayApp.max_kernels = 'many'\n", 1, "an int"),
    ("c.EnterpriseGatewayApp.port.append(1)\n", 1, "port must be an int"),
    ("c.EnterpriseGatewayApp.authorized_users.append('a')\n", 1, "authorized_users must be a set"),
    ("c.EnterpriseGatewayApp.client_envs.update({'a'})\n", 1, "client_envs must be a list"),
    ("c.EnterpriseGatewayApp.port = 65536\n", 1, "from 0 to 65535"),
    ("c.KernelManager.shutdown_wait_time = -1\n", 1, "of at least 0"),
    ("c.EnterpriseGatewayApp.authorized_users = 5\n", 1, "set"),
    ("if True:\n    c.EnterpriseGatewayApp.max_kernels == 5\n", 2, "max_kernels is named"),
    ("c.EnterpriseGatewayApp.authorized_users: {'ann'}\n", 1, "not set"),
    ("c.EnterpriseGatewayApp.kernel_launch_timeout = float('nan')\n", 1, "a float"),
    ("c.KernelManager.shutdown_wait_time = float('inf')\n", 1, "a float"),
]  # fmt: skip

# the command line, what is said
FAULTY_LINES = [
    (["--prot=99"], "Unknown option --prot; did you mean --port?"),
    (["--nonsense"], "Unknown option --nonsense"),
    (["-x"], "Unknown option -x"),
    (["--port"], "port: expected one argument"),
    (["--port=x"], "port"),
    (["--port=99999"], "from 0 to 65535"),
    (["--EnterpriseGatewayApp.max_kernel=5"], "did you mean EnterpriseGatewayApp.max_kernels?"),
    (["--enterprisegatewayapp.port=1"], "did you mean --EnterpriseGatewayApp.port?"),
    (["--mappingkernelmanager.cull_busy=1"], "did you mean --MappingKernelManager.cull_busy?"),
    (["--EnterpriseGatewayApp.kernel_launch_timeout=nan"], "a float"),
    (["--EnterpriseGatewayApp.log_format=%(nope)s"], "log_format"),
    (["--EnterpriseGatewayApp.log_format=%(name"], "log_format"),
    (["--EnterpriseGateway.port=1"], "did you mean EnterpriseGatewayApp?"),
    (["foo"], "'foo' is not a command of jupyter enterprisegateway"),
    (["kernel", "list"], "did you mean kernels?"),
    (["--port=1", "kernels"], "'kernels'"),
    (["kernels", "lst"], "did you mean list?"),
    (["kernels", "list", "--port=1"], "Unknown option --port"),
    (["kernels", "list", "x"], "'x'"),
    (["--config=/nope.py"], "There is no configuration file /nope.py"),
    (["--config=/"], "There is no configuration file /"),
    (["--config=/etc/passwd.conf"], "Python or JSON"),
]


def end_of(make_app: MakeApp, capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    """Start, and return the one line that the start ends with."""
    with pytest.raises(SystemExit) as ended:
        make_app(*argv)
    assert ended.value.code == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1, printed.err
    assert printed.err.startswith("[C ")
    return printed.err


@pytest.mark.parametrize(("text", "line", "said"), FAULTY_FILES)
@pytest.mark.parametrize("place", ["folder", "--config"])
def test_faulty_file_ends_the_start(
    make_app: MakeApp,
    capfd: pytest.CaptureFixture[str],
    config_file: Path,
    tmp_path: Path,
    place: str,
    text: str,
    line: int,
    said: str,
) -> None:
    """No gateway runs without the token and limits that its operator wrote down."""
    named = tmp_path / "own.py"
    file = config_file if place == "folder" else named
    file.write_text(text)
    message = end_of(make_app, capfd, *([] if file is config_file else [f"--config={named}"]))
    assert f"{file}:{line}" in message
    assert said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"EnterpriseGatewayApp": {', ":1"), ('{"EnterpriseGatewayApp": {"prot": 1}}', "prot")],
)
def test_faulty_json_file_ends_the_start(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], tmp_path: Path, content: str, said: str
) -> None:
    """As Python files."""
    file = tmp_path / "own.json"
    file.write_text(content)
    message = end_of(make_app, capfd, f"--config={file}")
    assert f"{file}:1" in message
    assert said in message


@pytest.mark.parametrize(("argv", "said"), FAULTY_LINES)
def test_faulty_command_line_ends_the_start(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    """A slip of the pen starts no gateway on another port, or without a token."""
    assert said in end_of(make_app, capfd, *argv)


@pytest.mark.parametrize(
    "handler", [{"class": "logging.NoHandler"}, {"class": "logging.FileHandler", "filename": "/"}]
)
def test_faulty_logging_configuration_ends_the_start(
    make_app: MakeApp,
    capfd: pytest.CaptureFixture[str],
    config_file: Path,
    handler: dict[str, str],
) -> None:
    """The usual log names the fault."""
    config_file.write_text(f"c.Application.logging_config = {{'handlers': {{'own': {handler}}}}}\n")
    assert "logging_config cannot be used" in end_of(make_app, capfd)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("port_range", "42000..40000", "Invalid port range"),
        ("port_range", "40000..40010", "at least 1000"),
        ("prohibited_local_ips", "[", "not a regular expression"),
        ("authorizer_class", "os.path.join", "not a class with a method is_authorized"),
        ("authorizer_class", "pathlib.Path", "not a class with a method is_authorized"),
    ],
)
def test_value_without_which_nothing_works_ends_the_start(
    make_app: MakeApp, option: str, value: str, said: str
) -> None:
    """No gateway runs on which every start of a kernel fails."""
    app = make_app(f"--EnterpriseGatewayApp.{option}={value}")
    with pytest.raises(ConfigurationError, match=said):
        load_authorizer(app.read_settings().access.authorizer_class, app)


@pytest.mark.parametrize("folder", ["RUNTIME", "DATA"])
def test_folder_that_cannot_be_made_is_named(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A volume that is mounted read-only is told as such."""
    monkeypatch.setenv(f"JUPYTER_{folder}_DIR", "/proc/no")
    with pytest.raises(ConfigurationError, match="/proc/no"):
        make_app().read_settings()


def test_further_file_that_is_missing_is_named(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """As in traitlets, the file may be missing; its options are not in force then."""
    config_file.write_text("load_subconfig('limits.py')\n")
    config_file.with_name("others.py").write_text("c.EnterpriseGatewayApp.max_kernels == 1\n")
    make_app()
    assert f"{config_file}: there is no file limits.py to load" in capfd.readouterr().err
    config_file.write_text("load_subconfig('others.py')\n")
    assert "others.py:1: " in end_of(make_app, capfd)


def test_fault_of_a_secret_does_not_show_it(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """The token is in no log, even if it is of the wrong type."""
    for operator in ("=", "==", ":"):
        config_file.write_text(f"c.EnterpriseGatewayApp.auth_token {operator} 123456\n")
        message = end_of(make_app, capfd)
        assert "auth_token" in message
        assert "123456" not in message


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EG_MAX_KERNEL", "5", "did you mean EG_MAX_KERNELS?"),
        ("EG_PROT", "5", "did you mean EG_PORT?"),
        ("KG_AUTH_TOKN", "5", "did you mean KG_AUTH_TOKEN?"),
        ("EG_CULL_IDEL_TIMEOUTS", "5", "did you mean EG_CULL_IDLE_TIMEOUT?"),
        ("EG_PORT", "70000", "from 0 to 65535"),
        ("EG_LOG_LEVEL", "LOUD", "EG_LOG_LEVEL"),
    ],
)
def test_faulty_variable_ends_the_start(
    make_app: MakeApp,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    """A variable that nearly is one of the gateway's was meant to be it."""
    monkeypatch.setenv(variable, value)
    message = end_of(make_app, capfd)
    assert variable in message
    assert said in message


def test_variables_of_the_site_are_named_and_those_of_the_project_are_not(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launch scripts have variables of their own; a gateway may be started in a kernel."""
    for name in ("EG_SITE_DATA", "EG_AGENT_TOKEN", "EG_IMAGE", "EG_DOCKER_MODE", "EG_CLUSTER_ID"):
        monkeypatch.setenv(name, "value")
    make_app()
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("[W ")
    assert line.endswith("none of its options: EG_SITE_DATA")
    assert "value" not in line


@pytest.mark.parametrize(
    ("written", "is_one"),
    [("EG_PORTS", True), ("EG_OPRT", True), ("EG_PRT", True), ("EG_PORTAL", False)],
)  # fmt: skip
def test_slip_is_a_letter_in_a_short_name(written: str, *, is_one: bool) -> None:
    """Other names are a site's own."""
    assert is_slip(written, "EG_PORT") is is_one


def test_file_shared_by_jupyter_applications_may_speak_of_others(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """Other applications share `jupyter_config`; its options of the gateway are checked."""
    shared = config_file.with_name("jupyter_config.json")
    content: dict[str, dict[str, object]] = {
        "ServerApp": {"open_browser": False},
        "KernelSpecManager": {"unheard_of": 1},
    }
    shared.write_text(json.dumps(content))
    make_app()
    assert capfd.readouterr().err == ""
    content["KernelSpecManager"] = {"ensure_native_kernel": "maybe"}
    shared.write_text(json.dumps(content))
    assert str(shared) in end_of(make_app, capfd)


def test_options_of_an_authorizer_are_its_own(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """A class that the site brings takes options, in files and on the command line."""
    name = "jupyter_server.auth.authorizer.Authorizer"
    config_file.write_text(
        f"c.EnterpriseGatewayApp.authorizer_class = '{name}'\nc.Authorizer.anything = 1\n"
    )
    make_app("--Authorizer.other=2")
    config_file.write_text("c.Authorizer.anything = 1\n")
    assert "Authorizer is an unknown class of options" in end_of(make_app, capfd)


def test_lists_and_sets_can_be_added_to(make_app: MakeApp, config_file: Path) -> None:
    """As traitlets allows it."""
    config_file.write_text(
        "c.EnterpriseGatewayApp.client_envs.append('A')\n"
        "c.EnterpriseGatewayApp.unauthorized_users.add('eve')\n"
        "c.EnterpriseGatewayApp.max_kernels\n"
    )
    kernels = make_app().read_settings().kernels
    assert (kernels.client_envs, kernels.unauthorized_users) == ({"A"}, {"root", "eve"})


def test_nested_sections_and_empty_ones_are_taken(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], config_file: Path
) -> None:
    """As traitlets takes them."""
    config_file.write_text(
        "c.ServerApp\nc.EnterpriseGatewayApp.RemoteMappingKernelManager.cull_idle_timeout = 7\n"
    )
    settings = make_app().read_settings()
    assert settings.kernels.culling.cull_idle_timeout == 7
    config_file.write_text("c.EnterpriseGatewayApp.RemoteMappingKernelManager.cull_idle = 7\n")
    assert "cull_idle" in end_of(make_app, capfd)


def test_faulty_file_is_one_error_while_the_gateway_runs(
    make_app: MakeApp, config_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The settings stay in force, and the fault is logged once."""
    config_file.write_text("c.EnterpriseGatewayApp.max_kernels = 1\n")
    app = make_app()
    for text in (
        "c.EnterpriseGatewayApp.max_kernles = 2",
        "((",
        "c.EnterpriseGatewayApp.port = ''",
    ):
        config_file.write_text(text)
        with pytest.raises(ConfigurationError, match=FILE):
            app.read_again()
    assert capfd.readouterr().err == ""
    assert logging.getLogger("EnterpriseGatewayApp").handlers


def test_generated_file_names_every_option_once(make_app: MakeApp) -> None:
    """Culling options are under one class, and options without effect come last."""
    text = make_app().generate_config_file()
    assert text.count("cull_idle_timeout =") == 1
    meaningful, ignored = text.split("without effect here")
    assert "# c.EnterpriseGatewayApp.yarn_endpoint  # no YARN" in ignored
    assert "yarn" not in meaningful


def test_shown_configuration_hides_foreign_secrets(
    make_app: MakeApp, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration that came from Enterprise Gateway holds passwords, too."""
    config_file.write_text(
        "c.WebhookKernelSessionManager.webhook_password = 'do-not-show'\n"
        "c.EnterpriseGatewayApp.auth_token_file = '/run/secrets/token'\n"
    )
    make_app("--show-config").start()
    shown = capsys.readouterr().out
    assert "webhook_password" in shown
    assert "do-not-show" not in shown
    assert "/run/secrets/token" in shown


@pytest.mark.parametrize("argv", [[], ["kernels"], ["kernels", "list"]])
def test_help_names_a_command_that_exists(
    make_app: MakeApp, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    """Commands in `--help` can be typed, and it explains the token."""
    with pytest.raises(SystemExit):
        make_app(*argv, "--help")
    text = capsys.readouterr().out
    assert "jupyter-enterprise" not in text
    assert "Default: 30" not in text or argv
    assert ("EG_AUTH_TOKEN" in text) is not bool(argv)
    assert ("--port" in text) is not bool(argv)


@pytest.mark.parametrize("folder", ["etc", "kernel_agent"])
def test_variables_of_the_project_are_known(folder: str, make_app: MakeApp) -> None:
    """An operator who deploys the stack, or a user in a kernel, may have them set."""
    make_app()
    files = (Path(__file__).parents[4] / folder).rglob("*")
    texts = (file.read_text(errors="replace") for file in files if file.is_file())
    named = {name for text in texts for name in re.findall(r"\b[EK]G_[A-Z]+(?:_[A-Z]+)*\b", text)}
    assert find_unknown(dict.fromkeys(named, ""), (EnterpriseGatewayApp, *CLASSES)) == []
