"""Templates in a kernelspec's argv."""

import sys

from enterprise_gateway.services.processproxies.argv import format_argv


def test_template_is_replaced_wherever_it_stands() -> None:
    """`{name}` is replaced within a word, too, and more than once."""
    argv = ["run", "{resource_dir}/x/{kernel_id}", "--id={kernel_id}"]
    values = {"resource_dir": "/k", "kernel_id": "7"}
    assert format_argv(argv, values) == ["run", "/k/x/7", "--id=7"]


def test_unknown_template_stays() -> None:
    """A word in braces that nobody knows is the launch script's own business."""
    assert format_argv(["x", "{what}", "{}", "{not one}"], {}) == ["x", "{what}", "{}", "{not one}"]


def test_value_is_not_taken_for_a_template() -> None:
    """What was put in is not looked at again."""
    assert format_argv(["x", "{a}"], {"a": "{b}", "b": "c"}) == ["x", "{b}"]


def test_python_is_the_gateways_interpreter() -> None:
    """A bare `python` in first place only is replaced."""
    assert format_argv(["python", "python"], {}) == [sys.executable, "python"]
    assert format_argv(["/usr/bin/python"], {}) == ["/usr/bin/python"]
