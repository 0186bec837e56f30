"""Kernelspecs as a site would change them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

END_OF_SETTINGS = "    return settings\n"


def add_setting(script: str, name: str, value: str) -> str:
    """Return a launch script with one more setting; `value` is an expression."""
    assert END_OF_SETTINGS in script
    return script.replace(END_OF_SETTINGS, f"    settings[{name!r}] = {value}\n{END_OF_SETTINGS}")


def derive_kernelspec(
    kernels: Path,
    source: str,
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Make a kernelspec of another one, with the same launch script and more metadata.

    Args:
        kernels: the folder that both are in.
        source: the other one's name.
        name: what it is called.
        config: what it has more in the config of its process proxy.
        metadata: what it has more in its metadata.
    """
    spec = json.loads((kernels / source / "kernel.json").read_text())
    spec["metadata"].update(metadata)
    proxy = spec["metadata"].setdefault("process_proxy", {})
    proxy["config"] = {**proxy.get("config", {}), **(config or {})}
    (kernels / name).mkdir()
    (kernels / name / "kernel.json").write_text(json.dumps(spec))
    (kernels / name / "scripts").symlink_to(kernels / source / "scripts")
