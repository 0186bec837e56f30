"""The agent's settings: environment and command line, read once and frozen.

The names and defaults are those of docs/agent-interface.md, section 1. Only the entry points read
the environment; they pass it on.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from kernel_agent.launch.command import (
    Attachment,
    BootstrapScript,
    Command,
    Kernel,
    read_attachment,
)

OWN_VARIABLES = ("RESPONSE_ADDRESS", "PUBLIC_KEY", "PORT_RANGE")
OWN_PREFIX = "EG_AGENT_"
TEMPORARY_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # the agent makes a private folder


class SettingsError(ValueError):
    """A variable or argument is missing or malformed; the text names it, never its value."""


class CullingSettings(NamedTuple):
    """When the agent ends an idle kernel."""

    cull_idle_timeout: float = 0.0
    cull_interval: float = 300.0
    cull_connected: bool = False
    cull_busy: bool = False
    cull_gpu_idle_timeout: float = 0.0


class AgentSettings(NamedTuple):
    """All settings of one agent. Durations are seconds.

    Attributes:
        kernel: what to run; None if the agent has to find it in the image (`launch.image`).
        certificate: base64 of the PEM of a private key and its certificate; "": no TLS.
        folders: candidates for the parent of the agent's private folder; the first writable one.
        program_path: folders in which programs of the image are looked for, as in `PATH`.
        notice: a sentence for the user about how the kernel was started, "" if all is as requested.
    """

    kernel_id: str
    username: str
    token: str
    listen: str
    response_address: str
    public_key: str
    port_range: Tuple[int, int]
    kernel: Optional[Kernel]
    folders: Tuple[str, ...] = TEMPORARY_FOLDERS
    certificate: str = ""
    program_path: str = os.defpath
    notice: str = ""
    kernel_name: str = ""
    language: str = ""
    interrupt_by_message: bool = False
    interrupt_signal: int = signal.SIGINT
    autorestart: bool = True
    restart_limit: int = 5
    restart_spare: bool = False
    preload: Tuple[str, ...] = ()
    shutdown_wait_time: float = 5.0
    launch_timeout: float = 60.0
    report_timeout: float = 30.0
    claim_timeout: float = 0.0
    pool_ttl: float = 0.0
    culling: CullingSettings = CullingSettings()
    max_kernel_age: float = 0.0
    max_kernel_age_warning: float = 300.0
    log_memory_bytes: int = 64 * 1024 * 1024
    log_spill_bytes: int = 1024 * 1024 * 1024
    log_max_age: float = 24 * 3600.0
    ping_interval: float = 30.0
    max_message_bytes: int = 512 * 1024 * 1024
    max_output_bytes: int = 0
    allowed_message_types: Tuple[str, ...] = ()
    allow_tracebacks: bool = True
    traceback_replacement_message: str = (
        "An exception occurred at runtime, which is not shown due to security reasons."
    )
    iopub_data_rate_limit: float = 0.0
    iopub_msg_rate_limit: float = 0.0
    output_file_max_bytes: int = 0


def read_settings(environ: Mapping[str, str], argv: List[str]) -> AgentSettings:
    """Build the settings from the environment and the arguments.

    Raises:
        SettingsError: a required variable is missing or malformed.
    """
    kernel = _read_arguments(argv, environ)
    token = environ.get("EG_AGENT_TOKEN", "")
    if not token:
        raise SettingsError("EG_AGENT_TOKEN is not set")
    given = _read_object(environ.get("EG_AGENT_SETTINGS") or "{}")
    mode = given.pop("interrupt_mode", "signal")
    if mode not in ("signal", "message"):
        raise SettingsError("EG_AGENT_SETTINGS: interrupt_mode is neither signal nor message")
    signal_name = given.pop("interrupt_signal", "SIGINT")
    culling = {key: given.pop(key) for key in CullingSettings._fields if key in given}
    kernel_argv = _convert("kernel_argv", given.pop("kernel_argv", []), ())
    if kernel_argv and not isinstance(kernel, Attachment):
        kernel = Command(kernel_argv)
    settings = AgentSettings(
        kernel_id=environ.get("KERNEL_ID", ""),
        username=environ.get("KERNEL_USERNAME", ""),
        token=token,
        listen=environ.get("EG_AGENT_LISTEN") or "tcp:0.0.0.0:8898",
        response_address=environ.get("RESPONSE_ADDRESS", ""),
        public_key=environ.get("PUBLIC_KEY", ""),
        certificate=environ.get("EG_AGENT_CERTIFICATE", ""),
        program_path=environ.get("PATH") or os.defpath,
        port_range=_read_port_range(environ.get("PORT_RANGE") or "0..0"),
        kernel=kernel,
        folders=_read_folders(environ),
        interrupt_by_message=mode == "message",
        interrupt_signal=read_signal(signal_name),
        culling=change_culling(CullingSettings(), culling),
    )
    return settings._replace(**_typed(given, settings))


def change_culling(culling: CullingSettings, changes: Mapping[str, object]) -> CullingSettings:
    """Return the culling settings with some of them replaced.

    Raises:
        SettingsError: a key is unknown or a value has the wrong type.
    """
    if not all(key in CullingSettings._fields for key in changes):
        raise SettingsError("unknown culling setting")
    return culling._replace(**_typed(changes, culling))


def read_signal(value: object) -> int:
    """Return the number of a signal given by number, decimal string or name (`SIGUSR2` or `USR2`).

    Numbers may be those of real-time signals, most of which have no name.

    Raises:
        SettingsError: there is no such signal.
    """
    try:
        if isinstance(value, str) and not value.isdigit():
            return signal.Signals["SIG" + value.upper().replace("SIG", "", 1)].value
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            number = int(value)
            if number in signal.valid_signals():
                return number
    except (KeyError, ValueError) as exc:
        raise SettingsError("no such signal") from exc
    raise SettingsError("no such signal")


def kernel_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment without the variables that are meant for the agent alone."""
    return {
        name: value
        for name, value in environ.items()
        if name not in OWN_VARIABLES and not name.startswith(OWN_PREFIX)
    }


def _read_arguments(argv: List[str], environ: Mapping[str, str]) -> Optional[Kernel]:
    """Return the kernel that the arguments name; None if they name none."""
    if not argv:
        return None
    if argv[0] == "--" and len(argv) > 1:
        return Command(tuple(argv[1:]))
    if argv[0] == "--bootstrap" and len(argv) == 2:
        return BootstrapScript(argv[1])
    if argv == ["--attach"]:
        return read_attachment(environ.get("EG_AGENT_ATTACH", ""))
    raise SettingsError(
        "usage: python3 -m kernel_agent [-- KERNEL_COMMAND... | --bootstrap FILE | --attach]"
    )


def _read_object(text: str) -> Dict[str, object]:
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise SettingsError("EG_AGENT_SETTINGS is not JSON") from exc
    if not isinstance(document, dict):
        raise SettingsError("EG_AGENT_SETTINGS is not a JSON object")
    return document


def _read_folders(environ: Mapping[str, str]) -> Tuple[str, ...]:
    folder = environ.get("EG_AGENT_FOLDER")
    if folder:
        return (folder,)
    folder = environ.get("TMPDIR")
    return (folder, *TEMPORARY_FOLDERS) if folder else TEMPORARY_FOLDERS


def _read_port_range(text: str) -> Tuple[int, int]:
    low, dots, high = text.partition("..")
    if not (dots and low.isdecimal() and high.isdecimal() and int(low) <= int(high) <= 65535):
        raise SettingsError("PORT_RANGE is not of the form lo..hi")
    return int(low), int(high)


def _typed(given: Mapping[str, object], defaults: NamedTuple) -> Dict[str, Any]:
    """Return the known keys of `given`, converted to the type of their default."""
    known = defaults._asdict()
    launch_only = set(AgentSettings._fields[: AgentSettings._fields.index("kernel_name")])
    result: Dict[str, Any] = {}
    for key, value in given.items():
        if key not in known or key in launch_only:
            continue
        result[key] = _convert(key, value, known[key])
    return result


def _convert(key: str, value: object, default: object) -> Any:  # noqa: ANN401  # as the default's
    if isinstance(default, bool) or isinstance(value, bool):
        converted: Optional[object] = value if type(value) is type(default) else None
    elif isinstance(default, float):
        converted = float(value) if isinstance(value, (int, float)) and value >= 0 else None
    elif isinstance(default, int):
        converted = int(value) if isinstance(value, (int, float)) and value >= 0 else None
    elif isinstance(default, tuple):
        is_strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        converted = tuple(value) if isinstance(value, list) and is_strings else None
    else:
        converted = value if isinstance(value, str) else None
    if converted is None:
        raise SettingsError(f"setting {key} has the wrong type")
    return converted
