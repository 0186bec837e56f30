"""Options: each is declared once, by the field that it sets."""

from collections import Counter
from dataclasses import replace

from enterprise_gateway.settings import DockerSettings, ServerSettings, Settings
from enterprise_gateway.settings.option import find_all_options, keep_start_values


def test_no_option_and_no_variable_is_declared_twice() -> None:
    """The second of two fields would take the place of the first one."""
    options = [option for _, option in find_all_options(Settings)]
    names = Counter((option.section, option.name) for option in options)
    variables = Counter(name for option in options for name in (*option.env, *option.old_env))
    assert set(names.values()) == set(variables.values()) == {1}


def test_start_only_settings_survive_a_reload() -> None:
    """Groups, fields of groups and derived values stay; all others change."""
    before = Settings(
        server=ServerSettings(port=1),
        docker=DockerSettings(host="tcp://before", network="before"),
        cluster_secret=b"before",
    )
    after = Settings(
        server=ServerSettings(port=2),
        docker=DockerSettings(host="tcp://after", network="after"),
        cluster_secret=b"after",
    )
    kept = keep_start_values(after, before)
    assert kept == replace(before, docker=DockerSettings(host="tcp://before", network="after"))
