"""What a kernelspec's config may say."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.config import ProxyConfig, read_config

RIGHT = {
    "argv": ["ir", "{connection_file}"],
    "authorized_users": "ann,bob",
    "claim_timeout": 3,
    "entrypoint": "none",
    "image_name": "team/image:1",
    "placement": {"constraints": ["node.role == worker"]},
    "pool_env": ["KERNEL_PROJECT"],
    "pool_process_env": ["KERNEL_LICENSE"],
    "pool_size": 4,
    "preload": ["numpy", "matplotlib.pyplot"],
    "pull_policy": "always",
    "restart_spare": False,
    "resources": {"cpus": 2},
    "size": "small",
    "sizes": {"small": {"memory": "2g"}},
    "unauthorized_users": ["eve"],
}


def test_each_key_is_read() -> None:
    """Keys of launch scripts and other process proxies may stand beside them."""
    assert RIGHT.keys() == set(ProxyConfig.__struct_fields__)
    config = read_config({**RIGHT, "a_sites_own": object()}, "py")
    assert (config.pool_size, config.preload) == (4, ("numpy", "matplotlib.pyplot"))


def test_null_is_as_if_the_key_were_not_there() -> None:
    """Where a key without a value says nothing else."""
    assert read_config({"pool_size": None, "image_name": None}, "py") == read_config({}, "py")


@pytest.mark.parametrize("key", RIGHT)
def test_wrong_value_is_told(key: str) -> None:
    """With the key, the kernelspec, what it must be and what it is."""
    where = f"{key} in metadata.process_proxy.config of kernelspec py must be "
    with pytest.raises(ConfigurationError, match=where) as raised:
        read_config({**RIGHT, key: [{"no": "such thing"}]}, "py")
    assert str(raised.value).endswith(", but is [{'no': 'such thing'}].")
