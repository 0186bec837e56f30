"""The kernel's processes: how one is started, signalled, and its end explained."""
