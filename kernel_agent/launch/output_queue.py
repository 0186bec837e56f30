"""Code by which a running kernel keeps more output for an agent that is slow to read it. Pure.

A kernel publishes its output on a ZeroMQ socket that drops what comes while a thousand messages
wait in it (ZMQ_SNDHWM of zmq_setsockopt(3)). On a machine that is busy with other things a loop
that prints is that far ahead within a fraction of a second.

The code is one expression without a value that never fails, so that a silent request leaves no
trace of it.
"""

from __future__ import annotations

from typing import Any, Mapping

QUEUED_MESSAGES = 4_000
"""Of these it keeps half at least, since ZeroMQ counts in steps of a half what has left the queue.

No loss was seen with so many, with eight times as many processes as cores. Short messages take 6 MB
then. There is a limit, since large ones may wait as well."""

_IPYKERNEL = f"""\
try:
    import zmq
    from IPython import get_ipython
    thread = get_ipython().kernel.iopub_thread
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, {QUEUED_MESSAGES}))
except Exception:
    pass
"""

_CODE = {
    "ipython": f"exec({_IPYKERNEL!r}, {{}})",
    # the function that runs the kernel is among the callers of every cell
    "IRkernel": (
        "invisible(base::local(base::tryCatch(for (frame in base::sys.frames()) "
        'if (base::exists("kernel", frame, inherits = FALSE)) '
        "pbdZMQ::zmq.setsockopt(frame$kernel$sockets$iopub, pbdZMQ::ZMQ.SO()$SNDHWM, "
        f"{QUEUED_MESSAGES}L), error = function(e) NULL)))"
    ),
}


def queue_code(kernel_info: Mapping[str, Any]) -> str:
    """Return the code, "" for kernels that have none.

    Args:
        kernel_info: content of the kernel's kernel_info reply.
    """
    return _CODE.get(str(kernel_info.get("implementation")), "")
