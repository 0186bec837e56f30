"""A kernelspec's argv and port range."""

import sys

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.launch.kernelspec import (
    format_argv,
    resolve_port_range,
)
from enterprise_gateway.settings import KernelSettings


def test_template_is_replaced_wherever_it_stands() -> None:
    """`{name}` is replaced within a word, too, and more than once."""
    argv = ["run", "{resource_dir}/x/{kernel_id}", "--id={kernel_id}"]
    values = {"resource_dir": "/k", "kernel_id": "7"}
    assert format_argv(argv, values) == ["run", "/k/x/7", "--id=7"]


def test_unknown_template_stays() -> None:
    """A launch script may have words in braces of its own."""
    assert format_argv(["x", "{what}", "{}", "{not one}"], {}) == ["x", "{what}", "{}", "{not one}"]


def test_value_is_not_taken_for_a_template() -> None:
    """A replaced value is not a template itself."""
    assert format_argv(["x", "{a}"], {"a": "{b}", "b": "c"}) == ["x", "{b}"]


def test_python_is_the_gateways_interpreter() -> None:
    """A bare `python` in first place only is replaced."""
    assert format_argv(["python", "python"], {}) == [sys.executable, "python"]
    assert format_argv(["/usr/bin/python"], {}) == ["/usr/bin/python"]


def test_kernelspec_beats_the_settings() -> None:
    """`config.port_range` beats EG_PORT_RANGE."""
    settings = KernelSettings(port_range=(40000, 42000))
    assert resolve_port_range({}, settings) == "40000..42000"
    assert resolve_port_range({"port_range": "50000..52000"}, settings) == "50000..52000"
    assert resolve_port_range({"port_range": "0..0"}, settings) == "0..0"


@pytest.mark.parametrize(
    "stated", ["", "40000", "a..b", "40000..41000..42000", "80..2000", "40000..40100", "5..1", 7]
)
def test_unusable_range_is_the_operators_to_mend(stated: object) -> None:
    """Malformed, privileged, reversed and small ranges are refused with a message."""
    with pytest.raises(ConfigurationError, match="ort range"):
        resolve_port_range({"port_range": stated}, KernelSettings())
