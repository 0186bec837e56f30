"""The range of a kernel's ports."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.port_range import resolve_port_range
from enterprise_gateway.settings import KernelSettings


def test_kernelspec_beats_the_settings() -> None:
    """`config.port_range` is nearer to the kernel than EG_PORT_RANGE."""
    settings = KernelSettings(port_range=(40000, 42000))
    assert resolve_port_range({}, settings) == "40000..42000"
    assert resolve_port_range({"port_range": "50000..52000"}, settings) == "50000..52000"
    assert resolve_port_range({"port_range": "0..0"}, settings) == "0..0"


@pytest.mark.parametrize(
    "stated", ["", "40000", "a..b", "40000..41000..42000", "80..2000", "40000..40100", "5..1", 7]
)
def test_unusable_range_is_the_operators_to_mend(stated: object) -> None:
    """Malformed, privileged, reversed and small ranges are refused in words."""
    with pytest.raises(ConfigurationError, match="ort range"):
        resolve_port_range({"port_range": stated}, KernelSettings())
