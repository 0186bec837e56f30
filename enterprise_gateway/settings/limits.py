"""Limits of the traffic between a kernel and its clients."""

from dataclasses import dataclass

from enterprise_gateway.settings.option import option


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How much may pass between a kernel and its clients.

    Each field is also a setting of the agent, in EG_AGENT_SETTINGS; a kernelspec's metadata may set
    another value.
    """

    log_memory_bytes: int = option(
        "Bytes of a kernel's newest messages that its agent keeps in memory; at most a 16th of the"
        " memory of its container.",
        default=64 * 1024 * 1024,
        low=1024 * 1024,
        env=("EG_LOG_MEMORY_BYTES",),
    )
    log_spill_bytes: int = option(
        "Bytes of older messages that it keeps on the disk of its container; 0: none.",
        default=1024 * 1024 * 1024,
        low=0,
        env=("EG_LOG_SPILL_BYTES",),
    )
    log_max_age: float = option(
        "Seconds for which it keeps output.",
        default=24 * 3600.0,
        low=0.0,
        env=("EG_LOG_MAX_AGE",),
    )
    max_message_bytes: int = option(
        "Largest message accepted from a client, in bytes; a larger one closes its connection.",
        default=512 * 1024 * 1024,
        low=64 * 1024,
        env=("EG_MAX_MESSAGE_BYTES",),
    )
    """A larger message closes the connection with code 1009."""
    max_output_bytes: int = option(
        "Largest message sent to clients, in bytes; a notice replaces a larger one. 0: as large as"
        " each client accepts.",
        default=0,
        low=0,
        env=("EG_MAX_OUTPUT_BYTES",),
    )
    iopub_data_rate_limit: float = option(
        "Bytes per second that a kernel may print; more is dropped, and its clients are told. 0: no"
        " limit.",
        default=0.0,
        low=0.0,
        env=("EG_IOPUB_DATA_RATE_LIMIT",),
    )
    """Of `stream` messages."""
    iopub_msg_rate_limit: float = option(
        "Messages per second that a kernel may publish; more are dropped, and its clients are told."
        " 0: no limit.",
        default=0.0,
        low=0.0,
        env=("EG_IOPUB_MSG_RATE_LIMIT",),
    )
