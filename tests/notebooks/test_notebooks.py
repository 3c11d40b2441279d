"""Every notebook runs from top to bottom, and is kept without what its last run left behind.

A notebook's claims are asserts in its own cells: one that fails ends the run, and the test says which and why.
Needs nbclient and ipykernel; without them this fails rather than skips, so that no notebook goes untested in silence.
"""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebooks/*.ipynb beside tests/"


@each_notebook
def test_runs_from_top_to_bottom(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}  # what a cell writes does not land in the repository
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@each_notebook
def test_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells need ids"
    assert notebook.metadata.kernelspec.name == "python3"
    left = [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert not left, f"clear the outputs of {path.name} before committing: cells {left} have some"
