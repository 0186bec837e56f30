"""The code by which a kernel keeps more output; test_channels.py has its effect."""

import pytest

from kernel_agent.launch.output_queue import queue_code


def test_python_has_no_value_and_never_fails() -> None:
    """As here, where no kernel runs; no name is left."""
    names: dict[str, object] = {}
    exec(f"value = {queue_code({'implementation': 'ipython'})}", names)  # noqa: S102  # as a kernel does
    del names["__builtins__"]
    assert names == {"value": None}


@pytest.mark.parametrize("implementation", ["Apache Toree", "xpython", "", None, ["ipython"]])
def test_kernels_that_are_not_known_are_asked_nothing(implementation: object) -> None:
    """Whatever they say that they are."""
    assert queue_code({"implementation": implementation}) == ""
    assert queue_code({}) == ""
