"""Whole notebooks in each language, run as docs/clients.md shows it."""

from pathlib import Path

import pytest
from harness.clients.languages import Language
from harness.clients.notebooks import printed, read_outputs, write_notebook
from harness.clients.snippets import run_snippet
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.docker, pytest.mark.kernel, pytest.mark.client]


def test_papermill_runs_a_notebook(gateway: Gateway, language: Language, tmp_path: Path) -> None:
    """With parameters in the language's own words, output, a value and a plot; its kernel goes."""
    write_notebook(
        tmp_path / "notebook.ipynb",
        language.kernel,
        [language.parameters, language.use, language.value.code, language.plot],
        language=language.name,
        tags={0: "parameters"},
    )
    run = run_snippet(
        gateway,
        "python",
        "papermill",
        cwd=tmp_path,
        kernel_name=language.kernel,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    # papermill puts a cell with the given parameters after the tagged one
    *_, used, value, plot = read_outputs(tmp_path / "executed.ipynb")
    assert printed(used).split() == ["Ada", "3"]
    assert value[0]["data"]["text/plain"] == language.value.shows
    assert any("image/png" in output.get("data", {}) for output in plot)
    gateway.wait_until_no_kernels()
