"""Notebook files, before and after a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat

NO_TAGS: Mapping[int, str] = MappingProxyType({})


def write_notebook(
    path: Path,
    kernel_name: str,
    cells: Sequence[str],
    *,
    language: str = "python",
    tags: Mapping[int, str] = NO_TAGS,
) -> None:
    """Write a notebook with code cells for a kernel; `tags` are cells' tags by their numbers."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {
        "name": kernel_name,
        "display_name": kernel_name,
        "language": language,
    }
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    for number, tag in tags.items():
        notebook.cells[number].metadata["tags"] = [tag]
    nbformat.write(notebook, path)


def read_outputs(path: Path) -> list[list[dict[str, Any]]]:
    """Return each code cell's outputs."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.outputs for cell in notebook.cells]


def printed(outputs: Sequence[Mapping[str, Any]], name: str = "stdout") -> str:
    """Return what a cell printed: a kernel may send a line in several pieces."""
    return "".join(output["text"] for output in outputs if output.get("name") == name)
