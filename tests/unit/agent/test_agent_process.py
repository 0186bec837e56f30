"""Exit codes, signals and last words."""

from kernel_agent.process import OutputTail, explain_exit


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
    assert not explain_exit(-11, out_of_memory=True, stderr="").out_of_memory
    assert explain_exit(-60, out_of_memory=False, stderr="").signal == "signal 60"


def test_output_tail_keeps_the_end() -> None:
    """The last bytes, whatever their encoding."""
    tail = OutputTail(10)
    for chunk in (b"0123456789", b"abc", b"\xff"):
        tail.append(chunk)
    assert tail.read(10) == "456789abc�"
    assert tail.read(2) == "c�"
    assert tail.read(0) == ""
