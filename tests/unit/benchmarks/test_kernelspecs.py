"""The kernelspecs of a run."""

import json
from pathlib import Path

from benchmarks import kernelspecs


def test_derived_kernelspec_differs_in_what_is_named(tmp_path: Path) -> None:
    """A kernelspec that preloads a module runs the same image."""
    jupyter_path = kernelspecs.write_kernelspecs(tmp_path)
    kernelspecs.derive_kernelspec(jupyter_path, "preloaded", {"preload": ["pandas"]})
    config, derived = (
        json.loads((jupyter_path / "kernels" / name / "kernel.json").read_text(encoding="utf-8"))[
            "metadata"
        ]["process_proxy"]["config"]
        for name in (kernelspecs.DOCKER, "preloaded")
    )
    assert derived == {**config, "preload": ["pandas"]}
