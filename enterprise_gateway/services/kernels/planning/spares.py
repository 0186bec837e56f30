"""Whether a kernel has a spare for its restarts, and what that imports. Pure."""

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.kernelspecs.kernelspec import Kernelspec
from enterprise_gateway.settings import KernelSettings

MAX_MODULES = 32
MAX_NAME_CHARACTERS = 200


def effective_spare(settings: KernelSettings, spec: Kernelspec) -> dict[str, object]:
    """Return the settings of spares for the agent of a kernel.

    Raises:
        ConfigurationError: a value in the kernelspec's `config` is wrong.
    """
    where = f"in metadata.process_proxy.config of kernelspec {spec.name}"
    is_wanted = spec.proxy_config.get("restart_spare", settings.restart_spare)
    if not isinstance(is_wanted, bool):
        raise ConfigurationError(f"restart_spare {where} must be true or false.")
    preload = spec.proxy_config.get("preload", [])
    is_list = isinstance(preload, list) and len(preload) <= MAX_MODULES
    if not is_list or not all(_is_module_name(name) for name in preload):
        raise ConfigurationError(
            f"preload {where} must be a list of at most {MAX_MODULES} names of Python modules, "
            'such as ["numpy", "matplotlib.pyplot"].'
        )
    return {"restart_spare": is_wanted, "preload": preload}


def _is_module_name(name: object) -> bool:
    is_short = isinstance(name, str) and len(name) <= MAX_NAME_CHARACTERS
    return is_short and all(part.isidentifier() for part in str(name).split("."))
