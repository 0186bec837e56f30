"""The environment of a kernel."""

import pytest

from enterprise_gateway.errors import InvalidRequestError
from enterprise_gateway.services.kernels.planning.environment import (
    MAX_ENVIRONMENT_BYTES,
    MAX_VALUE_CHARS,
    accept_client_env,
    merge_environment,
    recover_client_env,
    recover_kernel_name,
)

NONE: frozenset[str] = frozenset()


def test_client_env_is_limited_to_kernel_variables_and_those_named() -> None:
    """KERNEL_* and client_envs pass, everything else is ignored silently."""
    sent = {"KERNEL_A": "1", "WANTED": "2", "OTHER": "3", "LD_PRELOAD": "x"}
    assert accept_client_env(sent, frozenset({"WANTED"})) == {"KERNEL_A": "1", "WANTED": "2"}


def test_client_env_star_accepts_all_but_the_agents_own() -> None:
    """`*` accepts every name except those by which the gateway talks to its agent."""
    sent = {"A": "1", "EG_AGENT_TOKEN": "x", "PUBLIC_KEY": "x", "RESPONSE_ADDRESS": "x"}
    assert accept_client_env(sent, frozenset({"*"})) == {"A": "1"}


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LD_PRELOAD",
        "PYTHONWARNINGS",
        "DOCKER_NETWORK",
        "EG_REMOVE_CONTAINER",
        "HTTP_PROXY",
        "https_proxy",
        "No_Proxy",
        "ALL_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "OPENSSL_CONF",
        "HOME",
        "XDG_CONFIG_HOME",
        "TMPDIR",
        "HOSTALIASES",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
    ],
)
def test_client_env_star_leaves_out_what_steers_the_launch(name: str) -> None:
    """It would act on the gateway's own machine, not in the kernel; so it has to be named."""
    assert accept_client_env({name: "x"}, frozenset({"*"})) == {}
    assert accept_client_env({name: "x"}, frozenset({"*", name})) == {name: "x"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KERNEL_A", 1, "must be a string"),
        ("KERNEL_A", None, "must be a string"),
        ("KERNEL_A", ["x"], "must be a string"),
        ("KERNEL_A", "x" * (MAX_VALUE_CHARS + 1), "exceeds maximum length"),
        ("KERNEL_A", "a`b`", "prohibited characters"),
        ("KERNEL_A", "a\nb", "prohibited characters"),
        ("KERNEL_A", "a\rb", "prohibited characters"),
        ("KERNEL_A", "a\0b", "prohibited characters"),
        ("KERNEL_A=B", "x", "is not legal"),
        ("KERNEL_A B", "x", "is not legal"),
        ("KERNEL_Ä", "x", "is not legal"),
        ("KERNEL_\0", "x", "is not legal"),
        ("KERNEL_" + 250 * "A", "x", "is not legal"),
    ],
)
def test_client_env_with_a_bad_variable_is_refused(name: str, value: object, says: str) -> None:
    """A bad name or value is the client's error, and the message says which and why."""
    with pytest.raises(InvalidRequestError, match=says):
        accept_client_env({name: value}, NONE)


@pytest.mark.parametrize(
    ("name", "value"),
    [("FUNC_ml%%", "() { :; }"), ("LINES", "a\nb"), ("NUMBER", 1), ("LONG", "x" * 5000)],
)
def test_client_env_star_leaves_out_what_is_faulty(
    caplog: pytest.LogCaptureFixture, name: str, value: object
) -> None:
    """A client that sends all it has gets a kernel; the log names the variable, not its value."""
    sent = {"KERNEL_A": "1", "GOOD": "2", name: value}
    assert accept_client_env(sent, frozenset({"*"})) == {"KERNEL_A": "1", "GOOD": "2"}
    [line] = caplog.messages
    assert name in line
    assert str(value) not in line.replace(name, "") or value == 1
    with pytest.raises(InvalidRequestError):
        accept_client_env(sent, frozenset({"*", name}))


@pytest.mark.parametrize("value", ["", "p$ss", "${HOME}", "ä€", "x" * MAX_VALUE_CHARS, "a\tb"])
def test_client_env_takes_any_other_value(value: str) -> None:
    """Allowed characters reach the kernel unchanged, dollar signs included."""
    assert accept_client_env({"KERNEL_A": value}, NONE) == {"KERNEL_A": value}


def test_client_env_is_limited_in_all() -> None:
    """So much that no process could be started with it is refused."""
    count = MAX_ENVIRONMENT_BYTES // MAX_VALUE_CHARS + 1
    sent = {f"KERNEL_{index}": "x" * MAX_VALUE_CHARS for index in range(count)}
    with pytest.raises(InvalidRequestError, match="altogether"):
        accept_client_env(sent, NONE)


def test_bad_values_of_dropped_variables_do_not_matter() -> None:
    """Ignored variables are not checked."""
    assert accept_client_env({"OTHER": 1, "not legal": "x"}, NONE) == {}


def test_merge_puts_client_before_inherited_before_kernelspec() -> None:
    """The client beats what is inherited, which beats kernel.json."""
    merged = merge_environment(
        inherited={"B": "inherited", "C": "inherited"},
        spec={"A": "spec", "B": "spec", "C": "spec"},
        client={"C": "client"},
        known={"A": "known", "D": "known"},
    )
    assert merged == {"A": "spec", "B": "inherited", "C": "client"}


def test_merge_substitutes_kernelspec_values_once() -> None:
    """kernel.json may refer to the others' variables; what a client wrote is never expanded."""
    merged = merge_environment(
        inherited={"HOME": "/home/ann"},
        spec={"P": "$HOME/${KERNEL_X}:$UNKNOWN:$", "Q": "$KERNEL_Y", "R": "${KERNEL_ID}"},
        client={"KERNEL_X": "x", "KERNEL_Y": "$HOME"},
        known={"HOME": "/root", "KERNEL_ID": "an-id", "KERNEL_X": "known"},
    )
    assert merged["R"] == "an-id"
    assert merged["P"] == "/home/ann/x:$UNKNOWN:$"
    assert merged["Q"] == "$HOME"
    assert merged["KERNEL_Y"] == "$HOME"


def test_merge_removes_the_gateways_secrets() -> None:
    """Tokens of the gateway reach no kernel, wherever they come from."""
    secrets = {"EG_AUTH_TOKEN": "x", "KG_AUTH_TOKEN": "x", "EG_REMOTE_PWD": "x", "LS_COLORS": "x"}
    assert merge_environment(inherited=secrets, spec=secrets, client=secrets, known={}) == {}


def test_recovered_environment_is_what_a_client_could_have_sent() -> None:
    """Nothing of the gateway's, and nothing that would be refused from a client."""
    env = {
        "KERNEL_X": "1",
        "KERNEL_TEXT": "two\nlines",
        "MINE": "2",
        "EG_AGENT_TOKEN": "secret",
        "PUBLIC_KEY": "key",
        "PATH": "/bin",
    }
    assert recover_client_env(env, frozenset({"MINE"})) == {"KERNEL_X": "1", "MINE": "2"}
    assert recover_client_env(env, frozenset({"*"})) == {"KERNEL_X": "1", "MINE": "2"}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ('{"kernel_name": "r_docker", "language": "R"}', "r_docker"),
        ("{}", ""),
        ("[]", ""),
        ('{"kernel_name": 1}', ""),
        ("{", ""),
    ],
)
def test_kernel_name_is_recovered_from_what_the_agent_was_told(settings: str, name: str) -> None:
    """It is "" for a workload of another program."""
    assert recover_kernel_name({"EG_AGENT_SETTINGS": settings}) == name
    assert recover_kernel_name({}) == ""
