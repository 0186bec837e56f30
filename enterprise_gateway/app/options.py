"""The traits of options: of those that the settings declare, and of those that have no effect.

Metadata of a trait: `env` has the variables that set it, the preferred one first; `deprecated_env`
the deprecated ones of them; `renamed` the option that replaces a deprecated one; `ignored` the
reason why an option has no effect. Pure.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

import traitlets
from traitlets import MetaHasTraits, TraitType

from enterprise_gateway.settings import Settings
from enterprise_gateway.settings.option import Option, find_all_options

_Trait = TraitType[Any, Any]

_NUMBERS: Mapping[object, type[_Trait]] = {int: traitlets.Integer, float: traitlets.Float}
_SIMPLE: Mapping[object, type[_Trait]] = {
    bool: traitlets.Bool,
    str: traitlets.Unicode,
    **_NUMBERS,
}
_CONTAINERS: Mapping[object, type[_Trait]] = {list: traitlets.List, set: traitlets.Set}


class HasOptions(MetaHasTraits):
    """Gives each class the traits of the options that the settings declare under its name."""

    @classmethod
    def __prepare__(cls, name: str, _bases: tuple[type, ...], /, **_: Any) -> dict[str, object]:  # noqa: ANN401 - as its base takes them
        """Return the namespace in which the body of the class runs."""
        return dict(make_traits(name))


def make_traits(section: str) -> Mapping[str, _Trait]:
    """Return the traits of a class's options, by name, deprecated names included."""
    traits: dict[str, _Trait] = {}
    for _, option in find_all_options(Settings):
        if option.section == section:
            traits[option.name] = make_trait(option)
            if option.old_name:
                traits[option.old_name] = make_deprecated_trait(option)
    return traits


def make_trait(option: Option) -> _Trait:
    """Make the trait of an option."""
    trait = _make(option, default_value=option.default, help=option.help)
    names = (*option.env, *option.old_env)
    if names:
        trait.tag(env=names, deprecated_env=option.old_env)
    return trait.tag(config=True, default_text=option.default_text)


def make_deprecated_trait(option: Option) -> _Trait:
    """Make the trait of an option's old name."""
    trait = _make(option, help=f"Deprecated: use `{option.name}`.")
    return trait.tag(config=True, renamed=option.name)


def ignored(reason: str, env: tuple[str, ...] = ()) -> _Trait:
    """Make the trait of an option that Enterprise Gateway or jupyter_client has, without effect.

    Args:
        reason: why it has none here.
        env: variables that set it in Enterprise Gateway.
    """
    trait = traitlets.Any(help=f"Ignored: {reason}.").tag(config=True, ignored=reason)
    return trait.tag(env=env) if env else trait


def _make(option: Option, **common: Any) -> _Trait:  # noqa: ANN401 - any argument of a trait
    """Make a trait of the type that an option takes."""
    kind, arguments = get_origin(option.takes) or option.takes, get_args(option.takes)
    if option.casts:
        return traitlets.CBool(**common)
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](_SIMPLE[arguments[0]](), **common)
    if kind is UnionType:
        kind, common["allow_none"] = arguments[0], True
    if kind in _NUMBERS:
        bounds = {"min": option.low, "max": option.high}
        common |= {name: bound for name, bound in bounds.items() if bound is not None}
    return _SIMPLE[kind](**common)
