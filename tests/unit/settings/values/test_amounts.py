"""Amounts of resources, as people write and read them."""

import pytest

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings.resources import (
    parse_amounts,
    parse_maximum,
    parse_quotas,
    parse_sizes,
)
from enterprise_gateway.settings.values.amounts import (
    Amounts,
    describe_amount,
    read_amount,
    read_amounts,
)

MIB = 1024**2


@pytest.mark.parametrize(
    ("field", "written", "amount"),
    [
        ("nano_cpus", "2", 2_000_000_000),
        ("nano_cpus", 1.5, 1_500_000_000),
        ("nano_cpus", "0.01", 10_000_000),
        ("nano_cpus", "1500m", 1_500_000_000),
        ("memory", 8 * MIB, 8 * MIB),
        ("memory", "512m", 512 * MIB),
        ("memory", "512MB", 512 * MIB),
        ("memory", "2Gi", 2048 * MIB),
        ("memory", "2GiB", 2048 * MIB),
        ("memory", " 1t ", MIB * MIB),
        ("shm_size", "1", 1),
        ("pids", "100", 100),
        ("gpus", 0, 0),
        ("kernels", "0", 0),
    ],
)
def test_amounts_are_read_in_the_forms_of_docker_and_kubernetes(
    field: str, written: object, amount: int
) -> None:
    """Numbers as well as texts."""
    assert read_amount(field, written) == amount


@pytest.mark.parametrize(
    ("field", "written", "words"),
    [
        ("nano_cpus", "0", "0.01"),
        ("nano_cpus", "0.001", "0.01"),
        ("nano_cpus", "-1", "number of CPUs"),
        ("nano_cpus", "1e3", "number of CPUs"),
        ("nano_cpus", "many", "'many'"),
        ("nano_cpus", True, "True"),
        ("nano_cpus", "\u0661", "number of CPUs"),
        ("memory", "1m", "from 6 MiB on"),
        ("memory", "1.5g", "512m"),
        ("memory", "9999999t", "number of bytes"),
        ("memory", "", "number of bytes"),
        ("memory", None, "None"),
        ("memory", "2g\n3", "number of bytes"),
        ("shm_size", "0", "number of bytes"),
        ("pids", "0", "from 1 on"),
        ("pids", "99999999", "whole number"),
        ("gpus", "all", "whole number"),
        ("gpus", "-1", "from 0 on"),
        ("gpus", "1.5", "whole number"),
    ],
)
def test_what_is_no_amount_is_said(field: str, written: object, words: str) -> None:
    """With what stood there and what may."""
    with pytest.raises(ValueError, match="must be") as error:
        read_amount(field, written)
    assert words in str(error.value)


def test_amounts_are_stated_by_name() -> None:
    """An unknown name is no small thing: a misspelt limit would not hold."""
    assert read_amounts({"cpus": 1, "reserved_memory": "1g"}) == Amounts(
        nano_cpus=1_000_000_000, reserved_memory=1024 * MIB
    )
    with pytest.raises(ValueError, match="'mem' is none of cpus, memory"):
        read_amounts({"mem": "2g"})


def test_amounts_are_laid_over_others() -> None:
    """What is not stated stays."""
    assert Amounts(memory=1, gpus=0).over(Amounts(memory=2, pids=3, gpus=4)) == Amounts(
        memory=1, pids=3, gpus=0
    )


@pytest.mark.parametrize(
    ("field", "amount", "text"),
    [
        ("nano_cpus", 1_000_000_000, "1 CPU"),
        ("nano_cpus", 1_500_000_000, "1.5 CPUs"),
        ("nano_cpus", 10_000_000_000, "10 CPUs"),
        ("memory", 2048 * MIB, "2 GiB of memory"),
        ("memory", 300 * MIB, "300 MiB of memory"),
        ("memory", 1536 * MIB, "1.5 GiB of memory"),
        ("shm_size", 1000, "1000 bytes of shared memory"),
        ("gpus", 1, "1 GPU"),
        ("kernels", 3, "3 kernels"),
    ],
)
def test_amounts_are_told_in_the_largest_unit(field: str, amount: int, text: str) -> None:
    """As one would say them."""
    assert describe_amount(field, amount) == text


@pytest.mark.parametrize("text", ["memory", "memory=", "memory=2g memory=3g", "mem=2g", "cpus=x"])
def test_option_with_a_fault_is_named(text: str) -> None:
    """A configuration that cannot be read ends the start."""
    with pytest.raises(ConfigurationError, match=r"max_resources '"):
        parse_amounts("max_resources", text)


def test_maximum_is_of_what_requests_ask_for() -> None:
    """Nothing else that stands there would have an effect."""
    with pytest.raises(ConfigurationError, match=r"max_resources 'pids=5 .* cpus, memory"):
        parse_maximum("max_resources", "pids=5 memory=1g")


@pytest.mark.parametrize("text", ["small", ": cpus=1", "small: cpu=1", "small cpus=1"])
def test_named_amounts_with_a_fault_are_named(text: str) -> None:
    """Sizes and quotas alike."""
    with pytest.raises(ConfigurationError, match="kernel_sizes '"):
        parse_sizes("kernel_sizes", [text])
    with pytest.raises(ConfigurationError, match="user_quotas '"):
        parse_quotas("user_quotas", [text.replace("small", "ann"), "pids: pids=1"])
