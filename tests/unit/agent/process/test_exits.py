"""Exit codes, signals and the end of the output."""

import pytest

from kernel_agent.process.child import OutputTail
from kernel_agent.process.exits import SharedMemory, explain_exit

MIB = 1024 * 1024


def test_exits_are_explained() -> None:
    """Codes, signals by name, and memory only with SIGKILL."""
    plain = explain_exit(3, out_of_memory=True, stderr="e")
    assert (plain.message, plain.exit_code, plain.signal) == (
        "the kernel exited with code 3",
        3,
        None,
    )
    assert not plain.out_of_memory
    killed = explain_exit(-9, out_of_memory=False, stderr="")
    assert (killed.message, killed.signal) == ("the kernel was killed by SIGKILL", "SIGKILL")
    memory = explain_exit(-9, out_of_memory=True, stderr="")
    assert memory.message.endswith("(out of memory)")
    limited = explain_exit(-9, out_of_memory=True, stderr="", memory_limit=2 * 1024**3)
    assert limited.message.endswith("(out of memory: the limit is 2 GiB)")
    half = explain_exit(-9, out_of_memory=True, stderr="", memory_limit=1536 * MIB)
    assert half.message.endswith("(out of memory: the limit is 1.5 GiB)")
    assert not explain_exit(-11, out_of_memory=True, stderr="").out_of_memory
    assert explain_exit(-60, out_of_memory=False, stderr="").signal == "signal 60"


@pytest.mark.parametrize(
    ("memory", "is_named"),
    [
        (SharedMemory(64 * MIB, 0), True),
        (SharedMemory(64 * MIB, 64 * MIB), True),  # what filled it is gone with the process
        (SharedMemory(1024 * MIB, 10 * MIB), True),
        (SharedMemory(1024 * MIB, 900 * MIB), False),
        (None, False),
    ],
)
def test_bus_error_names_shared_memory_if_it_is_scarce(
    memory: SharedMemory | None, *, is_named: bool
) -> None:
    """With its size, and how to have more; no other signal does."""
    bus = explain_exit(-7, out_of_memory=False, stderr="", shared_memory=memory)
    assert bus.message.startswith("the kernel was killed by SIGBUS")
    assert ("/dev/shm" in bus.message and "shm_size" in bus.message) is is_named
    assert memory is None or (f"{memory.size // MIB} MiB" in bus.message) is is_named
    fault = explain_exit(-11, out_of_memory=False, stderr="", shared_memory=memory)
    assert fault.message == "the kernel was killed by SIGSEGV"


def test_output_tail_keeps_the_end() -> None:
    """The last bytes, whatever their encoding."""
    tail = OutputTail(10)
    for chunk in (b"0123456789", b"abc", b"\xff"):
        tail.append(chunk)
    assert tail.read(10) == "456789abc�"
    assert tail.read(2) == "c�"
    assert tail.read(0) == ""
