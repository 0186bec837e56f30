"""The traits of options."""

from typing import Any

import pytest
import traitlets
from traitlets.config import LoggingConfigurable

from enterprise_gateway.app.application import EnterpriseGatewayApp
from enterprise_gateway.app.compose import read_group
from enterprise_gateway.app.configuration.check import find_sections
from enterprise_gateway.app.managers import CLASSES, KernelSpecManager, MappingKernelManager
from enterprise_gateway.app.options import HasOptions, make_trait
from enterprise_gateway.settings import Settings
from enterprise_gateway.settings.limits import LimitSettings
from enterprise_gateway.settings.option import Option, find_all_options

OPTIONS = [option for _, option in find_all_options(Settings)]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_is_a_trait_of_its_section(option: Option) -> None:
    """An option under a class that does not exist could never be set."""
    trait = find_sections((EnterpriseGatewayApp, *CLASSES))[option.section][option.name]
    assert trait.help == option.help
    assert trait.metadata.get("env", ()) == (*option.env, *option.old_env)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_is_valid_and_help_is_a_sentence(option: Option) -> None:
    """Operators can write a default down, and read what it means."""
    trait: Any = make_trait(option)
    assert trait.allow_none or trait.default() is not None
    assert option.help[0].isupper()
    assert option.help.endswith(".")


def test_class_has_the_options_of_its_name_and_its_parents() -> None:
    """A subclass inherits options; those of another class are no business of it."""

    class KernelRestarter(LoggingConfigurable, metaclass=HasOptions):
        debug = traitlets.Any()

    assert set(KernelRestarter.class_own_traits()) == {"debug", "restart_limit"}
    assert "cull_busy" in MappingKernelManager.class_own_traits(config=True)
    assert KernelSpecManager.class_traits()["whitelist"].metadata["renamed"] == (
        "allowed_kernelspecs"
    )


@pytest.mark.parametrize(
    ("takes", "default", "trait"),
    [
        (bool, True, traitlets.Bool),
        (int, 1, traitlets.Integer),
        (float, 1.0, traitlets.Float),
        (str, "a", traitlets.Unicode),
        (int | None, None, traitlets.Integer),
        (list[int], (1,), traitlets.List),
        (set[str], ("a",), traitlets.Set),
    ],
)
def test_type_decides_the_trait(takes: Any, default: object, trait: type) -> None:
    """The trait takes the default, and None only if the type does."""
    made = make_trait(Option(help="Help.", default=default, takes=takes, low=0))
    assert type(made) is trait
    assert made.allow_none == (default is None)
    assert getattr(made, "min", 0) == 0


def test_group_is_made_of_its_options() -> None:
    """Each field gets the parsed value of its option."""
    app = EnterpriseGatewayApp(max_output_bytes=7)
    limits = read_group(LimitSettings, {"EnterpriseGatewayApp": app})
    assert limits == LimitSettings(max_output_bytes=7)
