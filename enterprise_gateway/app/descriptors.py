"""How many files and connections the process may have open."""

import resource


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one.

    Each WebSocket takes two descriptors, and the usual soft limit of 1024 is meant for programs
    that call select(2). An unlimited one is left alone: local kernels inherit it, and programs that
    close every descriptor they might have would take minutes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
