"""Runs the notebooks' text sources and writes them with their outputs: python notebooks/execute.py [NAME …]

The sources (NN_name.py, percent format) are what is edited; NN_name.ipynb beside each is made from it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, with outputs, and nothing that differs from run to run."""
    notebook = jupytext.read(source)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    NotebookClient(notebook, timeout=600, record_timing=False).execute(cwd=str(HERE))
    notebook.metadata.pop("language_info", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    nbformat.validate(notebook)
    return notebook


if __name__ == "__main__":
    names = sys.argv[1:]
    for source in sorted(HERE.glob("[0-9][0-9]_*.py")):
        if not names or source.stem in names:
            nbformat.write(execute(source), source.with_suffix(".ipynb"))
